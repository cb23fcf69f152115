"""One model for all policy languages: whom a policy selects, whether it isolates, and its rules in written order.

A rule says "these peers, on these ports: allow, deny or pass". Peers are alternatives, ports are alternatives; empty
means none, never all: what matches everything says so (`AnyPeer`, `ANY_L4`). A rule whose meaning is not understood
has been closed by its language already: an Allow with no peers, a Deny of everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from enitide_policy.mapstate import Action, Direction, Network
from enitide_policy.numbers import Reserved
from enitide_policy.problems import ObjectRef
from enitide_policy.selectors import Requirement, Selector

TCP, UDP, SCTP, ICMP, ICMPV6 = 6, 17, 132, 1, 58
PROTOCOLS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}


class Tier(StrEnum):
    """In the order of decision; NetworkPolicy and Cilium rules decide together."""

    ADMIN = "Admin"
    NETWORK_POLICY = "NetworkPolicy"
    CILIUM = "Cilium"
    BASELINE = "Baseline"


@dataclass(frozen=True, slots=True)
class AnyPeer:
    """Everything, in the cluster and outside."""


@dataclass(frozen=True, slots=True)
class PodsPeer:
    """Pods that have an address of their own; host-network pods are their node."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class ReservedPeer:
    """One of the identities that mean the same everywhere, such as the pod's own node."""

    identity: Reserved


@dataclass(frozen=True, slots=True)
class CidrPeer:
    """Addresses of a range without some ranges inside it. `outside`: only what is neither pod nor node."""

    network: Network
    excepts: tuple[Network, ...] = ()
    outside: bool = False


@dataclass(frozen=True, slots=True)
class NodesPeer:
    """All addresses of the nodes whose labels fit. Requirements are on plain label keys."""

    selector: Selector


@dataclass(frozen=True, slots=True)
class ServicePeer:
    """Services by name or by labels.

    They stand for the addresses of their ready endpoints and, unless `addresses`, for the pods that they select.
    `namespace` empty: of any. `name` empty: by `labels`.
    """

    namespace: str
    name: str = ""
    labels: tuple[Requirement, ...] = ()
    addresses: bool = False


Peer = AnyPeer | PodsPeer | ReservedPeer | CidrPeer | NodesPeer | ServicePeer
API_SERVER = ServicePeer("default", "kubernetes", addresses=True)


@dataclass(frozen=True, slots=True)
class L4:
    """A protocol and ports, inclusive; protocol 0 is any, ICMP's included.

    ICMP and ICMPv6: `first` and `last` are types. `name`: the port of that name of the pod that receives, of the
    protocol if one is given; the numbers do not count then.
    """

    protocol: int = 0
    first: int = 0
    last: int = 0xFFFF
    name: str = ""


ANY_L4 = (L4(),)


@dataclass(frozen=True, slots=True)
class Rule:
    """`index` counts from 0 in the list it was written in."""

    direction: Direction
    action: Action
    index: int
    peers: tuple[Peer, ...]
    l4: tuple[L4, ...] = ANY_L4
    closed: bool = False

    def close(self) -> Rule:
        """What stands for this rule where it cannot be understood: Allow matches nothing, Deny and Pass deny all."""
        if self.action is Action.ALLOW:
            return Rule(self.direction, self.action, self.index, (), (), closed=True)
        return Rule(self.direction, Action.DENY, self.index, (AnyPeer(),), ANY_L4, closed=True)


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, or one spec of a Cilium policy with several (`part` counts them).

    `priority`: lower is stronger; only Admin and Baseline have one. `isolates`: directions in which the pods it selects
    accept nothing that no rule allows. `of_nodes`: it selects nodes, by their own labels, and no pod.
    """

    ref: ObjectRef
    tier: Tier
    subject: Selector
    rules: tuple[Rule, ...]
    isolates: frozenset[Direction] = frozenset()
    priority: int = 0
    part: int = 0
    of_nodes: bool = False
