"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy of cilium.io/v2, layers 3 and 4.

A section isolates its direction by being there with any rule, also an empty one. A rule without peers and without ports
matches nothing; without peers alone, every peer. What needs a proxy, DNS answers or other clouds' groups is refused.
A policy of nodes whose subject is not understood selects none: a pod fails closed, a node must not lock itself out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enitide_api.reasons import Reason
from enitide_policy.languages.ciliumkeys import node_selector, pod_selector, reserved_peer
from enitide_policy.languages.ciliumpeers import peers_of
from enitide_policy.languages.ciliumports import l4_of
from enitide_policy.languages.reading import Closed, Place
from enitide_policy.languages.shared import blind, note_nameless, plain, policy_rules
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import ANY_L4, AnyPeer, Policy, Rule, Tier
from enitide_policy.selectors import NAMESPACE, Requirement, in_namespace, selector

_FIELDS = "endpointSelector nodeSelector ingress ingressDeny egress egressDeny enableDefaultDeny labels description log"


@dataclass(frozen=True, slots=True)
class Section:
    """One of the four lists of rules."""

    field: str
    side: Direction
    action: Action
    peers: str
    extra: str


SECTIONS = (
    Section("ingress", Direction.INGRESS, Action.ALLOW, "from", "toPorts icmps authentication"),
    Section("ingressDeny", Direction.INGRESS, Action.DENY, "from", "toPorts icmps"),
    Section("egress", Direction.EGRESS, Action.ALLOW, "to", "toPorts icmps authentication toFQDNs"),
    Section("egressDeny", Direction.EGRESS, Action.DENY, "to", "toPorts icmps"),
)
_PEERS = {
    "from": "fromEndpoints fromRequires fromCIDR fromCIDRSet fromEntities fromGroups fromNodes",
    "to": "toEndpoints toRequires toCIDR toCIDRSet toEntities toServices toGroups toNodes",
}


def read(place: Place, spec: Any, part: int = 0) -> list[Policy]:
    """One spec. `part` numbers the specs of one object."""
    found, whole = plain(place, spec, _FIELDS)
    of_nodes = "nodeSelector" in found and "endpointSelector" not in found
    if _selects_nobody(place, found, of_nodes=of_nodes):
        return []
    rules = [
        rule for section in SECTIONS for rule in _rules(place.at(section.field), found.get(section.field), section)
    ]
    isolates = _isolated(place, found) if whole or of_nodes else frozenset(Direction)
    if of_nodes:
        return _of_nodes(place, found, tuple(rules), isolates, part)
    own = [in_namespace(place.ref.namespace)] if place.ref.namespace else []
    try:
        subject = selector([*own, *_subject(place.at("endpointSelector"), found)])
    except Closed:
        return [blind(Policy(place.ref, Tier.CILIUM, selector(own), tuple(rules), isolates, part=part))]
    policy = Policy(place.ref, Tier.CILIUM, subject, tuple(rules), isolates, part=part)
    if "nodeSelector" in found:
        place.at("nodeSelector").note(Reason.POLICY_INVALID, "stands without endpointSelector: write one of them")
        return [blind(policy)]
    return [policy]


def _selects_nobody(place: Place, found: dict[str, Any], *, of_nodes: bool) -> bool:
    """Policies of Cilium's own endpoints, and of nodes where they may not be: noted, and nobody is their subject."""
    if of_nodes:
        return _refuses_nodes(place.at("nodeSelector"))
    at = Place(place.ref, place.at("endpointSelector").path)
    try:
        other = "endpointSelector" in found and reserved_peer(at, found["endpointSelector"]) is not None
    except Closed:
        return False
    if other:
        message = "only pods and nodes have policies here: select them with endpointSelector or nodeSelector"
        place.at("endpointSelector").note(Reason.POLICY_UNSUPPORTED, message)
    return other


