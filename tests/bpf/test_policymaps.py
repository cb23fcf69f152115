from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest
from support.datapath import policyframes
from support.datapath.namespaces import Namespace, ifindex, mac
from support.datapath.policymodel import TCP, UDP, Said
from support.datapath.world import World, endpoint, world

from enitide_api.errors import DatapathFailed, InternalError
from enitide_api.reasons import Drop
from enitide_enidp.datapath import (
    Datapath,
    EndpointPolicy,
    NodeConfig,
    Routing,
    clock,
    codec,
    connections,
    loader,
    policycodec,
    syscalls,
)
from enitide_enidp.datapath.policymaps import PolicyMaps
from enitide_enidp.datapath.types import Hook
from enitide_policy.mapstate import (
    Direction,
    Peer,
    RuleKey,
    RuleSet,
    RuleSetDelta,
    RuleValue,
    pack_key,
    pack_value,
)
from enitide_policy.numbers import local_number

pytestmark = pytest.mark.bpf

ALLOW, DENY = pack_value(RuleValue(allow=True)), pack_value(RuleValue(deny=True))
REMOTE, OTHER = ip_address("10.9.0.7"), ip_address("10.9.0.8")
POLICY = NodeConfig(policy=True)


def egress(identity: int = 0, protocol: int = 0, port: int = 0, bits: int = 0) -> int:
    peer = Peer.IDENTITY if identity else Peer.ANY
    return pack_key(RuleKey(Direction.EGRESS, peer, identity, protocol, port, bits))


def only(number: int, *keys: int) -> RuleSet:
    """A rule set that isolates egress and allows these."""
    return RuleSet(number, False, True, dict.fromkeys(keys, ALLOW))


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        yield made


def send(node: World, to: object = REMOTE, sport: int = 1000) -> Drop | None:
    said = Said(node.pod1.ipv4, to, UDP, sport, 80)
    data = policyframes.frame(said, node.pod1.pod_mac, node.pod1.host_mac)
    return node.run(Hook.FROM_POD, data, ifindex=node.pod1.ifindex).drop


def receive(node: World, said: Said) -> Drop | None:
    data = policyframes.frame(said, bytes(6), mac("eni1"))
    return node.run(Hook.FROM_WIRE, data, ifindex=node.eni1.ifindex).drop


def switch(node: World, number: int, identity: int = 300) -> None:
    assert node.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(number, identity))


def rules_in_kernel(node: World) -> int:
    return len(syscalls.dump(node.loaded.maps["rules"], policycodec.KEY_BYTES, policycodec.RULE_BYTES, 1 << 20))


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_delta_changes_what_connections_may_both_ways(node: World) -> None:
    policy = node.datapath.policy
    policy.apply(only(7, egress()))
    switch(node, 7)
    assert send(node) is None
    assert receive(node, Said(REMOTE, node.pod1.ipv4, UDP, 80, 1000)) is None
    policy.apply(RuleSetDelta(7, False, True, {}, (egress(),)))
    assert send(node) is Drop.POLICY_DEFAULT_DENY
    assert receive(node, Said(REMOTE, node.pod1.ipv4, UDP, 80, 1000)) is Drop.POLICY_DEFAULT_DENY, "the replies too"
    policy.apply(RuleSetDelta(7, False, True, {egress(): ALLOW}, ()))
    assert receive(node, Said(REMOTE, node.pod1.ipv4, UDP, 80, 1000)) is None, "and it comes back to life"


def test_an_identity_that_changes_cuts_its_established_connections_and_no_others(node: World) -> None:
    policy = node.datapath.policy
    policy.put_identities({REMOTE: 500, OTHER: 500})
    policy.apply(only(7, egress(500)))
    switch(node, 7)
    assert [send(node), send(node), send(node, OTHER)] == [None, None, None]
    policy.put_identities({REMOTE: 501})
    assert send(node) is Drop.POLICY_DEFAULT_DENY
    assert send(node, OTHER) is None
    policy.delete_identities([OTHER])
    assert send(node, OTHER) is Drop.POLICY_DEFAULT_DENY


def test_a_switch_of_the_rule_set_is_one_write_and_holds_for_established_connections(node: World) -> None:
    policy = node.datapath.policy
    policy.apply(only(7, egress()))
    policy.apply(only(8))
    switch(node, 7)
    assert send(node) is None
    switch(node, 8)
    assert send(node) is Drop.POLICY_DEFAULT_DENY
    switch(node, 0)
    assert send(node) is Drop.POLICY_PENDING


