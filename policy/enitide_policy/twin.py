"""The kernel's policy lookup in Python, entry for entry (bpf/include/policy.h): what rule sets mean.

It knows identities and map entries, no policies. `enitide policy verdict` asks it, and tests hold the C program to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from enitide_policy.mapstate import (
    ADMIN_ACTION_SHIFT,
    BASELINE_ACTION_SHIFT,
    BASELINE_SHIFT,
    BITS_SHIFT,
    DIRECTION_SHIFT,
    IDENTITY_SHIFT,
    MIDDLE_ALLOW,
    MIDDLE_DENY,
    PEER_SHIFT,
    PROTOCOL_SHIFT,
    Action,
    Direction,
    Peer,
    RuleSet,
)


class DecidedBy(IntEnum):
    """Which step decided."""

    DEFAULT = 0  # nothing: not isolated
    ADMIN = 1
    DENY = 2
    ALLOW = 3
    ISOLATION = 4
    BASELINE = 5


@dataclass(frozen=True, slots=True)
class PeerIdentities:
    """Who the peer is: its exact identity or WORLD or UNKNOWN; whether that is an exact record; its CIDR's, or 0."""

    identity: int
    exact: bool
    cidr: int = 0

    def kinds(self) -> list[tuple[Peer, int]]:
        """The peer parts of keys to look up."""
        found = [(Peer.ANY, 0), (Peer.IDENTITY, self.identity)]
        if self.cidr:
            found.append((Peer.CIDR_ANY, self.cidr))
            if not self.exact:
                found.append((Peer.CIDR_WORLD, self.cidr))
        return found


def look_up(
    rule_set: RuleSet, side: Direction, peer: PeerIdentities, protocol: int, port: int
) -> tuple[bool, DecidedBy]:
    """Whether a new flow is allowed. `port`: of ICMP and ICMPv6 type << 8 | code."""
    bases = [kind << PEER_SHIFT | number << IDENTITY_SHIFT | side << DIRECTION_SHIFT for kind, number in peer.kinds()]
    hits = list(_hits(rule_set.entries, bases, protocol, port))
    admin = _strongest(hits, 0, ADMIN_ACTION_SHIFT)
    if admin in (Action.ALLOW, Action.DENY):
        return admin is Action.ALLOW, DecidedBy.ADMIN
    if any(value & MIDDLE_DENY for value in hits):
        return False, DecidedBy.DENY
    if (rule_set.isolated_ingress, rule_set.isolated_egress)[side]:
        allowed = any(value & MIDDLE_ALLOW for value in hits)
        return allowed, DecidedBy.ALLOW if allowed else DecidedBy.ISOLATION
    baseline = _strongest(hits, BASELINE_SHIFT, BASELINE_ACTION_SHIFT)
    if baseline in (Action.ALLOW, Action.DENY):
        return baseline is Action.ALLOW, DecidedBy.BASELINE
    return True, DecidedBy.DEFAULT


def _hits(entries: Mapping[int, int], bases: Iterable[int], protocol: int, port: int) -> Iterable[int]:
    parts = [0, protocol << PROTOCOL_SHIFT]
    for bits in range(1, 17):
        leading = port >> (16 - bits) << (16 - bits)
        parts.append(protocol << PROTOCOL_SHIFT | bits << BITS_SHIFT | leading)
    for base in bases:
        for part in parts:
            value = entries.get(base | part)
            if value is not None:
                yield value


def _strongest(hits: Iterable[int], precedence_shift: int, action_shift: int) -> Action:
    ranked = ((value >> precedence_shift & 0xFFFFFFFF, value >> action_shift & 0xFF) for value in hits)
    return Action(max(ranked, default=(0, 0))[1])
