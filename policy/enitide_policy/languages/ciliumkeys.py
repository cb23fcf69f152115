"""Label keys as Cilium writes them: with a source, and with names for namespace and service account."""

from __future__ import annotations

from typing import Any

from enitide_policy.languages.reading import Place
from enitide_policy.numbers import Reserved
from enitide_policy.selectors import NAMESPACE, NODE_LABEL, POD, SERVICE_ACCOUNT, Operator, Requirement, namespace_key

_CLUSTER = "cluster"
_RESERVED = "reserved:"
_NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
_NAMES = {
    "io.kubernetes.pod.namespace": NAMESPACE,
    "io.cilium.k8s.policy.serviceaccount": SERVICE_ACCOUNT,
    "io.cilium.k8s.policy.cluster": _CLUSTER,
}


def key_of(place: Place, label: str) -> str:
    """The flat key. Sources `k8s` and `any` mean the same here; others carry no label of a pod."""
    source, colon, name = label.rpartition(":")
    if colon and source == "reserved":
        return label
    if colon and source not in ("k8s", "any"):
        place.refuse(f"labels of source {source!r} do not exist here: write k8s:{name}, or the key alone")
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith(_NAMESPACE_LABELS):
        return namespace_key(place.label_key(name.removeprefix(_NAMESPACE_LABELS)))
    return POD + place.label_key(name)


def pod_selector(place: Place, value: Any) -> tuple[Requirement, ...]:
    """Requirements on pods. A reserved label is no label of a pod and is refused.

    There is one cluster, so what is asked of its name is answered here.
    """
    asked = place.requirements(value, key_of)
    for requirement in asked:
        if requirement.key.startswith(_RESERVED):
            place.refuse(f"{requirement.key} is no pod: use it alone, as a peer, or write entities")
    kept = [requirement for requirement in asked if requirement.key != _CLUSTER]
    own = {_CLUSTER: place.cluster}
    if not all(requirement.holds(own) for requirement in asked if requirement.key == _CLUSTER):
        kept.append(Requirement(_CLUSTER, Operator.EXISTS))  # no identity has it
    return tuple(kept)


def node_selector(place: Place, value: Any) -> tuple[Requirement, ...]:
    """Requirements on the labels of a node that is the subject; a source in front of a key says nothing more."""

    def key(at: Place, label: str) -> str:
        return NODE_LABEL + at.label_key(label.rpartition(":")[2])

    return tuple(place.requirements(value, key))


def reserved_peer(place: Place, value: Any) -> str | None:
    """The entity that a selector of one reserved label stands for; None if it is a selector of pods."""
    asked = place.requirements(value, key_of)
    if len(asked) != 1 or not asked[0].key.startswith(_RESERVED):
        return None
    only = asked[0]
    if only.operator not in (Operator.IN, Operator.EXISTS):
        place.refuse(f"{only} selects nothing that can be named: write entities")
    return only.key.removeprefix(_RESERVED)


WORDS = {reserved.word: reserved for reserved in Reserved if reserved is not Reserved.UNKNOWN}