def test_an_endpoint_cannot_point_at_a_rule_set_that_was_never_applied(node: World) -> None:
    with pytest.raises(InternalError, match="apply it before"):
        switch(node, 99)
    with pytest.raises(InternalError, match="apply the whole of it first"):
        node.datapath.policy.apply(RuleSetDelta(99, False, False, {}, ()))


def test_a_place_that_is_used_again_remembers_nothing_of_its_last_holder(node: World) -> None:
    policy = node.datapath.policy
    place = policy.apply(only(7, egress())).place
    switch(node, 7)
    assert send(node) is None
    switch(node, 0)
    policy.retire(7)
    assert rules_in_kernel(node) == 0
    assert policy.apply(only(8)).place == place
    switch(node, 8)
    assert send(node) is Drop.POLICY_DEFAULT_DENY


def test_one_identity_more_is_one_write_and_leaves_the_bitmaps_alone(node: World, monkeypatch) -> None:
    policy = node.datapath.policy
    policy.apply(only(7, egress(500), egress(501)))
    calls: list[str] = []
    for name in ("update", "update_packed", "delete_batch"):
        real = getattr(syscalls, name)
        monkeypatch.setattr(syscalls, name, lambda *a, real=real, name=name: (calls.append(name), real(*a))[1])
    applied = policy.apply(RuleSetDelta(7, False, True, {egress(502): ALLOW}, ()))
    assert applied.writes == 1
    assert calls == ["update_packed", *["update"] * 3], "the entry, then the head, its generation, the stamp"


def test_entries_that_somebody_changed_are_put_right_and_reported(node: World) -> None:
    policy = node.datapath.policy
    place = policy.apply(only(7, egress(5))).place
    switch(node, 7)
    assert policy.repair() == []
    rules = node.loaded.maps["rules"]
    syscalls.update(rules, policycodec.encode_key(place, egress()), ALLOW.to_bytes(12, "little"))
    syscalls.delete(rules, policycodec.encode_key(place, egress(5)))
    syscalls.update(rules, policycodec.encode_key(99, egress()), ALLOW.to_bytes(12, "little"))
    said = policy.repair()
    assert ["no rule set" in said[0], "rule set 7" in said[1], len(said)] == [True, True, 2]
    assert policy.repair() == []
    policy.put_identities({REMOTE: 5})
    assert (send(node), send(node, OTHER)) == (None, Drop.POLICY_DEFAULT_DENY)


# --- no room ---------------------------------------------------------------------------------------------------------


def many(number: int, count: int) -> RuleSet:
    return RuleSet(number, False, True, {egress(1000 + i): ALLOW for i in range(count)})


def test_a_rule_set_that_does_not_fit_closes_alone_and_opens_when_room_comes(node: World) -> None:
    """The kernel's map is really filled; what it refuses is what closes."""
    policy = node.datapath.policy
    switch(node, 0)
    assert not policy.apply(only(7, egress())).closed
    big = policy.apply(many(8, policycodec.MAX_RULES - 1))
    assert not big.closed
    assert policy.entries == (policycodec.MAX_RULES, policycodec.MAX_RULES)
    late = policy.apply(only(9, egress(1), egress(2)))
    assert late.closed
    assert policy.closed == {9}
    switch(node, 7)
    assert send(node) is None, "others are unharmed"
    switch(node, 9)
    assert send(node) is Drop.POLICY_MAP_FULL
    policy.put_identities({REMOTE: 1})
    policy.retire(8)
    assert policy.closed == frozenset()
    assert send(node) is None


def test_what_the_kernel_itself_refuses_closes_too(node: World) -> None:
    """Our own count of entries is believed only until the kernel says otherwise."""
    maps = PolicyMaps(node.loaded.maps, node.datapath._places, capacity=10 * policycodec.MAX_RULES)
    assert not maps.apply(only(7, egress())).closed
    assert maps.apply(many(8, policycodec.MAX_RULES + 5)).closed
    assert rules_in_kernel(node) == 1, "what was written of it has gone: room for others"
    assert not maps.apply(only(9, egress(), egress(1))).closed


