"""Peers of Cilium rules. Several kinds of peers in one rule are refused, as Cilium itself does."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from enitide_policy.languages.ciliumkeys import WORDS, pod_selector, reserved_peer
from enitide_policy.languages.reading import Place
from enitide_policy.languages.shared import each
from enitide_policy.model import API_SERVER, AnyPeer, CidrPeer, NodesPeer, Peer, PodsPeer, ReservedPeer, ServicePeer
from enitide_policy.numbers import Reserved
from enitide_policy.selectors import NAMESPACE, NAMESPACE_LABEL, in_namespace, selector

_IPV4, _IPV6 = ip_network("0.0.0.0/0"), ip_network("::/0")
_ANY_POD = PodsPeer(selector([]))
_OF_THE_CLUSTER = (
    Reserved.HOST, Reserved.REMOTE_NODE, Reserved.INIT, Reserved.INGRESS, Reserved.HEALTH, Reserved.UNMANAGED
)  # fmt: skip
_NOT_DONE = {
    "Requires": "it was removed upstream: write its labels into the endpoint selectors",
    "Groups": "groups of a cloud are not looked up: write CIDRs",
    "FQDNs": "DNS names are not resolved: write CIDRs",
}


def peers_of(place: Place, rule: dict[str, Any], given: list[str]) -> tuple[Peer, ...]:
    """The peers of a rule that names the fields `given`. An empty list selects nothing."""
    for name in given:
        kind = name.removeprefix("from").removeprefix("to")
        if kind in _NOT_DONE:
            place.at(name).unsupported(_NOT_DONE[kind])
    filled = [name for name in given if rule[name]]
    if len(filled) > 1:
        place.refuse(f"{' and '.join(filled)} in one rule: write a rule for each")
    out: tuple[Peer, ...] = ()
    for name in given:
        reader = _READERS[name.removeprefix("from").removeprefix("to")]
        out += each(place.at(name), rule[name], reader)
    return out


def _endpoints(place: Place, item: Any) -> list[Peer]:
    entity = reserved_peer(place, item)
    if entity is not None:
        return _entity(place, entity)
    asked = pod_selector(place, item)
    keys = {requirement.key for requirement in asked}
    scoped = NAMESPACE in keys or any(key.startswith(NAMESPACE_LABEL) for key in keys)
    if place.ref.namespace and not scoped:
        asked = (*asked, in_namespace(place.ref.namespace))
    return [PodsPeer(selector(asked))]


def _entity(place: Place, item: Any) -> list[Peer]:
    word = place.text(item)
    if word == "all":
        return [AnyPeer()]
    if word == "cluster":
        return [_ANY_POD, *(ReservedPeer(reserved) for reserved in _OF_THE_CLUSTER), API_SERVER]
    if word == "kube-apiserver":
        return [API_SERVER]
    if word in ("world-ipv4", "world-ipv6"):
        return [CidrPeer(_IPV4 if word == "world-ipv4" else _IPV6, outside=True)]
    if word == "none":
        return []
    if word not in WORDS:
        known = sorted({*WORDS, "all", "cluster", "none", "world-ipv4", "world-ipv6"})
        place.refuse(f"{word!r} is no entity: write one of {', '.join(known)}")
    return [ReservedPeer(WORDS[word])]


def _cidr(place: Place, item: Any) -> list[Peer]:
    """Here, other than in a set, an address alone is allowed."""
    if isinstance(item, str) and "/" not in item:
        item = f"{item}/{128 if ':' in item else 32}"
    return [CidrPeer(place.network(item), outside=True)]


def _cidr_set(place: Place, item: Any) -> list[Peer]:
    found = place.fields(item, "cidr except cidrGroupRef cidrGroupSelector")
    for name in ("cidrGroupRef", "cidrGroupSelector"):
        if name in found:
            place.at(name).unsupported("CIDR groups are not read: write cidr")
    network = place.at("cidr").network(found.get("cidr"))
    excepts = []
    for at, value in place.at("except").items(found.get("except")):
        inner = at.network(value)
        if inner.version != network.version or not inner.subnet_of(network):  # type: ignore[arg-type]
            at.refuse(f"{value} is not inside {network}: write a range inside the cidr")
        excepts.append(inner)
    return [CidrPeer(network, tuple(excepts), outside=True)]


def _nodes(place: Place, item: Any) -> list[Peer]:
    def key(at: Place, label: str) -> str:
        return at.label_key(label.rpartition(":")[2])

    return [NodesPeer(selector(place.requirements(item, key)))]


def _services(place: Place, item: Any) -> list[Peer]:
    found = place.fields(item, "k8sService k8sServiceSelector")
    if len(found) != 1:
        place.refuse("write exactly one of k8sService, k8sServiceSelector")
    if "k8sService" in found:
        at = place.at("k8sService")
        named = at.fields(found["k8sService"], "serviceName namespace")
        name = at.at("serviceName").text(named.get("serviceName"))
        return [ServicePeer(at.at("namespace").text(named.get("namespace", place.ref.namespace)), name)]
    at = place.at("k8sServiceSelector")
    chosen = at.fields(found["k8sServiceSelector"], "selector namespace")

    def key(inner: Place, label: str) -> str:
        return inner.label_key(label.rpartition(":")[2])

    labels = at.at("selector").requirements(chosen.get("selector", {}), key)
    return [ServicePeer(at.at("namespace").text(chosen.get("namespace", "")), labels=tuple(sorted(set(labels))))]


_READERS = {
    "Endpoints": _endpoints,
    "Entities": _entity,
    "CIDR": _cidr,
    "CIDRSet": _cidr_set,
    "Nodes": _nodes,
    "Services": _services,
}
