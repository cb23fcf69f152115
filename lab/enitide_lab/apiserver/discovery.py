"""Discovery: what is served, in the documents that kubectl and clients read before anything else.

The OpenAPI v3 document says of each kind only that its PATCH takes `fieldValidation`, which is what kubectl looks for;
it holds no schemas, and kubectl then leaves validation to the server.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from enitide_lab.apistore.types import ResourceType

# Reviews are answered without being stored.
REVIEWS = {
    "selfsubjectaccessreviews": ("authorization.k8s.io", "SelfSubjectAccessReview"),
    "subjectaccessreviews": ("authorization.k8s.io", "SubjectAccessReview"),
    "selfsubjectrulesreviews": ("authorization.k8s.io", "SelfSubjectRulesReview"),
    "tokenreviews": ("authentication.k8s.io", "TokenReview"),
    "selfsubjectreviews": ("authentication.k8s.io", "SelfSubjectReview"),
}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.2+enitide-lab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


def versions() -> dict[str, Any]:
    """/api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(types: Iterable[ResourceType]) -> dict[str, Any]:
    """/apis."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(_groups(types).values())}


def group(types: Iterable[ResourceType], name: str) -> dict[str, Any] | None:
    """/apis/GROUP, None if there is none."""
    found = _groups(types).get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **found} if found else None


def _groups(types: Iterable[ResourceType]) -> dict[str, dict[str, Any]]:
    served = {(rtype.kind.group, rtype.kind.version) for rtype in types if rtype.kind.group}
    served |= {(name, "v1") for name, _ in REVIEWS.values()}
    groups: dict[str, dict[str, Any]] = {}
    for name, version in sorted(served):
        entry = {"groupVersion": f"{name}/{version}", "version": version}
        known = groups.setdefault(name, {"name": name, "versions": [], "preferredVersion": entry})
        known["versions"].append(entry)
    return groups


def resource_list(types: Iterable[ResourceType], group_name: str, version: str) -> dict[str, Any] | None:
    """/api/v1 or /apis/GROUP/VERSION, None if there is none."""
    resources: list[dict[str, Any]] = []
    for rtype in types:
        if (rtype.kind.group, rtype.kind.version) == (group_name, version):
            resources.extend(_resources(rtype))
    if version == "v1":
        resources.extend(
            {"name": plural, "singularName": "", "namespaced": False, "kind": kind, "verbs": ["create"]}
            for plural, (name, kind) in REVIEWS.items()
            if name == group_name
        )
    if not resources:
        return None
    group_version = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _resources(rtype: ResourceType) -> Iterable[dict[str, Any]]:
    kind = rtype.kind
    base = {"singularName": rtype.singular, "namespaced": kind.namespaced, "kind": kind.kind}
    yield {
        **base,
        "name": kind.plural,
        "verbs": _VERBS,
        "shortNames": list(rtype.short_names),
        "categories": list(rtype.categories),
    }
    if rtype.has_status:
        yield {**base, "singularName": "", "name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"]}
    for subresource in rtype.subresources:
        yield {**base, "singularName": "", "name": f"{kind.plural}/{subresource}", "verbs": ["create"]}


def openapi_index(types: Iterable[ResourceType]) -> dict[str, Any]:
    """/openapi/v3."""
    served = {(rtype.kind.group, rtype.kind.version) for rtype in types}
    paths = [f"apis/{name}/{version}" if name else f"api/{version}" for name, version in sorted(served)]
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def openapi(types: Iterable[ResourceType], group_name: str, version: str) -> dict[str, Any]:
    """/openapi/v3/apis/GROUP/VERSION."""
    paths: dict[str, Any] = {}
    for rtype in types:
        kind = rtype.kind
        if (kind.group, kind.version) != (group_name, version):
            continue
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        within = "/namespaces/{namespace}" if kind.namespaced else ""
        paths[f"{root}{within}/{kind.plural}/{{name}}"] = {
            "patch": {
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {
                    "group": kind.group,
                    "version": kind.version,
                    "kind": kind.kind,
                },
                "parameters": [
                    {"name": name, "in": "query", "schema": {"type": "string"}}
                    for name in ("dryRun", "fieldManager", "fieldValidation")
                ],
                "responses": {"200": {"description": "OK"}},
            }
        }
    return {
        "openapi": "3.0.0",
        "info": {"title": "enitide lab", "version": VERSION["gitVersion"]},
        "paths": paths,
        "components": {"schemas": {}},
    }