def test_a_delta_that_does_not_fit_closes_its_rule_set(node: World) -> None:
    maps = PolicyMaps(node.loaded.maps, node.datapath._places, capacity=3)
    maps.apply(only(7, egress(1), egress(2)))
    maps.apply(only(8, egress(1)))
    assert maps.apply(RuleSetDelta(7, False, True, {egress(3): ALLOW}, ())).closed
    assert maps.closed == {7}
    assert not maps.apply(RuleSetDelta(7, False, True, {}, (egress(1),))).closed, "it fits again"
    assert rules_in_kernel(node) == 3


# --- restart ---------------------------------------------------------------------------------------------------------


def again(pins: Path) -> Datapath:
    return Datapath.open(pins, POLICY)


def test_a_restart_keeps_connections_and_adopts_rule_sets_by_what_they_say(node: World, pins: Path) -> None:
    policy = node.datapath.policy
    policy.apply(only(7, egress(0, UDP)))
    switch(node, 7)
    assert send(node) is None
    before = syscalls.dump(node.loaded.maps["rulesets"], 4, policycodec.RULESET_BYTES, policycodec.MAX_RULESETS)
    second = again(pins)
    assert second.adopted
    assert send(node) is None, "with no agent yet"
    applied = second.policy.apply(only(70, egress(0, UDP)))
    assert (applied.adopted, applied.writes) == (True, 0)
    assert second.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(70, 300))
    assert second.policy.endpoint(node.pod1.ifindex) == EndpointPolicy(70, 300)
    after = syscalls.dump(node.loaded.maps["rulesets"], 4, policycodec.RULESET_BYTES, policycodec.MAX_RULESETS)
    generations = [sum(policycodec.decode_head(value).generation for _, value in each) for each in (before, after)]
    assert generations[1] == generations[0] + 1, "connections are asked once more"
    assert (send(node), len(table(node))) == (None, 1), "and live on"
    assert second.policy.forget_unclaimed() == 0
    second.close()


def test_what_nobody_claims_after_a_restart_goes_once_no_pod_has_it(node: World, pins: Path) -> None:
    node.datapath.policy.apply(only(7, egress()))
    node.datapath.policy.apply(only(8, egress(5), egress(6)))
    switch(node, 8)
    second = again(pins)
    assert second.policy.forget_unclaimed() == 1, "7; 8 is in use"
    assert rules_in_kernel(node) == 2
    second.policy.apply(only(70))
    second.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(70, 300))
    assert second.policy.forget_unclaimed() == 1
    assert rules_in_kernel(node) == 0
    second.close()


@pytest.mark.parametrize("nth", range(1, 5))
def test_an_agent_that_dies_while_it_writes_opens_nothing(node: World, pins: Path, monkeypatch, nth: int) -> None:
    """Head closed, entries, head, generation: death before any of them, and the next agent puts it right."""
    calls = 0

    def dying(real):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == nth:
                raise KeyboardInterrupt
            return real(*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("update", "update_packed"):
            patch.setattr(syscalls, name, dying(getattr(syscalls, name)))
        with pytest.raises(KeyboardInterrupt):
            node.datapath.policy.apply(only(7, egress(5), egress(6)))
    second = again(pins)
    second.policy.apply(only(70, egress(5), egress(6)))
    second.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(70, 300))
    second.policy.forget_unclaimed()
    assert send(node) is Drop.POLICY_DEFAULT_DENY
    second.policy.put_identities({REMOTE: 5})
    assert send(node) is None
    assert rules_in_kernel(node) == 2
    second.close()


def test_a_new_pod_is_closed_from_its_first_moment_and_a_known_one_keeps_what_it_has(node: World, pins: Path) -> None:
    node.datapath.policy.apply(only(7, egress()))
    switch(node, 7)
    second = again(pins)
    second.sync([node.pod1, node.pod2])
    assert send(node) is None
    second.delete_endpoint(node.pod1.ifindex)
    second.put_endpoint(node.pod1)
    assert send(node) is Drop.POLICY_PENDING, "another pod on the same device"
    second.close()


def test_turning_policy_on_does_not_cut_the_pods_that_are_there(pins: Path, namespace: Namespace) -> None:
    with world(pins, namespace, Routing.DIRECT) as node:
        second = again(pins)
        second.sync([node.pod1, node.pod2])
        assert send(node) is None, "until its policy is in"
        second.policy.apply(only(7))
        second.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(7, 300))
        assert send(node, sport=1001) is Drop.POLICY_DEFAULT_DENY
        second.close()