def _refuses_nodes(place: Place) -> bool:
    if place.ref.namespace:
        message = "nodes are in no namespace: write a CiliumClusterwideNetworkPolicy, or endpointSelector for pods"
        place.note(Reason.POLICY_INVALID, message)
        return True
    if not place.host_policy:
        message = "policies of nodes are not in force: set host_policy to true for operator and agents"
        place.note(Reason.POLICY_UNSUPPORTED, f"{message}, or select pods with endpointSelector")
    return not place.host_policy


def _of_nodes(
    place: Place, found: dict[str, Any], rules: tuple[Rule, ...], isolates: frozenset[Direction], part: int
) -> list[Policy]:
    try:
        subject = selector(node_selector(place.at("nodeSelector"), found["nodeSelector"]))
    except Closed:
        return []
    if any(rule.direction is Direction.INGRESS and one.name for rule in rules for one in rule.l4):
        message = "a node has no named ports, so such a port of an ingress rule matches nothing: write a number"
        place.at("nodeSelector").note(Reason.POLICY_UNSUPPORTED, message)
    return [Policy(place.ref, Tier.CILIUM, subject, rules, isolates, part=part, of_nodes=True)]


def _subject(place: Place, found: dict[str, Any]) -> list[Requirement]:
    if "endpointSelector" not in found:
        place.refuse("write endpointSelector; all pods is `endpointSelector: {}`")
    asked = list(pod_selector(place, found["endpointSelector"]))
    if not place.ref.namespace:
        return asked
    foreign = [r for r in asked if r.key == NAMESPACE and r != in_namespace(place.ref.namespace)]
    if foreign:
        message = f"selects {foreign[0]}, but applies in its own namespace only: write a clusterwide policy"
        place.note(Reason.POLICY_INVALID, message)
    return [r for r in asked if r.key != NAMESPACE]


def _isolated(place: Place, found: dict[str, Any]) -> frozenset[Direction]:
    """By `enableDefaultDeny` where it says so, else where there is a rule; a section of a wrong type is one."""
    at = place.at("enableDefaultDeny")
    try:
        asked = at.fields(found.get("enableDefaultDeny", {}), "ingress egress")
    except Closed:
        return frozenset(Direction)
    return frozenset(side for side in Direction if _isolates(at, asked, found, side))


def _isolates(place: Place, asked: dict[str, Any], found: dict[str, Any], side: Direction) -> bool:
    name = side.name.lower()
    wanted = asked.get(name)
    if wanted is None:
        return any(found.get(section.field, []) != [] for section in SECTIONS if section.side is side)
    if not isinstance(wanted, bool):
        place.at(name).note(Reason.POLICY_INVALID, f"{wanted!r} is not known: write true or false")
        return True
    return wanted


def _rules(place: Place, value: Any, section: Section) -> list[Rule]:
    def one(at: Place, index: int, item: Any) -> Rule:
        rule = at.fields(item, f"{_PEERS[section.peers]} {section.extra}")
        _refuse_authentication(at.at("authentication"), rule.get("authentication"))
        given = [name for name in [*_PEERS[section.peers].split(), "toFQDNs"] if name in rule]
        if "toPorts" in rule and "icmps" in rule and rule["toPorts"] and rule["icmps"]:
            at.at("icmps").refuse("icmps stands without toPorts: write a rule of its own")
        noted = len(at.found)
        l4 = l4_of(at, rule)
        everyone = () if l4 is None else (AnyPeer(),)
        peers = peers_of(at, rule, given) if given else everyone
        done = Rule(section.side, section.action, index, peers, ANY_L4 if l4 is None else l4)
        note_nameless(at.at("toPorts"), done)
        if section.action is Action.DENY and len(at.found) > noted:
            raise Closed  # without its broken item the rule would deny less
        return done

    return policy_rules(place, value, lambda i: Rule(section.side, section.action, i, ()), one)


def _refuse_authentication(place: Place, value: Any) -> None:
    if value is None:
        return
    mode = place.fields(value, "mode").get("mode")
    if mode != "disabled":
        place.at("mode").unsupported(f"{mode!r} is not done: write disabled, or leave authentication out")
