"""Definitions of other projects' policy kinds, with as much of their schema as matters here: what a status may hold."""

from __future__ import annotations

from typing import Any

from enitide_kube.port import CRD, Kind

_TEXT = {"type": "string"}
_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_TYPE = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
_PLAIN = {
    "type": {"type": "string", "pattern": _TYPE, "maxLength": 316},
    "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
    "reason": {"type": "string", "pattern": r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", "minLength": 1},
    "message": {"type": "string", "maxLength": 32768},
    "lastTransitionTime": {"type": "string", "format": "date-time"},
}


def conditions_of(kind: Kind) -> dict[str, Any]:
    """The schema of `status.conditions`: policy.networking.k8s.io has the standard one, Cilium a shorter one."""
    if kind.group == "cilium.io":
        items = {"type": "object", "properties": dict.fromkeys(_PLAIN, _TEXT), "required": ["type", "status"]}
    else:
        more = {"observedGeneration": {"type": "integer", "format": "int64", "minimum": 0}}
        items = {"type": "object", "properties": _PLAIN | more, "required": list(_PLAIN)}
    return {
        "type": "array",
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }


def definition(kind: Kind, *, has_status: bool = True, has_conditions: bool = True) -> dict[str, Any]:
    """Its CustomResourceDefinition. Without `has_conditions` the status is that of older releases."""
    status: dict[str, Any] = {"type": "object", "properties": {"nodes": _ANYTHING}}
    if has_conditions:
        status["properties"]["conditions"] = conditions_of(kind)
    schema = {"type": "object", "properties": {"spec": _ANYTHING, "specs": {"type": "array", "items": _ANYTHING}}}
    schema["properties"]["status"] = status
    version: dict[str, Any] = {"name": kind.version, "served": True, "storage": True}
    version |= {"schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}} if has_status else {}}
    names = {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower(), "listKind": f"{kind.kind}List"}
    scope = "Namespaced" if kind.namespaced else "Cluster"
    # kinds of *.k8s.io need this annotation on a real API server
    meta = {"name": f"{kind.plural}.{kind.group}", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}}
    spec = {"group": kind.group, "scope": scope, "names": names, "versions": [version]}
    return {"apiVersion": CRD.api_version, "kind": CRD.kind, "metadata": meta, "spec": spec}
