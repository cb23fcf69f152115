"""Connections under policy: collected when long expired, and what a new one costs and remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.datapath import policyframes
from support.datapath.namespaces import Namespace
from support.datapath.policymodel import TCP, UDP, Said
from support.datapath.policynode import (
    ALLOW,
    OTHER,
    REMOTE,
    egress,
    only,
    policy_node,
    receive,
    send,
    switch,
    table,
)
from support.datapath.world import World

from enitide_enidp.datapath import (
    EndpointPolicy,
    clock,
    codec,
    connections,
    syscalls,
)
from enitide_enidp.datapath.types import Hook
from enitide_policy.mapstate import (
    Direction,
    Peer,
    RuleKey,
    RuleSet,
    pack_key,
)

pytestmark = pytest.mark.bpf


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with policy_node(pins, namespace) as made:
        yield made


# --- connections -----------------------------------------------------------------------------------------------------


def age(node: World, span_s: int) -> None:
    fd = node.loaded.maps["connections"]
    for key, value in syscalls.dump(fd, connections.KEY_BYTES, connections.VALUE_BYTES, 4096):
        left = codec.U32.pack(max(0, connections.expires_of(value) - clock.units(span_s)))
        at = connections.EXPIRES_AT
        syscalls.update(fd, key, value[:at] + left + value[at + 4 :])


def test_collecting_goes_in_slices_and_takes_only_what_has_long_expired(node: World) -> None:
    node.datapath.policy.apply(only(7, egress()))
    switch(node, 7)
    for sport in range(1000, 1300):
        assert send(node, sport=sport) is None
    age(node, 60 + 2 * connections.GRACE_S)
    for sport in range(1000, 1050):
        assert send(node, sport=sport) is None
    slices = []
    while not slices or not slices[-1].wrapped:
        slices.append(node.datapath.policy.collect(64))
    assert len(slices) > 2
    assert sum(each.removed for each in slices) == 250
    assert sorted(each.initiator_port for each in table(node)) == list(range(1000, 1050))


async def test_the_agent_collects_a_slice_at_a_time_by_itself(node: World, monkeypatch) -> None:
    from types import SimpleNamespace

    from enitide_enidp import core
    from enitide_enidp.waits import Waits

    node.datapath.policy.apply(only(7, egress()))
    switch(node, 7)
    for sport in range(1000, 1200):
        assert send(node, sport=sport) is None
    age(node, 60 + 2 * connections.GRACE_S)
    monkeypatch.setattr(core, "_COLLECT_S", 0)
    monkeypatch.setattr(core, "_COLLECT_ENTRIES", 32)
    stand_in = SimpleNamespace(datapath=node.datapath, _waits=Waits(lambda: 0.0))
    task = asyncio.create_task(core.Core.collect(stand_in))
    slices = 0
    while table(node):
        slices += 1
        assert slices < 1000
        await asyncio.wait({task}, timeout=0)
    task.cancel()
    assert slices > 3


def test_one_that_comes_back_to_life_while_it_is_collected_is_kept(node: World, monkeypatch) -> None:
    node.datapath.policy.apply(only(7, egress()))
    switch(node, 7)
    assert send(node) is None
    age(node, 60 + 2 * connections.GRACE_S)
    real = syscalls.take

    def take(*arguments):
        monkeypatch.setattr(syscalls, "take", real)
        assert send(node) is None, "between the look and the removal"
        return real(*arguments)

    monkeypatch.setattr(syscalls, "take", take)
    assert node.datapath.policy.collect().removed == 0
    assert [each.initiator_port for each in table(node)] == [1000]


def test_the_connection_remembers_who_began_it_and_by_which_interface(node: World) -> None:
    policy = node.datapath.policy
    policy.put_identities({REMOTE: 500})
    policy.apply(RuleSet(7, True, False, {pack_key(RuleKey(Direction.INGRESS, Peer.IDENTITY, 500)): ALLOW}))
    switch(node, 7)
    assert receive(node, Said(REMOTE, node.pod1.ipv4, TCP, 4000, 80, "S")) is None
    [made] = table(node)
    assert (made.initiator, made.identity, made.ingress_ifindex) == (REMOTE, 500, node.eni1.ifindex)
    assert (made.initiator_port, made.responder_port) == (4000, 80)


def test_a_new_flow_is_one_map_write_also_between_two_pods_of_the_node_and_a_fragmented_one_two(node: World) -> None:
    policy = node.datapath.policy
    policy.apply(RuleSet(7, False, False, {}))
    for pod in (node.pod1, node.pod2):
        policy.set_endpoint(pod.ifindex, EndpointPolicy(7, 300))

    def entries() -> int:
        layouts = {
            "connections": (codec.CONNECTION_KEY, codec.CONNECTION),
            "fragments": (codec.FRAGMENT_KEY, codec.FRAGMENT),
        }
        return sum(
            len(syscalls.dump(node.loaded.maps[name], key.codec.size, value.codec.size, 4096))
            for name, (key, value) in layouts.items()
        )

    assert send(node) is None
    assert entries() == 1
    assert send(node, node.pod2.ipv4) is None
    assert entries() == 2
    first = Said(node.pod1.ipv4, OTHER, UDP, 1000, 80, fragment="first")
    data = policyframes.frame(first, node.pod1.pod_mac, node.pod1.host_mac)
    assert node.run(Hook.FROM_POD, data, ifindex=node.pod1.ifindex).drop is None
    assert entries() == 4
