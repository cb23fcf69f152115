"""Policy maps as the agent writes them: deltas, switches, no room, the node itself, CIDRs."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from support.datapath.namespaces import Namespace
from support.datapath.policymodel import TCP, UDP, Said
from support.datapath.policynode import (
    ALLOW,
    OTHER,
    REMOTE,
    again,
    egress,
    only,
    policy_node,
    receive,
    rules_in_kernel,
    send,
    switch,
)
from support.datapath.world import World

from enitide_api.errors import DatapathFailed, InternalError
from enitide_api.reasons import Drop
from enitide_enidp.datapath import (
    EndpointPolicy,
    policycodec,
    syscalls,
)
from enitide_enidp.datapath.policymaps import PolicyMaps
from enitide_policy.mapstate import (
    Direction,
    Peer,
    RuleKey,
    RuleSet,
    RuleSetDelta,
    pack_key,
)
from enitide_policy.numbers import local_number

pytestmark = pytest.mark.bpf


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with policy_node(pins, namespace) as made:
        yield made


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
