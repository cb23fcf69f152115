"""An agent of a build with other layouts takes over: what the datapath knew lives on, in the programs' own words."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.datapath import policyframes
from support.datapath.former import to_schema_2
from support.datapath.namespaces import Namespace, mac
from support.datapath.policymodel import TCP, Said
from support.datapath.world import World, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import Datapath, EndpointPolicy, NodeConfig, Routing, codec, loader, syscalls, upgrade
from enitide_enidp.datapath.types import Hook
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleValue, pack_key, pack_value

pytestmark = pytest.mark.bpf

CONFIG = NodeConfig(routing=Routing.DIRECT, policy=True)
PEER, STRANGER = (codec.IPv4Address(text) for text in ("10.9.0.7", "10.9.0.8"))
ALLOW = pack_value(RuleValue(allow=True))
RULES = RuleSet(7, True, True, {pack_key(RuleKey(Direction.EGRESS, Peer.IDENTITY, 500)): ALLOW})
BATCH_BYTES = 4096


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        made.datapath.policy.put_identities({PEER: 500})
        made.datapath.policy.apply(RULES)
        made.datapath.policy.set_endpoint(made.pod1.ifindex, EndpointPolicy(7, 300))
        yield made


def out(node: World, to: codec.Address = PEER, flags: str = "S", sport: int = 1000) -> Drop | None:
    data = policyframes.frame(Said(node.pod1.ipv4, to, TCP, sport, 80, flags), node.pod1.pod_mac, node.pod1.host_mac)
    return node.run(Hook.FROM_POD, data, ifindex=node.pod1.ifindex).drop


def back(node: World, flags: str = "SA", sport: int = 1000) -> Drop | None:
    data = policyframes.frame(Said(PEER, node.pod1.ipv4, TCP, 80, sport, flags), bytes(6), mac("eni1"))
    return node.run(Hook.FROM_WIRE, data, ifindex=node.eni1.ifindex).drop


def shake_hands(node: World, sport: int = 1000) -> None:
    assert [out(node, sport=sport), back(node, sport=sport), out(node, flags="A", sport=sport)] == [None] * 3


@contextmanager
def upgraded(node: World, pins: Path) -> Iterator[World]:
    fresh = Datapath.open(pins, CONFIG)
    loaded = loader.load(pins, CONFIG)
    try:
        yield replace(node, datapath=fresh, loaded=loaded)
    finally:
        loaded.close()
        fresh.close()


def test_an_established_connection_survives_an_upgrade_to_another_layout(node: World, pins: Path) -> None:
    shake_hands(node)
    assert back(node, sport=1001) is Drop.POLICY_DEFAULT_DENY, "only as the reply that it is"
    to_schema_2(pins)
    with upgraded(node, pins) as now:
        assert now.datapath.lost == ()
        assert back(now, flags="A") is None, "before the agent has said a word"
        now.datapath.sync([node.pod1, node.pod2])
        assert [back(now, flags="A"), out(now, flags="A")] == [None, None]
        assert back(now, flags="A", sport=1001) is Drop.POLICY_DEFAULT_DENY


def test_policy_is_in_force_from_the_first_packet_of_an_upgrade_and_still_changes(node: World, pins: Path) -> None:
    shake_hands(node)
    to_schema_2(pins)
    with upgraded(node, pins) as now:
        assert out(now, STRANGER) is Drop.POLICY_DEFAULT_DENY
        now.datapath.sync([node.pod1, node.pod2])
        assert out(now, STRANGER) is not None, "nothing opens when the agent tells of its pods again"
        assert now.datapath.policy.apply(replace(RULES, id=1)).adopted
        now.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(1, 300))
        assert [back(now, flags="A"), out(now, flags="A")] == [None, None]
        now.datapath.policy.put_identities({PEER: 501})
        assert [back(now, flags="A"), out(now, flags="A")] == [Drop.POLICY_DEFAULT_DENY] * 2


def test_a_connection_that_began_while_the_old_programs_still_ran_is_carried_over_before_they_go(
    node: World, pins: Path
) -> None:
    shake_hands(node)
    to_schema_2(pins)
    with upgraded(node, pins) as now:
        pin = syscalls.pinned(pins / "v2" / "maps" / "connections")
        [(key, value)] = syscalls.dump(pin, 40, 32, BATCH_BYTES)
        late = key[:32] + struct.pack("=HH", *(p + 1 if p == 1000 else p for p in struct.unpack("=HH", key[32:36])))
        syscalls.update(pin, late + key[36:], value)
        os.close(pin)
        assert back(now, flags="A", sport=1001) is Drop.POLICY_DEFAULT_DENY
        now.datapath.sync([node.pod1, node.pod2])
        said = now.datapath.reconcile_attachments(set(), [node.eni1, node.eni2])
        assert any("v2 (1 connections that began meanwhile" in text for text in said), said
        assert back(now, flags="A", sport=1001) is None
        assert not (pins / "v2").exists()


@pytest.mark.parametrize("name", ["v1", "v99"])
def test_a_layout_that_is_not_known_is_said_and_its_connections_are_judged_anew(
    node: World, pins: Path, name: str
) -> None:
    shake_hands(node)
    to_schema_2(pins, name)
    with upgraded(node, pins) as now:
        [said] = now.datapath.lost
        assert name in said
        assert "judged anew" in said
        now.datapath.sync([node.pod1, node.pod2])
        now.datapath.policy.apply(RULES)
        now.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(7, 300))
        assert back(now, flags="A") is Drop.POLICY_DEFAULT_DENY


def test_a_map_that_is_not_what_its_schema_says_makes_the_schema_unknown(node: World, pins: Path) -> None:
    shake_hands(node)
    to_schema_2(pins)
    (pins / "v2" / "maps" / "rules").unlink()
    with upgraded(node, pins) as now:
        assert "v2" in now.datapath.lost[0]


def test_a_load_that_died_while_it_carried_over_is_repeated_and_one_that_did_not_never(
    node: World, pins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shake_hands(node)
    to_schema_2(pins)
    real = syscalls.update_batch

    def dies(fd: int, entries: list[tuple[bytes, bytes]]) -> None:
        if entries and len(entries[0][0]) == codec.CONNECTION_KEY.codec.size:
            raise KeyboardInterrupt
        real(fd, entries)

    monkeypatch.setattr(upgrade.syscalls, "update_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        Datapath.open(pins, CONFIG)
    monkeypatch.undo()
    with upgraded(node, pins) as now:
        assert back(now, flags="A") is None
        now.datapath.policy.flush_connections()
        again = Datapath.open(pins, CONFIG)
        again.close()
        assert back(now, flags="A") is Drop.POLICY_DEFAULT_DENY, "what was carried over once is not again"


def test_the_schema_that_this_build_replaces_is_known() -> None:
    """Whoever counts SCHEMA up says what the former one's maps looked like, or every upgrade cuts connections."""
    assert codec.SCHEMA - 1 in upgrade.KNOWN
