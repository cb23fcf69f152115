"""NetworkPolicy of networking.k8s.io/v1: pods of one namespace, allow rules only, isolation by being selected."""

from __future__ import annotations

from typing import Any

from enitide_policy.languages.reading import Closed, Place
from enitide_policy.languages.shared import blind, each, plain, pod_key, policy_rules
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import ANY_L4, L4, PROTOCOLS, AnyPeer, CidrPeer, Peer, PodsPeer, Policy, Rule, Tier
from enitide_policy.selectors import Selector, in_namespace, namespace_key, selector

_SIDES = {Direction.INGRESS: ("ingress", "from"), Direction.EGRESS: ("egress", "to")}
_TYPES = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}


def read(spec_place: Place, spec: Any) -> list[Policy]:
    """The policy in the model; what is not understood is closed and noted. No spec is an empty one, as upstream."""
    ref, mine = spec_place.ref, in_namespace(spec_place.ref.namespace)
    found, whole = plain(spec_place, {} if spec is None else spec, "podSelector policyTypes ingress egress")
    rules = [rule for side, names in _SIDES.items() for rule in _rules(spec_place, found, side, names)]
    isolates = _directions(spec_place, found) if whole else frozenset(Direction)
    kept = tuple(rule for rule in rules if rule.direction in isolates)
    try:
        asked = spec_place.at("podSelector").requirements(found.get("podSelector", {}), pod_key)
    except Closed:
        return [blind(Policy(ref, Tier.NETWORK_POLICY, selector([mine]), kept, isolates))]
    return [Policy(ref, Tier.NETWORK_POLICY, selector([*asked, mine]), kept, isolates)]


def _directions(place: Place, found: dict[str, Any]) -> frozenset[Direction]:
    """By `policyTypes`; without them Ingress, and Egress where there are egress rules."""
    try:
        given = {
            _TYPES[p.text(item, tuple(_TYPES))] for p, item in place.at("policyTypes").items(found.get("policyTypes"))
        }
    except Closed:
        return frozenset(Direction)
    if not given:
        given = {Direction.INGRESS} | ({Direction.EGRESS} if found.get("egress", []) != [] else set())
    return frozenset(given)


def _rules(place: Place, found: dict[str, Any], side: Direction, names: tuple[str, str]) -> list[Rule]:
    section, peers = names

    def one(at: Place, index: int, item: Any) -> Rule:
        given = at.fields(item, f"{peers} ports")
        found, ports = _peers(at.at(peers), given.get(peers)), _ports(at.at("ports"), given.get("ports"))
        return Rule(side, Action.ALLOW, index, found, ports)

    return policy_rules(place.at(section), found.get(section), lambda i: Rule(side, Action.ALLOW, i, ()), one)


def _peers(place: Place, value: Any) -> tuple[Peer, ...]:
    return each(place, value, _peer) if value or not isinstance(value, list | None) else (AnyPeer(),)


def _peer(place: Place, item: Any) -> list[Peer]:
    found = place.fields(item, "podSelector namespaceSelector ipBlock")
    if not found:
        place.refuse("an empty peer says nothing: write podSelector, namespaceSelector or ipBlock")
    if "ipBlock" in found:
        if len(found) > 1:
            place.refuse("ipBlock stands alone: write the selectors as a peer of their own")
        return [_block(place.at("ipBlock"), found["ipBlock"])]
    return [PodsPeer(_pods(place, found))]


def _pods(place: Place, found: dict[str, Any]) -> Selector:
    asked = place.at("podSelector").requirements(found.get("podSelector", {}), pod_key)
    if "namespaceSelector" not in found:
        return selector([*asked, in_namespace(place.ref.namespace)])
    where = place.at("namespaceSelector").requirements(
        found["namespaceSelector"], lambda at, key: namespace_key(at.label_key(key))
    )
    return selector([*asked, *where])


def _block(place: Place, value: Any) -> CidrPeer:
    found = place.fields(value, "cidr except")
    network = place.at("cidr").network(found.get("cidr"))
    excepts = []
    for at, item in place.at("except").items(found.get("except")):
        inner = at.network(item)
        if inner.version != network.version or not inner.subnet_of(network) or inner == network:  # type: ignore[arg-type]
            at.refuse(f"{item} is not strictly inside {network}: write a range inside the cidr")
        excepts.append(inner)
    return CidrPeer(network, tuple(excepts))


def _ports(place: Place, value: Any) -> tuple[L4, ...]:
    return each(place, value, _port) if value or not isinstance(value, list | None) else ANY_L4


def _port(place: Place, item: Any) -> list[L4]:
    found = place.fields(item, "protocol port endPort")
    protocol = PROTOCOLS[place.at("protocol").text(found.get("protocol", "TCP"), tuple(PROTOCOLS))]
    port, last = found.get("port"), found.get("endPort")
    if port is None:
        if last is not None:
            place.at("endPort").refuse("endPort needs port: write the first port of the range as port")
        return [L4(protocol)]
    if isinstance(port, str):
        if last is not None:
            place.at("endPort").refuse("endPort needs a numeric port: a name stands for one port")
        return [L4(protocol, name=place.at("port").port_name(port))]
    first = place.at("port").number(port, 1, 65535)
    end = first if last is None else place.at("endPort").number(last, 1, 65535)
    if end < first:
        place.at("endPort").refuse(f"endPort {end} is below port {first}: write {first} or more")
    return [L4(protocol, first, end)]
