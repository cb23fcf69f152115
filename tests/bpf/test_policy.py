from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from support.datapath.namespaces import Namespace, mac
from support.datapath.world import Seen, World, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import EndpointPolicy, Routing
from enitide_enidp.datapath.types import Hook, Onward
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleValue, pack_key, pack_value

pytestmark = pytest.mark.bpf

REMOTE = "10.9.0.7"
ALLOW = pack_value(RuleValue(allow=True))


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        yield made


def tcp(node: World, flags: str = "S", destination: str = REMOTE, port: int = 80) -> bytes:
    ether = Ether(src=node.pod1.pod_mac.hex(":"), dst=mac("pod1").hex(":"))
    return bytes(ether / IP(src=str(node.pod1.ipv4), dst=destination) / TCP(sport=4431, dport=port, flags=flags))


def send(node: World, packet: bytes) -> Seen:
    return node.run(Hook.FROM_POD, packet, ifindex=node.pod1.ifindex)


def test_a_pod_is_closed_until_it_has_a_rule_set(node: World) -> None:
    assert send(node, tcp(node)).drop is Drop.POLICY_PENDING
    node.datapath.policy.apply(RuleSet(7, isolated_ingress=False, isolated_egress=False, entries={}))
    node.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(7, 300))
    assert send(node, tcp(node)).onward is Onward.WIRE


def test_an_isolated_pod_reaches_what_a_rule_allows_and_nothing_else(node: World) -> None:
    key = pack_key(RuleKey(Direction.EGRESS, Peer.ANY, 0, 6, 80, 16))
    node.datapath.policy.apply(RuleSet(7, isolated_ingress=False, isolated_egress=True, entries={key: ALLOW}))
    node.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(7, 300))
    assert send(node, tcp(node)).onward is Onward.WIRE
    assert send(node, tcp(node, port=81)).drop is Drop.POLICY_DEFAULT_DENY
