from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.datapath import policyframes
from support.datapath.namespaces import Namespace
from support.datapath.policymodel import UDP, Said
from support.datapath.world import World, world

from enitide_api.cli import root
from enitide_api.errors import UsageError
from enitide_api.reasons import Drop
from enitide_enidp.datapath import EndpointPolicy, Routing, events, loader, policycodec, policymapviews
from enitide_enidp.datapath.types import Hook
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleValue, pack_key, pack_value
from enitide_policy.numbers import local_number

pytestmark = pytest.mark.bpf

ALLOW = pack_value(RuleValue(allow=True))
EGRESS_UDP = pack_key(RuleKey(Direction.EGRESS, Peer.CIDR_ANY, local_number(4), UDP))
REMOTE = "10.9.0.7"


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    """Pod 1 may send UDP to 10.9.0.0/16; pod 2 only audits that it may send nothing."""
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        policy = made.datapath.policy
        policy.apply(RuleSet(7, False, True, {EGRESS_UDP: ALLOW}))
        policy.apply(RuleSet(8, False, True, {}))
        policy.set_endpoint(made.pod1.ifindex, EndpointPolicy(7, 299))
        policy.set_endpoint(made.pod2.ifindex, EndpointPolicy(8, 300, audit=True))
        policy.put_identities(dict.fromkeys(made.pod2.addresses, 300))
        policy.put_cidrs({ip_network("10.9.0.0/16"): local_number(4)})
        policy.set_cluster_networks([ip_network("10.9.0.0/24")])
        yield made


def send(node: World, *, first: bool = True, to: str = REMOTE, fragment: str = "none") -> Drop | None:
    pod = node.pod1 if first else node.pod2
    said = Said(pod.ipv4, ip_address(to), UDP, 1000, 80, fragment=fragment)
    data = policyframes.frame(said, pod.pod_mac, pod.host_mac)
    return node.run(Hook.FROM_POD, data, ifindex=pod.ifindex).drop


def enitide(pins: Path, *words: str, form: str = "json") -> object:
    options = ["--pin-dir", str(pins)] + (["-o", form] if form else [])
    result = CliRunner().invoke(root, [*words, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.output) if form == "json" else result.output


@pytest.mark.parametrize("name", sorted(policymapviews.VIEWS))
def test_every_policy_map_can_be_dumped(node: World, pins: Path, name: str) -> None:
    assert send(node, fragment="first") is None
    assert send(node, first=False) is None
    rows = enitide(pins, "bpf", "map", "dump", name)
    assert rows
    assert set(policymapviews.VIEWS[name].columns) <= rows[0].keys()


def test_policy_list_shows_what_holds_for_each_pod(node: World, pins: Path) -> None:
    one, two = enitide(pins, "bpf", "policy", "list", "--run-dir", str(pins))
    assert (one["identity"], one["state"], one["isolated"], one["entries"]) == (299, "enforced", ["egress"], 1)
    assert (two["identity"], two["state"], two["entries"]) == (300, "audit (enforced)", 0)
    [rule] = enitide(pins, "bpf", "policy", "get", str(one["ruleset"]))
    assert (rule["direction"], rule["peer"], rule["protocol"], rule["says"]) == ("egress", "cidr:4", "UDP", "allow")


def test_a_rule_set_that_is_not_there_is_refused_with_where_to_look(node: World, pins: Path) -> None:
    with pytest.raises(UsageError, match="enitide bpf policy list"):
        enitide(pins, "bpf", "policy", "get", "99")


def test_policy_flush_makes_connections_ask_again_and_removes_nothing(node: World, pins: Path) -> None:
    send(node)
    [before] = enitide(pins, "bpf", "ct", "list")
    assert "2 rule sets" in enitide(pins, "bpf", "policy", "flush", form="")
    assert len(enitide(pins, "bpf", "map", "dump", "epochs")) == policycodec.EPOCHS
    assert send(node) is None
    assert [each | {"expires": ""} for each in enitide(pins, "bpf", "ct", "list")] == [before | {"expires": ""}]
    node.datapath.policy.apply(RuleSet(7, False, True, {}))
    assert send(node) is Drop.IDENTITY_UNKNOWN, "what the agent changes next is heard"


def test_ct_get_shows_the_connections_of_an_address_and_flush_forgets_them(node: World, pins: Path) -> None:
    send(node)
    send(node, first=False)
    [row] = enitide(pins, "bpf", "ct", "get", "10.0.1.11")
    assert (row["initiator"], row["responder"]) == ("10.0.1.11:1000", "10.9.0.7:80")
    assert (row["egress"], row["ingress"], row["identity"]) == ("allowed", None, "299")
    [row] = enitide(pins, "bpf", "ct", "get", "10.0.1.12")
    assert row["egress"] == "denied, peer unknown", "the connection of a pod that audits remembers the no"
    assert len(enitide(pins, "bpf", "ct", "get", REMOTE)) == 2
    assert "2 connections" in enitide(pins, "bpf", "ct", "flush", form="")
    assert enitide(pins, "bpf", "ct", "list") == []


@pytest.mark.parametrize(
    ("address", "name", "cidr"),
    [
        ("10.0.1.12", "300", None),
        ("10.9.0.7", "unknown", "10.9.0.0/24"),
        ("10.9.1.7", "world", "10.9.0.0/16"),
        ("192.0.2.1", "world", None),
    ],
)
def test_ipcache_get_says_what_the_programs_make_of_an_address(
    node: World, pins: Path, address: str, name: str, cidr: str | None
) -> None:
    [row] = enitide(pins, "bpf", "ipcache", "get", address)
    assert (row["name"], row["cidr"]) == (name, cidr)
    assert row["cidrIdentity"] == ("cidr:4" if cidr else None)


def test_ipcache_flush_needs_a_yes_and_then_removes_the_records(node: World, pins: Path) -> None:
    with pytest.raises(UsageError, match="--yes"):
        enitide(pins, "bpf", "ipcache", "flush", form="")
    assert "2 records" in enitide(pins, "bpf", "ipcache", "flush", "--yes", form="")
    assert [row["address"] for row in enitide(pins, "bpf", "ipcache", "list")] == ["10.9.0.0/16", "10.9.0.0/24"]


def test_an_event_says_whose_policy_it_was_and_who_the_other_end_is(node: World, pins: Path) -> None:
    reader = events.EventReader(loader.schema_dir(pins))
    try:
        assert send(node, to="192.0.2.1") is Drop.POLICY_DEFAULT_DENY
        assert send(node, first=False) is None
        drop, audit = reader.poll(5)
    finally:
        reader.close()
    assert (drop.direction, drop.identity, drop.peer, drop.audit) == (1, 299, 2, False)
    assert (audit.direction, audit.identity, audit.peer, audit.audit) == (1, 300, 0, True)
    names = {node.pod1.ifindex: "shop/web"}
    line = events.human(drop, 0, names)
    assert (
        "drop PolicyDefaultDeny from-pod shop/web egress identity 299 peer world 10.0.1.11:1000 > 192.0.2.1:80" in line
    )
    assert "audit IdentityUnknown" in events.human(audit, 0)
    told = events.as_json(audit, 0, names)
    assert (told["type"], told["direction"], told["peer"]) == ("audit", "egress", 0)
    assert events.as_json(drop, 0, names)["pod"] == "shop/web"
