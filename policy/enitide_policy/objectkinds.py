"""Which objects are read: items of lists, kinds, groups and versions; what is passed over, and what must not be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from enitide_api.reasons import Reason
from enitide_policy.parse import NAMESPACED, VERSIONS
from enitide_policy.problems import ObjectRef, Problem

_FACTS = {
    "Namespace": "v1",
    "Pod": "v1",
    "Node": "v1",
    "Service": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
}
_POLICY_GROUPS = (
    "cilium.io",
    "policy.networking.k8s.io",
    "crd.projectcalico.org",
    "projectcalico.org",
    "crd.antrea.io",
)
_CLUSTER_WIDE = frozenset({"Namespace", "Node", *VERSIONS}) - NAMESPACED
_NAMESPACED = frozenset({"Pod", "Service", "EndpointSlice"})


def flattened(
    objects: Iterable[Any], found: list[Problem], within: tuple[int, ...] = ()
) -> Iterator[Mapping[str, Any]]:
    """Objects, and those in lists. `within`: the lists around, for one that holds itself by an alias of YAML."""
    for obj in objects:
        if not isinstance(obj, dict):
            found.append(Problem(ref_of({"kind": "List"}), "items", Reason.OBJECT_INVALID, f"{obj!r} is no object"))
            continue
        kind = str(obj.get("kind", ""))
        items = obj.get("items")
        if kind != "List" and not (kind.endswith("List") and items is not None):
            yield obj
        elif not isinstance(items, list) or id(items) in within:
            found.append(Problem(ref_of(obj), "items", Reason.OBJECT_INVALID, "write the objects, as a list"))
        else:
            each = {"apiVersion": obj.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
            inner = ({**each, **item} if isinstance(item, dict) else item for item in items)
            yield from flattened(inner, found, (*within, id(items)))


def ref_of(obj: Mapping[str, Any]) -> ObjectRef:
    """Kind, namespace (`default` where a namespaced kind has none) and name of any object."""
    kind = str(obj.get("kind", ""))
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    usual = "default" if kind in NAMESPACED or kind in _NAMESPACED else ""
    namespace = "" if kind in _CLUSTER_WIDE else str(metadata.get("namespace") or usual)
    return ObjectRef(kind, namespace, str(metadata.get("name") or ""))


def is_fact(obj: Mapping[str, Any]) -> bool:
    """Whether it is of a kind that carries traffic. A Service of another group, such as Knative's, is another kind."""
    group = str(obj.get("apiVersion") or "").rpartition("/")[0]
    known = _FACTS.get(str(obj.get("kind", "")))
    return known is not None and group in ("", known.rpartition("/")[0])


def unknown_version(obj: Mapping[str, Any]) -> list[Problem]:
    """Said of an object of a known kind and another version than the one it is read as."""
    known = _FACTS[str(obj["kind"])]
    if obj.get("apiVersion") == known:
        return []
    message = f"{obj.get('apiVersion')!r} is not known and was read as {known}: write that"
    return [Problem(ref_of(obj), "apiVersion", Reason.OBJECT_INVALID, message)]


def stranger(obj: Mapping[str, Any]) -> list[Problem]:
    """A policy of a kind that is not read must not go unnoticed; a Deployment may."""
    group = str(obj.get("apiVersion", "")).partition("/")[0]
    kind = obj.get("kind")
    if not kind or not isinstance(kind, str):
        return [Problem(ref_of(obj), "kind", Reason.OBJECT_INVALID, "write a kind and an apiVersion")]
    meant = next((known for known in (*VERSIONS, *_FACTS) if known != kind and known.lower() == kind.lower()), None)
    if meant:
        return [
            Problem(ref_of(obj), "kind", Reason.OBJECT_INVALID, f"{kind} is no kind, and was not read: write {meant}")
        ]
    if group not in _POLICY_GROUPS and not kind.endswith("NetworkPolicy"):
        return []
    message = f"{kind} of {obj.get('apiVersion')} is not read: it has no effect; write one of {', '.join(VERSIONS)}"
    return [Problem(ref_of(obj), "kind", Reason.POLICY_UNSUPPORTED, message)]
