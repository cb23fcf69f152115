"""The reference evaluator: the order of decision of all languages, written as plainly as it can be.

It asks every policy about one new connection, from its definition, with no identities and no maps. The engine and the
kernel must agree with it; tests hold them to that. It also names the rule that decided, which the kernel's maps do not
carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from enitide_api.reasons import Reason
from enitide_policy.labels import IdentityLabels, Pairs
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import (
    L4,
    PROTOCOLS,
    AnyPeer,
    CidrPeer,
    Peer,
    PodsPeer,
    Policy,
    ReservedPeer,
    Rule,
    Tier,
)
from enitide_policy.numbers import Reserved
from enitide_policy.selectors import flat, flat_node
from enitide_policy.world import Address


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection, as policies see it.

    `labels` is set for a pod with an address of its own, and only then is `pod` its name; `node` is the node it is on,
    or that it is. Neither: outside. `address` None: it has none yet. `node_labels`: of a node, where they are known.
    """

    address: Address | None = None
    pod: tuple[str, str] | None = None
    labels: IdentityLabels | None = None
    node: str = ""
    node_labels: Pairs | None = None

    @property
    def is_node(self) -> bool:
        """A node, or a host-network pod."""
        return self.labels is None and bool(self.node)


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet. `port` is the destination port; of ICMP and ICMPv6 the type."""

    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that was looked at, in order. `matched`: both peer and port; `peer`: the peer alone."""

    policy: Policy
    rule: Rule
    peer: bool
    matched: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What one direction says. `policy` and `rule` are None where no rule decided."""

    allowed: bool
    reason: Reason
    policy: Policy | None = None
    rule: Rule | None = None
    steps: tuple[Step, ...] = ()


def decide(side: Direction, subject: End, peer: End, packet: Packet, policies: Sequence[Policy]) -> Decision:
    """The verdict of `subject`'s policies. Peers that name nodes or Services must be resolved (`world.resolve`)."""
    certain = _needs_no_rule(side, subject, peer)
    if certain is not None:
        return Decision(True, certain)
    labels = flat(subject.labels) if subject.labels is not None else flat_node(subject.node_labels or ())
    mine = [policy for policy in policies if policy.of_nodes is subject.is_node and policy.subject.matches(labels)]
    steps = tuple(_looked_at(side, subject, peer, packet, mine))
    return _settle(side, mine, steps)


def _needs_no_rule(side: Direction, subject: End, peer: End) -> Reason | None:
    """Why no policy is asked at all: nobody's subject, itself, or a node and its own pod if the node began."""
    if subject.labels is None and subject.node_labels is None:
        return Reason.ALLOWED_BY_DEFAULT
    own_node = bool(peer.node) and peer.node == subject.node
    if subject.pod == peer.pod and (subject.pod is not None or (subject.is_node and own_node)):
        return Reason.SELF_TRAFFIC
    pod, node = (subject, peer) if side is Direction.INGRESS else (peer, subject)
    if own_node and node.is_node and pod.labels is not None:
        return Reason.OWN_NODE_TRAFFIC
    return None


def _settle(side: Direction, mine: Sequence[Policy], steps: tuple[Step, ...]) -> Decision:
    hits = [step for step in steps if step.matched]

    def final(step: Step) -> Decision:
        allowed = step.rule.action is Action.ALLOW
        return Decision(allowed, _reason(step.rule), step.policy, step.rule, steps)

    first = next((step for step in hits if step.policy.tier is Tier.ADMIN), None)
    if first and first.rule.action is not Action.PASS:
        return final(first)
    middle = [step for step in hits if step.policy.tier in (Tier.NETWORK_POLICY, Tier.CILIUM)]
    deny = next((step for step in middle if step.rule.action is Action.DENY), None)
    if deny:
        return final(deny)
    if any(side in policy.isolates for policy in mine):
        allow = next(iter(middle), None)
        return final(allow) if allow else Decision(False, Reason.DENIED_BY_ISOLATION, steps=steps)
    last = next((step for step in hits if step.policy.tier is Tier.BASELINE), None)
    if last and last.rule.action is not Action.PASS:
        return final(last)
    return Decision(True, Reason.ALLOWED_BY_DEFAULT, steps=steps)


def _reason(rule: Rule) -> Reason:
    if rule.action is Action.ALLOW:
        return Reason.ALLOWED_BY_RULE
    return Reason.DENIED_FAIL_CLOSED if rule.closed else Reason.DENIED_BY_RULE


def _looked_at(side: Direction, subject: End, peer: End, packet: Packet, mine: Sequence[Policy]) -> Iterator[Step]:
    receiver = subject if side is Direction.INGRESS else peer
    for policy in sorted(mine, key=order):
        for rule in policy.rules:
            if rule.direction is side:
                fits = any(_is_peer(one, subject, peer) for one in rule.peers)
                yield Step(policy, rule, fits, fits and any(_covers(l4, packet, receiver) for l4 in rule.l4))


def order(policy: Policy) -> tuple[int, int, str, str, str, int]:
    """Tier, then priority, then name: the order in which rules are asked, and in which equals are told apart."""
    tier = list(Tier).index(policy.tier)
    return tier, policy.priority, policy.ref.namespace, policy.ref.name, policy.ref.kind, policy.part


def _is_peer(one: Peer, subject: End, peer: End) -> bool:
    if isinstance(one, AnyPeer):
        return True
    if isinstance(one, PodsPeer):
        return peer.labels is not None and one.selector.matches(_flat(peer.labels))
    if isinstance(one, CidrPeer):
        inside = peer.labels is not None or peer.is_node
        return not (one.outside and inside) and _holds(one, peer.address)
    if isinstance(one, ReservedPeer):
        return one.identity is reserved_of(subject, peer)
    raise TypeError(f"{one} is not resolved")


_flat = lru_cache(maxsize=4096)(flat)


def reserved_of(subject: End, peer: End) -> Reserved | None:
    """The reserved identity that `peer` has on `subject`'s node; None for pods."""
    if peer.labels is not None:
        return None
    if not peer.node:
        return Reserved.WORLD
    return Reserved.HOST if peer.node == subject.node else Reserved.REMOTE_NODE


def _holds(one: CidrPeer, address: Address | None) -> bool:
    return address is not None and address in one.network and not any(address in inner for inner in one.excepts)


def _covers(l4: L4, packet: Packet, receiver: End) -> bool:
    if l4.name:
        return packet.port in named_ports(receiver.labels, l4, packet.protocol)
    return l4.protocol in (0, packet.protocol) and (not l4.protocol or l4.first <= packet.port <= l4.last)


def named_ports(labels: IdentityLabels | None, l4: L4, protocol: int) -> set[int]:
    """The numbers of a named port at the pod that receives, for one protocol."""
    ports: Iterable[tuple[str, str, int]] = labels.ports if labels else ()
    return {
        number
        for name, word, number in ports
        if name == l4.name and PROTOCOLS[word] == protocol and l4.protocol in (0, protocol)
    }
