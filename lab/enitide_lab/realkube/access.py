"""Credentials with exactly the rights that the chart grants: tokens of its service accounts, and a node's own user.

An agent's token is bound to its Node, as kubelet's tokens for pods are: the API server then writes the node's name into
the token, and the chart's admission policy compares that claim with the object written. A token dies with its Node.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enitide_lab.realkube.control_plane import wait_for
from enitide_lab.realkube.pki import Pair, certificate_request
from enitide_lab.realkube.rest import Rest

TOKEN_LIFETIME_S = 7 * 24 * 3600  # a lab may stay up for days, and nothing renews its tokens
NODE_CLAIM = "authentication.kubernetes.io/node-name"
NODES_GROUP = "system:nodes"
_REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_REQUEST_TYPE = {"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest"}
_SIGNED_WITHIN_S = 30.0


def account_token(admin: Rest, namespace: str, account: str, *, node: str = "") -> str:
    """A token of the service account, bound to Node `node` if given. `KubeNotFound` if either does not exist."""
    spec: dict[str, Any] = {"expirationSeconds": TOKEN_LIFETIME_S}
    if node:
        uid = admin.get(f"/api/v1/nodes/{node}")["metadata"]["uid"]
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    reply = admin.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)
    token: str = reply["status"]["token"]
    return token


def node_certificate(admin: Rest, directory: Path, node: str) -> Pair:
    """A certificate of Node `node`'s own user, signed by the cluster as it signs that of a kubelet that joins."""
    pair, request = certificate_request(directory, f"kubelet-{node}", f"system:node:{node}", (NODES_GROUP,))
    name = f"enitide-{node}-{secrets.token_hex(4)}"
    spec = {
        "request": base64.b64encode(request).decode(),
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"],
    }
    admin.call("POST", _REQUESTS, {**_REQUEST_TYPE, "metadata": {"name": name}, "spec": spec})
    approved = {"type": "Approved", "status": "True", "reason": "Lab", "message": "a node of the enitide lab"}
    admin.call("PATCH", f"{_REQUESTS}/{name}/approval", {"status": {"conditions": [approved]}}, Rest.MERGE_PATCH)

    def signed() -> str:
        answer: str = admin.get(f"{_REQUESTS}/{name}").get("status", {}).get("certificate", "")
        return answer

    wait_for(lambda: bool(signed()), _SIGNED_WITHIN_S, f"the cluster does not sign the certificate of node {node}")
    pair.certificate.write_bytes(base64.b64decode(signed()))
    admin.call("DELETE", f"{_REQUESTS}/{name}")
    return pair


def may(rest: Rest, attributes: Mapping[str, str]) -> bool:
    """Whether the caller of `rest` may do it: `attributes` as in `resourceAttributes` (verb, group, resource, …)."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": dict(attributes)},
    }
    status = rest.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)["status"]
    return bool(status["allowed"])
