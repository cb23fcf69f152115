"""ClusterNetworkPolicy, and its ancestors AdminNetworkPolicy and BaselineAdminNetworkPolicy as other spellings of it.

Differences of the ancestors: the tier is the kind's, `Allow` is spelt `Allow` instead of `Accept`, `ports` instead of
`protocols`, up to 100 rules instead of 25; the baseline has no priority and no Pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enitide_api.reasons import Reason
from enitide_policy.languages.reading import Closed, Place
from enitide_policy.languages.shared import blind, plain, pod_key, policy_rules
from enitide_policy.languages.tieredports import ports, protocols
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import CidrPeer, NodesPeer, Peer, PodsPeer, Policy, Rule, Tier
from enitide_policy.selectors import Selector, namespace_key, selector

MAX_PEERS = 25


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind spells it. `tier` None: the spec names it."""

    actions: dict[str, Action]
    protocols: str = "ports"
    max_rules: int = 100
    tier: Tier | None = None
    fields: str = "priority subject ingress egress"


CLUSTER = Dialect(
    {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS},
    "protocols",
    25,
    None,
    "tier priority subject ingress egress",
)
ADMIN = Dialect({"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}, tier=Tier.ADMIN)
BASELINE = Dialect({"Allow": Action.ALLOW, "Deny": Action.DENY}, tier=Tier.BASELINE, fields="subject ingress egress")


def read(place: Place, spec: Any, dialect: Dialect) -> list[Policy]:
    """The policy in the model. Where tier or priority are not understood, the strongest place is taken."""
    found, whole = plain(place, spec, dialect.fields)
    tier, priority, placed = _place_in_order(place, found, dialect)
    rules = [
        rule
        for side, name, peers in ((Direction.INGRESS, "ingress", "from"), (Direction.EGRESS, "egress", "to"))
        for rule in _rules(place.at(name), found.get(name), side, peers, dialect)
    ]
    if not (whole and placed):
        rules = [rule.close() for rule in rules]
    try:
        return [
            Policy(
                place.ref, tier, _subject(place.at("subject"), found.get("subject")), tuple(rules), priority=priority
            )
        ]
    except Closed:
        return [blind(Policy(place.ref, tier, selector([]), tuple(rules), priority=priority))]


def _place_in_order(place: Place, found: dict[str, Any], dialect: Dialect) -> tuple[Tier, int, bool]:
    tier, priority, placed = dialect.tier or Tier.ADMIN, 0, True
    try:
        if dialect.tier is None:
            tier = Tier(place.at("tier").text(found.get("tier"), (Tier.ADMIN.value, Tier.BASELINE.value)))
    except Closed:
        placed = False
    try:
        if "priority" in dialect.fields:
            priority = place.at("priority").number(found.get("priority"), 0, 1000)
    except Closed:
        placed = False
    if dialect is BASELINE and place.ref.name != "default":
        Place(place.ref, "metadata.name", place.found).note(
            Reason.POLICY_INVALID, "there is one: write the name default"
        )
    return tier, priority, placed


def _subject(place: Place, value: Any) -> Selector:
    found = place.fields(value, "namespaces pods")
    if len(found) != 1:
        place.refuse("write exactly one of namespaces, pods")
    return _pods_of(place, found)


def _pods_of(place: Place, found: dict[str, Any]) -> Selector:
    """Of a `namespaces` or a `pods` field, as subjects and peers have them."""
    if "namespaces" in found:
        return selector(place.at("namespaces").requirements(found["namespaces"], _namespace))
    at = place.at("pods")
    both = at.fields(found["pods"], "namespaceSelector podSelector")
    if "podSelector" not in both:
        at.at("podSelector").refuse("write podSelector; all pods of these namespaces is `podSelector: {}`")
    return selector(
        [
            *at.at("namespaceSelector").requirements(both.get("namespaceSelector", {}), _namespace),
            *at.at("podSelector").requirements(both["podSelector"], pod_key),
        ]
    )


def _namespace(place: Place, label: str) -> str:
    return namespace_key(place.label_key(label))


def _rules(place: Place, value: Any, side: Direction, peers: str, dialect: Dialect) -> list[Rule]:
    if isinstance(value, list) and len(value) > dialect.max_rules:
        message = f"{len(value)} rules: write at most {dialect.max_rules}, the rest into a policy of its own"
        place.note(Reason.POLICY_INVALID, message)

    def shell(index: int) -> Rule:
        item = value[index] if isinstance(value, list) else {}
        word = item.get("action") if isinstance(item, dict) else None
        return Rule(side, dialect.actions.get(word, Action.DENY) if isinstance(word, str) else Action.DENY, index, ())

    def one(at: Place, index: int, item: Any) -> Rule:
        rule = at.fields(item, f"name action {peers} {dialect.protocols}")
        action = dialect.actions[at.at("action").text(rule.get("action"), tuple(dialect.actions))]
        found = _peers(at.at(peers), rule.get(peers), side)
        reader = protocols if dialect.protocols == "protocols" else ports
        l4 = reader(at.at(dialect.protocols), rule.get(dialect.protocols))
        if any(item.name for item in l4) and any(isinstance(p, CidrPeer | NodesPeer) for p in found):
            at.at(dialect.protocols).refuse("networks and nodes have no named ports: write a number")
        return Rule(side, action, index, found, l4)

    return policy_rules(place, value, shell, one)


def _peers(place: Place, value: Any, side: Direction) -> tuple[Peer, ...]:
    items = list(place.items(value))
    if not 1 <= len(items) <= MAX_PEERS:
        place.refuse(f"write 1 to {MAX_PEERS} peers; all pods is `namespaces: {{}}`")
    return tuple(peer for at, item in items for peer in _peer(at, item, side))


def _peer(place: Place, item: Any, side: Direction) -> list[Peer]:
    known = "namespaces pods" if side is Direction.INGRESS else "namespaces pods nodes networks domainNames"
    found = place.fields(item, known)
    if len(found) != 1:
        place.refuse(f"write exactly one of {', '.join(known.split())}")
    if "domainNames" in found:
        place.at("domainNames").unsupported("domain names are not resolved: write networks")
    if "nodes" in found:
        return [NodesPeer(selector(place.at("nodes").requirements(found["nodes"], Place.label_key)))]
    if "networks" in found:
        at = place.at("networks")
        ranges = [CidrPeer(p.network(value)) for p, value in at.items(found["networks"])]
        if not 1 <= len(ranges) <= MAX_PEERS:
            at.refuse(f"write 1 to {MAX_PEERS} ranges")
        return list(ranges)
    return [PodsPeer(_pods_of(place, found))]