def test_pods_of_an_earlier_schema_stay_open_until_their_policy_is_in(pins: Path, namespace: Namespace) -> None:
    with world(pins, namespace, Routing.DIRECT) as old:
        loader.schema_dir(pins).rename(pins / "v1")
        fresh = Datapath.open(pins, POLICY)
        loaded = loader.load(pins, POLICY)
        try:
            stranger = replace(endpoint("stranger", 3, 1, "eni1"), ipv4=IPv4Address("10.0.1.77"), ipv6=None)
            fresh.sync([old.pod1, stranger])
            now = World(fresh, loaded, old.pod1, stranger, old.eni1, old.eni2, old.stranger, old.node_addresses)
            assert send(now) is None
            data = policyframes.frame(Said(stranger.ipv4, REMOTE, UDP, 1, 2), stranger.pod_mac, stranger.host_mac)
            assert now.run(Hook.FROM_POD, data, ifindex=ifindex("stranger")).drop is Drop.POLICY_PENDING
        finally:
            loaded.close()
            fresh.close()


# --- connections -----------------------------------------------------------------------------------------------------


def age(node: World, span_s: int) -> None:
    fd = node.loaded.maps["connections"]
    for key, value in syscalls.dump(fd, connections.KEY_BYTES, connections.VALUE_BYTES, 4096):
        left = codec.U32.pack(max(0, connections.expires_of(value) - clock.units(span_s)))
        at = connections.EXPIRES_AT
        syscalls.update(fd, key, value[:at] + left + value[at + 4 :])


def table(node: World) -> list[connections.Connection]:
    return [each for _, each in connections.Connections(node.loaded.maps["connections"]).all()]


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


# --- the node itself -------------------------------------------------------------------------------------------------


def test_policy_holds_for_the_node_itself_only_where_it_was_asked_for(node: World) -> None:
    policy, own = node.datapath.policy, node.node_addresses[0]
    policy.apply(RuleSet(7, True, False, {pack_key(RuleKey(Direction.INGRESS, Peer.ANY, 0, TCP, 22, 16)): ALLOW}))
    assert receive(node, Said(REMOTE, own, TCP, 4000, 80, "S")) is None, "a node starts without"
    policy.set_host(EndpointPolicy(7, 1, enforce=False))
    assert receive(node, Said(REMOTE, own, TCP, 4001, 80, "S")) is None, "tracked, not enforced"
    policy.set_host(EndpointPolicy(7, 1))
    assert receive(node, Said(REMOTE, own, TCP, 4002, 80, "S")) is Drop.POLICY_DEFAULT_DENY
    assert receive(node, Said(REMOTE, own, TCP, 4002, 22, "S")) is None
    policy.set_host(None)
    assert receive(node, Said(REMOTE, own, TCP, 4003, 80, "S")) is None


# --- CIDRs -----------------------------------------------------------------------------------------------------------


def test_the_clusters_own_networks_inherit_the_identity_of_the_cidr_around_them(node: World) -> None:
    policy = node.datapath.policy
    policy.set_cluster_networks([ip_network("10.9.0.0/24")])
    policy.put_cidrs({ip_network("10.0.0.0/8"): local_number(1)})
    rules = {pack_key(RuleKey(Direction.EGRESS, Peer.CIDR_ANY, local_number(1))): ALLOW}
    policy.apply(RuleSet(7, False, True, rules))
    switch(node, 7)
    assert send(node) is None
    policy.delete_cidrs([ip_network("10.0.0.0/8")])
    assert send(node) is Drop.IDENTITY_UNKNOWN


def test_sync_makes_both_tiers_what_is_wanted(node: World, pins: Path) -> None:
    policy = node.datapath.policy
    policy.put_identities({REMOTE: 5, OTHER: 6})
    policy.put_cidrs({ip_network("10.0.0.0/8"): local_number(1), ip_network("10.9.0.0/16"): local_number(2)})
    second = again(pins)
    assert second.policy.sync_identities({REMOTE: 5}) == 1
    assert second.policy.sync_cidrs({ip_network("10.0.0.0/8"): local_number(1)}) == 1
    assert (second.policy.identity_of(REMOTE), second.policy.identity_of(OTHER)) == (5, None)
    second.close()


def test_a_place_runs_out_with_a_sentence_and_not_a_crash(node: World) -> None:
    from enitide_enidp.datapath.places import Places

    places = Places({i: i for i in range(1, policycodec.MAX_PLACES)})
    with pytest.raises(DatapathFailed, match="4095 are in use"):
        places.take(9999)
    places.give_back(17)
    assert places.take(9999) == 17
