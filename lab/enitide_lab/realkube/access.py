"""Credentials with exactly the rights that the chart grants: tokens of its service accounts, and a node's own user.

An agent's token is bound to its Node, as kubelet's tokens for pods are: the API server then writes the node's name into
the token, and the chart's admission policy compares that claim with the object written. A token dies with its Node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enitide_lab.realkube.rest import Rest

TOKEN_LIFETIME_S = 7 * 24 * 3600  # a lab may stay up for days, and nothing renews its tokens
NODE_CLAIM = "authentication.kubernetes.io/node-name"
NODES_GROUP = "system:nodes"


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


def may(rest: Rest, attributes: Mapping[str, str]) -> bool:
    """Whether the caller of `rest` may do it: `attributes` as in `resourceAttributes` (verb, group, resource, …)."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": dict(attributes)},
    }
    status = rest.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)["status"]
    return bool(status["allowed"])
