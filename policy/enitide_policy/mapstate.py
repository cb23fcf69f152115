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

from dataclasses import dataclass
from enum import IntEnum


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
    """One complete policy. `id` is never reused while an endpoint may still point at it; 0 is "closed"."""

    id: int
    isolated_ingress: bool
    isolated_egress: bool
    entries: dict[RuleKey, RuleValue]


@dataclass(frozen=True, slots=True)
class RuleSetDelta:
    """What changed in a rule set since the last delta: apply `puts` before `deletes`, then bump its generation.

    `isolated_*` are the values from now on.
    """

    id: int
    isolated_ingress: bool
    isolated_egress: bool
    puts: dict[RuleKey, RuleValue]
    deletes: tuple[RuleKey, ...]
