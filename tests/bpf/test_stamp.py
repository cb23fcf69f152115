"""The short way of established packets: what it saves, and that nothing that changes is missed by it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest
from support.datapath import policyframes
from support.datapath.namespaces import Namespace, ifindex, mac
from support.datapath.policymodel import UDP, Said
from support.datapath.world import Seen, World, endpoint, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import (
    Datapath,
    EndpointPolicy,
    NodeConfig,
    Routing,
    codec,
    policycodec,
    policyviews,
    syscalls,
)
from enitide_enidp.datapath.addresses import Epochs
from enitide_enidp.datapath.stamp import Stamp
from enitide_enidp.datapath.types import Hook, Onward
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleSetDelta, RuleValue, pack_key, pack_value
from enitide_policy.numbers import local_number

pytestmark = pytest.mark.bpf

ALLOW = pack_value(RuleValue(allow=True))
ANY_OUT, ANY_IN = (pack_key(RuleKey(side, Peer.ANY, 0)) for side in (Direction.EGRESS, Direction.INGRESS))
PEER_OUT = pack_key(RuleKey(Direction.EGRESS, Peer.IDENTITY, 500))
REMOTE, GROUP = IPv4Address("10.9.0.7"), IPv4Address("224.0.0.9")
BOTH = RuleSet(7, True, True, {ANY_OUT: ALLOW, ANY_IN: ALLOW})


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        made.datapath.policy.apply(BOTH)
        for pod, identity in ((made.pod1, 300), (made.pod2, 301)):
            made.datapath.policy.set_endpoint(pod.ifindex, EndpointPolicy(7, identity))
        yield made


def send(node: World, to: IPv4Address = REMOTE) -> Seen:
    data = policyframes.frame(Said(node.pod1.ipv4, to, UDP, 1000, 80), node.pod1.pod_mac, node.pod1.host_mac)
    return node.run(Hook.FROM_POD, data, ifindex=node.pod1.ifindex)


def answer(node: World, by: IPv4Address = REMOTE) -> Seen:
    data = policyframes.frame(Said(by, node.pod1.ipv4, UDP, 80, 1000), bytes(6), mac("eni1"))
    return node.run(Hook.FROM_WIRE, data, ifindex=node.eni1.ifindex)


def checked(node: World) -> list[tuple[int, int]]:
    """What each connection remembers: of the responder's policy, of the initiator's."""
    start, size = codec.CONNECTION.offsets()["checked"]
    found = syscalls.dump(node.loaded.maps["connections"], 40, codec.CONNECTION.codec.size, 4096)
    return [struct.unpack_from("=QQ", value, start) for _, value in found if size == 16]


def test_an_established_packet_asks_no_map_whose_its_addresses_are(node: World) -> None:
    assert [send(node).onward for _ in range(2)] == [Onward.WIRE] * 2
    assert [send(node, node.pod2.ipv4).onward for _ in range(2)] == [Onward.PEER] * 2
    maps = node.datapath._maps
    maps.node_addresses.put(REMOTE, node.eni1.ifindex)
    maps.local.delete(node.pod2.ipv4)
    assert send(node).onward is Onward.WIRE, "it was not looked up"
    assert send(node, node.pod2.ipv4).onward is Onward.PEER
    maps.local.delete(node.pod1.ipv4)
    assert answer(node).onward is Onward.PEER, "nor on the way back"
    Stamp(node.loaded.maps).renew()
    assert send(node).onward is Onward.STACK
    assert send(node, node.pod2.ipv4).onward is Onward.WIRE


def test_a_connection_is_compared_once_for_each_stamp(node: World) -> None:
    send(node), send(node)
    ((responder, initiator),) = checked(node)
    place = node.datapath._places.of(node.pod1.ifindex)
    assert place is not None
    now = Stamp(node.loaded.maps).read()
    assert (responder, initiator) == (0, now << 16 | 0x8000 | place)
    policies = node.loaded.maps["policies"]
    syscalls.update(policies, codec.U32.pack(place), bytes(8))
    assert send(node).drop is None, "somebody who changes a policy and does not say so is not heard"
    Stamp(node.loaded.maps).renew()
    assert send(node).drop is Drop.POLICY_PENDING


def test_without_a_stamp_nothing_takes_the_short_way(node: World) -> None:
    send(node), send(node)
    syscalls.update(node.loaded.maps["stamp"], bytes(4), bytes(8))
    node.datapath._maps.node_addresses.put(REMOTE, node.eni1.ifindex)
    assert send(node).onward is Onward.STACK


def pod9() -> object:
    return replace(endpoint("stranger", 3, 1, "eni1"), ipv4=IPv4Address("10.0.1.99"), ipv6=None)


CHANGES: dict[str, Callable[[World], object]] = {
    "a new rule set": lambda node: node.datapath.policy.apply(replace(BOTH, id=8)),
    "an entry more": lambda node: node.datapath.policy.apply(RuleSetDelta(7, True, True, {PEER_OUT: ALLOW}, ())),
    "entries of many": lambda node: node.datapath.policy.apply_all(
        [RuleSetDelta(7, True, True, {pack_key(RuleKey(Direction.EGRESS, Peer.ANY, 0)): ALLOW}, ())]
    ),
    "an entry less": lambda node: node.datapath.policy.apply(RuleSetDelta(7, True, True, {}, (ANY_OUT,))),
    "a rule set gone": lambda node: node.datapath.policy.retire(7),
    "an identity": lambda node: node.datapath.policy.put_identities({REMOTE: 500}),
    "an identity gone": lambda node: node.datapath.policy.delete_identities([REMOTE]),
    "all identities": lambda node: node.datapath.policy.sync_identities({REMOTE: 500}),
    "a CIDR": lambda node: node.datapath.policy.put_cidrs({ip_network("10.9.0.0/16"): local_number(1)}),
    "the cluster's networks": lambda node: node.datapath.policy.set_cluster_networks([ip_network("10.9.0.0/16")]),
    "a pod's policy": lambda node: node.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(7, 999)),
    "the node's policy": lambda node: node.datapath.policy.set_host(EndpointPolicy(7, 1)),
    "a pod": lambda node: node.datapath.put_endpoint(pod9()),
    "a pod gone": lambda node: node.datapath.delete_endpoint(node.pod2.ifindex),
    "all pods": lambda node: node.datapath.sync([node.pod1]),
    "the node's addresses": lambda node: node.datapath.set_node_addresses({REMOTE: node.eni1.ifindex}),
    "epochs by hand": lambda node: Epochs(node.loaded.maps).bump([REMOTE]),
    "bpf policy flush": lambda node: policyviews.ask_again(node.loaded.maps),
    "an agent that starts": lambda node: Datapath.open(
        node.datapath._pin_dir, NodeConfig(routing=Routing.DIRECT, policy=True)
    ).close(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_change_that_a_verdict_or_a_way_rests_on_renews_the_stamp(node: World, what: str) -> None:
    stamp = Stamp(node.loaded.maps)
    before = stamp.read()
    CHANGES[what](node)
    assert stamp.read() not in (0, before)


def test_a_live_connection_follows_its_peer_that_becomes_a_pod_of_this_node(node: World) -> None:
    assert [send(node).onward for _ in range(2)] == [Onward.WIRE] * 2
    moved = replace(endpoint("stranger", 3, 1, "eni1"), ipv4=REMOTE, ipv6=None)
    node.datapath.put_endpoint(moved)
    assert send(node).drop is Drop.POLICY_PENDING, "the pod that has the address now is asked"
    node.datapath.policy.set_endpoint(moved.ifindex, EndpointPolicy(7, 302))
    assert [send(node).onward for _ in range(2)] == [Onward.PEER] * 2
    node.datapath.delete_endpoint(moved.ifindex)
    assert send(node).onward is Onward.WIRE


def test_what_a_pod_was_sent_does_not_reach_the_next_one_on_its_place(node: World) -> None:
    assert [send(node, node.pod2.ipv4).onward for _ in range(2)] == [Onward.PEER] * 2
    place = node.datapath._places.of(node.pod2.ifindex)
    node.datapath.delete_endpoint(node.pod2.ifindex)
    node.datapath.put_endpoint(pod9())
    assert node.datapath._places.of(ifindex("stranger")) == place
    assert send(node, node.pod2.ipv4).onward is Onward.WIRE


def test_what_goes_to_many_stays_with_the_stack_also_when_a_pod_got_it(node: World) -> None:
    group = Said(node.pod1.ipv4, GROUP, UDP, 1000, 80)
    for _ in range(2):
        assert send(node, GROUP).onward is Onward.STACK
        to_pod2 = policyframes.frame(group, node.pod2.host_mac, node.pod2.pod_mac)
        seen = node.run(Hook.TO_POD, to_pod2, ifindex=node.pod2.ifindex, came_in_by=node.pod1.ifindex)
        assert (seen.drop, seen.onward) == (None, Onward.STACK)
    assert send(node, GROUP).onward is Onward.STACK


def test_an_agent_that_died_between_a_write_and_its_count_is_made_good_by_the_next(node: World, pins: Path) -> None:
    policy = node.datapath.policy
    policy.put_identities({REMOTE: 500})
    policy.apply(RuleSet(8, True, True, {PEER_OUT: ALLOW, ANY_IN: ALLOW}))
    policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(8, 300))
    assert [send(node).drop, send(node).drop] == [None, None]
    syscalls.update(node.loaded.maps["identities"], codec.encode_address(REMOTE), codec.U32.pack(501))
    assert send(node).drop is None, "not counted: the connection does not know"
    second = Datapath.open(pins, NodeConfig(routing=Routing.DIRECT, policy=True))
    try:
        second.policy.apply(RuleSet(1, True, True, {PEER_OUT: ALLOW, ANY_IN: ALLOW}))
        second.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(1, 300))
        second.policy.sync_identities({REMOTE: 501})
    finally:
        second.close()
    assert send(node).drop is Drop.POLICY_DEFAULT_DENY


def test_entries_that_were_not_counted_are_asked_after_a_restart(node: World, pins: Path) -> None:
    policy = node.datapath.policy
    place = policy.apply(RuleSet(8, False, True, {ANY_OUT: ALLOW})).place
    policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(8, 300))
    assert [send(node).drop, send(node).drop] == [None, None]
    syscalls.delete(node.loaded.maps["rules"], policycodec.encode_key(place, ANY_OUT))
    second = Datapath.open(pins, NodeConfig(routing=Routing.DIRECT, policy=True))
    try:
        assert second.policy.apply(RuleSet(1, False, True, {})).adopted
    finally:
        second.close()
    assert send(node).drop is Drop.POLICY_DEFAULT_DENY
