from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from support.datapath.namespaces import Namespace, mac
from support.datapath.world import Seen, World, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import EndpointPolicy, Routing
from enitide_enidp.datapath.types import Hook, Onward
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleSetDelta, RuleValue, pack_key, pack_value

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


def test_many_changes_at_once_equal_the_same_one_by_one_and_ask_every_connection_again(node: World) -> None:
    policy = node.datapath.policy
    first = pack_key(RuleKey(Direction.EGRESS, Peer.IDENTITY, 300, 6, 80, 16))
    second = pack_key(RuleKey(Direction.EGRESS, Peer.IDENTITY, 301, 6, 80, 16))
    wide = pack_key(RuleKey(Direction.EGRESS, Peer.IDENTITY, 302))
    for number in (7, 8):
        policy.apply(RuleSet(number, isolated_ingress=False, isolated_egress=True, entries={first: ALLOW}))
    policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(7, 299))
    policy.put_identities({ip_address(REMOTE): 301})
    assert send(node, tcp(node)).drop is Drop.POLICY_DEFAULT_DENY
    deltas = [
        RuleSetDelta(n, isolated_ingress=False, isolated_egress=True, puts={second: ALLOW}, deletes=()) for n in (7, 8)
    ]
    assert policy.apply_all(deltas) == 2
    assert policy.entries[0] == 4
    assert send(node, tcp(node)).onward is Onward.WIRE
    # one that needs another shape, and one that takes an entry away: the slow way, with the same end
    delta = RuleSetDelta(7, isolated_ingress=False, isolated_egress=True, puts={wide: ALLOW}, deletes=(second,))
    assert policy.apply_all([delta]) == 2
    assert policy.entries[0] == 4
    assert send(node, tcp(node)).drop is Drop.POLICY_DEFAULT_DENY
    policy.put_identities({ip_address(REMOTE): 302})
    assert send(node, tcp(node, port=9)).onward is Onward.WIRE
