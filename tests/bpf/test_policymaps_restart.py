"""Policy maps of an agent that starts again: what is kept, what is closed, what nobody claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from support.datapath import policyframes
from support.datapath.namespaces import Namespace, ifindex
from support.datapath.policymodel import UDP, Said
from support.datapath.policynode import (
    POLICY,
    REMOTE,
    again,
    egress,
    only,
    policy_node,
    rules_in_kernel,
    send,
    switch,
    table,
)
from support.datapath.world import World, endpoint, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import (
    Datapath,
    EndpointPolicy,
    Routing,
    loader,
    policycodec,
    syscalls,
)
from enitide_enidp.datapath.types import Hook

pytestmark = pytest.mark.bpf


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with policy_node(pins, namespace) as made:
        yield made


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
