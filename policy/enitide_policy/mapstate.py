"""What the engine hands to the datapath: rule sets as exact-hash entries, one value for all tiers.

A rule set holds everything that one direction-complete policy says; endpoints with equal policy share one. The kernel
looks up a new flow like this (bpf/include/policy.h; the Python twin in the tests is the reference):

1. The peer's identities: its own (exact tier: pods, nodes; else WORLD or UNKNOWN) and that of the longest CIDR that
   holds its address, if a policy names any. A CIDR identity is looked up twice: as `CIDR_ANY` (rules that match
   whatever has the address, as NetworkPolicy's ipBlock does) and, where the peer has no exact record, as `CIDR_WORLD`
   (rules that match only what is outside, as CiliumNetworkPolicy's CIDRs do). And ANY.
2. For each of them, each L4 shape that the rule set has (bitmaps in its header): no L4; protocol alone; protocol and
   port with 1 to 16 leading bits. An entry hits by equality of the whole key, so a range costs its prefix cover.
3. All hits are folded: the strongest admin; any deny; any allow; the strongest baseline. Then, in this order: admin
   Accept allows, Deny drops, Pass or none goes on; a deny drops; if the direction is isolated, an allow allows and its
   absence drops; baseline Accept allows, Deny drops; else it is allowed.

So deny needs no expansion, and a pass none either. Distillation's only expansion is CIDR containment: an entry of a
shorter prefix is written for every CIDR identity inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


class Direction(IntEnum):
    """Seen from the endpoint whose policy it is."""

    INGRESS = 0
    EGRESS = 1


class Peer(IntEnum):
    """What the `identity` of a key means."""

    ANY = 0  # identity is 0
    IDENTITY = 1
    CIDR_ANY = 2
    CIDR_WORLD = 3


class Action(IntEnum):
    """Of a tiered rule; ALLOW and DENY also of the middle tier."""

    NONE = 0
    ALLOW = 1
    DENY = 2
    PASS = 3


@dataclass(frozen=True, slots=True, order=True)
class RuleKey:
    """One exact-hash key inside a rule set.

    `protocol` 0: any, then `port` and `port_bits` are 0. `port_bits` 0: any port of the protocol; 1 to 16: the leading
    bits of `port` that count, the rest are 0. ICMP and ICMPv6: `port` is type << 8 | code, so a type alone has 8 bits.
    """

    direction: Direction
    peer: Peer
    identity: int
    protocol: int = 0
    port: int = 0
    port_bits: int = 0


@dataclass(frozen=True, slots=True)
class RuleValue:
    """All tiers of one key. Precedence: larger is stronger, 0 with NONE is absent; unique inside a tier and direction.

    `deny` and `allow` are the middle tier (NetworkPolicy and Cilium rules): deny is stronger wherever it stands.
    """

    admin: Action = Action.NONE
    admin_precedence: int = 0
    deny: bool = False
    allow: bool = False
    baseline: Action = Action.NONE
    baseline_precedence: int = 0


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One complete policy. `id` is never reused while an endpoint may still point at it; 0 is "closed".

    `entries` are packed: `pack_key(RuleKey)` -> `pack_value(RuleValue)`, see there.
    """

    id: int
    isolated_ingress: bool
    isolated_egress: bool
    entries: Mapping[int, int]

    def rules(self) -> Iterator[tuple[RuleKey, RuleValue]]:
        """The entries unpacked, for people and tests."""
        return ((unpack_key(key), unpack_value(value)) for key, value in self.entries.items())


@dataclass(frozen=True, slots=True)
class RuleSetDelta:
    """What changed in a rule set since the last delta; keys and values are packed as in `RuleSet`.

    Apply in this order, so that no packet meets a verdict that neither the old nor the new policy gives: `puts` as they
    stand, `isolated_*` (the values from now on), `deletes` as they stand, then the new generation.
    """

    id: int
    isolated_ingress: bool
    isolated_egress: bool
    puts: Mapping[int, int]
    deletes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """All that one batch of events changed, in the order in which it must reach the kernel.

    `early` deltas (rules of peers that came or went, new CIDRs among them); `cidrs` to be entered (so their rules are
    there before them); `created` rule sets; `deltas` of policies; `endpoints` to be switched (their rule set's id; 0
    closes); `cidrs_gone`; `late` deltas (rules of CIDRs that have gone); `dropped` rule sets, to which no endpoint
    points any more. In this order every packet meets the verdict from before or from after.
    """

    early: tuple[RuleSetDelta, ...] = ()
    cidrs: Mapping[Network, int] = field(default_factory=dict)
    created: tuple[RuleSet, ...] = ()
    deltas: tuple[RuleSetDelta, ...] = ()
    endpoints: Mapping[str, int] = field(default_factory=dict)
    cidrs_gone: tuple[Network, ...] = ()
    late: tuple[RuleSetDelta, ...] = ()
    dropped: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        changed = (self.early, self.cidrs, self.created, self.deltas, self.endpoints, self.cidrs_gone, self.late)
        return any(changed) or bool(self.dropped)


# A packed key is the kernel's `struct rule_key` behind its first field, as a little-endian number of 10 bytes, and a
# packed value its `struct rule` of 12 bytes: `(key << 16 | place).to_bytes(12, "little")` and
# `value.to_bytes(12, "little")`.
IDENTITY_SHIFT, DIRECTION_SHIFT, PEER_SHIFT, PROTOCOL_SHIFT, BITS_SHIFT = 16, 48, 56, 64, 72
BASELINE_SHIFT, ADMIN_ACTION_SHIFT, BASELINE_ACTION_SHIFT = 32, 64, 72
MIDDLE_DENY = 1 << 80
MIDDLE_ALLOW = 2 << 80
MAX_PRECEDENCE = (1 << 32) - 1


def pack_key(key: RuleKey) -> int:
    """The key as one number; equal keys are equal numbers."""
    return (
        key.port
        | key.identity << IDENTITY_SHIFT
        | key.direction << DIRECTION_SHIFT
        | key.peer << PEER_SHIFT
        | key.protocol << PROTOCOL_SHIFT
        | key.port_bits << BITS_SHIFT
    )


def unpack_key(packed: int) -> RuleKey:
    """The inverse of `pack_key`."""
    return RuleKey(
        Direction(packed >> DIRECTION_SHIFT & 0xFF),
        Peer(packed >> PEER_SHIFT & 0xFF),
        packed >> IDENTITY_SHIFT & 0xFFFFFFFF,
        packed >> PROTOCOL_SHIFT & 0xFF,
        packed & 0xFFFF,
        packed >> BITS_SHIFT,
    )


def pack_value(value: RuleValue) -> int:
    """The value as one number."""
    return (
        value.admin_precedence
        | value.baseline_precedence << BASELINE_SHIFT
        | value.admin << ADMIN_ACTION_SHIFT
        | value.baseline << BASELINE_ACTION_SHIFT
        | (MIDDLE_DENY if value.deny else 0)
        | (MIDDLE_ALLOW if value.allow else 0)
    )


def unpack_value(packed: int) -> RuleValue:
    """The inverse of `pack_value`."""
    return RuleValue(
        Action(packed >> ADMIN_ACTION_SHIFT & 0xFF),
        packed & 0xFFFFFFFF,
        bool(packed & MIDDLE_DENY),
        bool(packed & MIDDLE_ALLOW),
        Action(packed >> BASELINE_ACTION_SHIFT & 0xFF),
        packed >> BASELINE_SHIFT & 0xFFFFFFFF,
    )
