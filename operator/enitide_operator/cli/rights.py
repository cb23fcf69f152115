"""Which rights the operator needs at the API server, and whether whoever asks has them.

The table says what charts/enitide grants; a test holds both together. `SelfSubjectAccessReview` speaks of the caller,
`SubjectAccessReview` of a named service account, which needs the right to ask about others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from enitide_api.errors import KubeError
from enitide_kube.port import Kind, KubePort
from enitide_operator.cli.checks import FAILING, OK, UNCHECKED, Check

_SELF = Kind("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False)
_OTHER = Kind("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False)
_DO = "compare the ClusterRole enitide-operator with charts/enitide"


@dataclass(frozen=True, slots=True)
class Right:
    """One resource (or `resource/subresource`) with the verbs that are used. `leased`: in the Lease's namespace."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    leased: bool = False


RIGHTS = (
    Right("", "nodes", ("get", "list", "watch")),
    Right("", "pods", ("list", "watch")),
    Right("enitide.io", "eninodes", ("get", "list", "watch", "delete")),
    Right("enitide.io", "eniclasses", ("get", "list", "watch")),
    Right("enitide.io", "eninodes/status", ("patch",)),
    Right("enitide.io", "eniclasses/status", ("patch",)),
    Right("enitide.io", "subnetreports", ("list", "create", "patch", "delete")),
    Right("enitide.io", "subnetreports/status", ("patch",)),
    Right("events.k8s.io", "events", ("create", "patch")),
    Right("coordination.k8s.io", "leases", ("create", "get", "patch"), leased=True),
)
TAINTING = Right("", "nodes", ("patch",))


async def rights_checks(
    kube: KubePort, lease: tuple[str, str], *, account: str = "", taint_nodes: bool = False
) -> list[Check]:
    """One check for each resource that lacks a verb, one line for those that are whole. `account`: NAMESPACE/NAME."""
    whose = f"service account {account}" if account else "whoever runs this"
    whole = 0
    checks: list[Check] = []
    for right in (*RIGHTS, *((TAINTING,) if taint_nodes else ())):
        missing: list[str] = []
        for verb in right.verbs:
            try:
                if not await _may(kube, right, verb, lease, account):
                    missing.append(verb)
            except KubeError as error:
                return [*checks, Check("rights", whose, UNCHECKED, f"access cannot be reviewed: {error}")]
        if missing:
            checks.append(Check("rights", right.resource, FAILING, f"{whose} may not {', '.join(missing)}", _DO))
        else:
            whole += 1
    return [*([Check("rights", f"{whole} resources", OK, f"{whose} has every verb")] if whole else []), *checks]


async def _may(kube: KubePort, right: Right, verb: str, lease: tuple[str, str], account: str) -> bool:
    resource, _, subresource = right.resource.partition("/")
    asked = {"group": right.group, "resource": resource, "subresource": subresource, "verb": verb}
    if right.leased:
        asked |= {"namespace": lease[0]} | ({"name": lease[1]} if verb != "create" else {})
    spec: dict[str, Any] = {"resourceAttributes": {key: value for key, value in asked.items() if value}}
    kind = _SELF
    if account:
        namespace, _, name = account.partition("/")
        kind, spec["user"] = _OTHER, f"system:serviceaccount:{namespace}:{name}"
        spec["groups"] = list(_groups(namespace))
    body = {"apiVersion": kind.api_version, "kind": kind.kind, "spec": spec}
    answer: dict[str, Any] = json.loads(await kube.create(kind, body))
    return bool(answer.get("status", {}).get("allowed"))


def _groups(namespace: str) -> Iterable[str]:
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
