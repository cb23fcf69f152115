"""What the engine says, asked of the kernel: random policies through the real programs, first packet by first packet.

The kernel gets the rule set, the ranges and the identities that the engine gives. A packet must pass exactly if
`policy verdict` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.datapath import policyframes
from support.datapath.namespaces import Namespace
from support.datapath.policymodel import Said
from support.datapath.world import World, world
from unit.policy.strategies import PACKETS, ends_of, policies, worlds

from enitide_api.reasons import Drop
from enitide_enidp.datapath import EndpointPolicy, Routing
from enitide_enidp.datapath.types import Hook
from enitide_policy.evaluate import End, Packet, reserved_of
from enitide_policy.judge import EngineJudge
from enitide_policy.mapstate import Direction
from enitide_policy.model import ICMP

pytestmark = pytest.mark.bpf
PORTS, SETS = count(1), count(1)
BY_POLICY = (Drop.POLICY_DENIED, Drop.POLICY_DEFAULT_DENY)


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        yield made


def alone(ends: list[End]) -> list[End]:
    """Ends whose address nobody else has: the kernel knows one identity for each address."""
    times = Counter(end.address for end in ends)
    return [end for end in ends if times[end.address] == 1 and end.address.version == 4]


def tell(node: World, judge: EngineJudge, subject: End, peers: list[End]) -> None:
    """The subject's policy for pod 1, and who the others are as seen from the subject's node."""
    maps = node.datapath.policy
    number = next(SETS)
    maps.apply(replace(judge.engine.rule_set_of("/".join(subject.pod)), id=number))
    maps.sync_cidrs(judge.engine.cidrs.numbers)
    known = [peer for peer in peers if peer.labels is not None or peer.is_node]
    maps.sync_identities({peer.address: reserved_of(subject, peer) or judge.number_of(peer) for peer in known})
    maps.set_endpoint(node.pod1.ifindex, EndpointPolicy(number, judge.number_of(subject)))
    maps.forget_unclaimed()


def passes(node: World, peer: End, packet: Packet) -> bool:
    port = next(PORTS) % 60000 + 1
    kind = (packet.port, 0) if packet.protocol == ICMP else (0, 0)
    said = Said(node.pod1.ipv4, peer.address, packet.protocol, port, packet.port, flags="S", kind=kind)
    frame = policyframes.frame(said, node.pod1.pod_mac, node.pod1.host_mac)
    drop = node.run(Hook.FROM_POD, frame, ifindex=node.pod1.ifindex).drop
    assert drop is None or drop in BY_POLICY
    return drop is None


@settings(
    max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
@given(made=worlds(), data=st.data())
def test_the_kernel_lets_pass_what_the_engine_allows_and_nothing_else(node, made, data):
    some = [data.draw(policies(f"p{i}")) for i in range(data.draw(st.integers(1, 4)))]
    judge = EngineJudge(made, some)
    subjects, ends = ends_of(made)
    peers = alone(ends)
    subject = data.draw(st.sampled_from(subjects))
    tell(node, judge, subject, peers)
    for peer in peers:
        if peer.pod != subject.pod:
            for packet in PACKETS:
                wanted = judge.decide(Direction.EGRESS, subject, peer, packet)
                assert passes(node, peer, packet) is wanted.allowed, (peer, packet, wanted)
