"""What the engine knows, as rows for people: policies, selectors, entries of a rule set with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enitide_policy.engine.cidrs import CidrSet
from enitide_policy.engine.engine import Engine
from enitide_policy.engine.policies import Installed
from enitide_policy.engine.selectorcache import identity_of
from enitide_policy.mapstate import Action, Direction, Peer, RuleKey, RuleSet, RuleValue
from enitide_policy.model import ICMP, ICMPV6, PROTOCOLS
from enitide_policy.numbers import Reserved
from enitide_policy.selectors import flat

_PROTOCOL_WORDS = {number: word for word, number in PROTOCOLS.items()} | {ICMP: "ICMP", ICMPV6: "ICMPv6"}
_ACTIONS = {Action.ALLOW: "Allow", Action.DENY: "Deny", Action.PASS: "Pass"}


def policy_rows(engine: Engine) -> list[dict[str, Any]]:
    """Every policy in force here, in the order of decision, with the pods of this node that it selects."""
    installed = [one for group in engine.store.groups.values() for one in group.policies]
    return [_policy_row(engine, one) for one in sorted(installed, key=_place)]


def _place(one: Installed) -> tuple[int, int, str, str, int]:
    policy = one.policy
    tier = list(type(policy.tier)).index(policy.tier)
    return tier, policy.priority, policy.ref.namespace, policy.ref.name, policy.part


def _policy_row(engine: Engine, one: Installed) -> dict[str, Any]:
    policy = one.policy
    return {
        "kind": policy.ref.kind,
        "namespace": policy.ref.namespace,
        "name": policy.ref.name,
        "tier": str(policy.tier),
        "priority": policy.priority if one.rules and one.rules[0].order else None,
        "subject": str(policy.subject),
        "isolates": [side.name.lower() for side in Direction if side in policy.isolates],
        "ingress": sum(rule.direction is Direction.INGRESS for rule in policy.rules),
        "egress": sum(rule.direction is Direction.EGRESS for rule in policy.rules),
        "endpoints": sorted(name for number in one.group.subject.snapshot() for name in engine.endpoints_of(number)),
    }


def selector_rows(engine: Engine) -> list[dict[str, Any]]:
    """Every selector and range in use: what it selects now, how many uses it has, and of which policies."""
    rows = [
        {
            "selector": str(selection.selector),
            "role": role,
            "identities": list(selection.snapshot()),
            **_users(selection.users),
        }
        for role, cache in (("peer", engine.peers), ("subject", engine.subjects), ("node", engine.nodes))
        for selection in cache.selections.values()
    ]
    rows += [
        {
            "selector": _range_text(found),
            "role": "range",
            "identities": sorted(map(identity_of, found.bases)),
            **_users(found.users),
        }
        for found in engine.cidrs.sets.values()
    ]
    return sorted(rows, key=lambda row: (row["role"], row["selector"]))


def _users(users: Mapping[Any, int]) -> dict[str, Any]:
    """How many uses there are, and whose."""
    return {"users": sum(users.values()), "policies": sorted({str(ref) for ref, _ in users})}


def _range_text(found: CidrSet) -> str:
    excepts = f" except {', '.join(map(str, found.peer.excepts))}" if found.peer.excepts else ""
    return f"{found.peer.network}{excepts}{' (outside)' if found.peer.outside else ''}"


def entry_rows(engine: Engine, rule_set: RuleSet) -> list[dict[str, Any]]:
    """The entries of one rule set with their peers by name, in the order of their keys."""
    ranges = {number: str(network) for network, number in engine.cidrs.numbers.items()}
    return [_entry_row(engine, ranges, key, value) for key, value in sorted(rule_set.rules())]


def _entry_row(engine: Engine, ranges: dict[int, str], key: RuleKey, value: RuleValue) -> dict[str, Any]:
    return {
        "direction": key.direction.name.lower(),
        "peer": _peer_text(engine, ranges, key),
        "identity": key.identity,
        "protocol": _PROTOCOL_WORDS.get(key.protocol, str(key.protocol)) if key.protocol else "any",
        "ports": port_text(key),
        "admin": _ACTIONS.get(value.admin),
        "deny": value.deny,
        "allow": value.allow,
        "baseline": _ACTIONS.get(value.baseline),
    }


def _peer_text(engine: Engine, ranges: dict[int, str], key: RuleKey) -> str:
    if key.peer is Peer.ANY:
        return "any"
    if key.peer is Peer.IDENTITY:
        labels = engine.labels.get(key.identity)
        if labels is not None:
            return ", ".join(f"{name}={value}" for name, value in sorted(flat(labels).items()))
        return Reserved(key.identity).word if key.identity in set(Reserved) else str(key.identity)
    outside = " (outside)" if key.peer is Peer.CIDR_WORLD else ""
    return ranges.get(key.identity, str(key.identity)) + outside


def port_text(key: RuleKey) -> str:
    """`any`, `80`, `8000-8003`; of ICMP the type."""
    if not key.port_bits:
        return "any"
    if key.protocol in (ICMP, ICMPV6):
        return f"type {key.port >> 8}"
    last = key.port + (1 << (16 - key.port_bits)) - 1
    return str(key.port) if last == key.port else f"{key.port}-{last}"
