"""Policy of the node itself: what is never asked, and connections that are older than it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from support.datapath.namespaces import Namespace, mac
from support.datapath.world import World, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import EndpointPolicy, Routing
from enitide_enidp.datapath.connections import Connections
from enitide_enidp.datapath.nodesockets import NodeConnection
from enitide_enidp.datapath.types import AGENT_MARK, Hook, eni_mark
from enitide_policy.mapstate import RuleSet
from enitide_policy.numbers import Reserved

pytestmark = pytest.mark.bpf

REMOTE = ip_address("10.9.0.7")
REMOTE6 = ip_address("2001:db8:9::7")
OWN6 = ip_address("2001:db8:1::a")
NOTHING = RuleSet(7, isolated_ingress=True, isolated_egress=True, entries={})
HOST = EndpointPolicy(7, Reserved.HOST)


@pytest.fixture
def node(pins: Path, namespace: Namespace) -> Iterator[World]:
    """A node and a pod whose policies allow nothing at all."""
    with world(pins, namespace, Routing.DIRECT, policy=True) as made:
        made.datapath.policy.apply(NOTHING)
        made.datapath.policy.set_endpoint(made.pod1.ifindex, EndpointPolicy(7, 300))
        made.datapath.set_node_addresses({made.node_addresses[0]: made.eni1.ifindex, OWN6: made.eni1.ifindex})
        made.datapath.policy.set_host(HOST)
        yield made


def own(node: World) -> str:
    return str(node.node_addresses[0])


def sends(node: World, packet: Packet, mark: int = 0) -> Drop | None:
    data = bytes(Ether(src=mac("eni1").hex(":"), dst="02:00:00:00:00:01") / packet)
    return node.run(Hook.TO_WIRE, data, ifindex=node.eni1.ifindex, mark=mark).drop


def gets(node: World, packet: Packet) -> Drop | None:
    data = bytes(Ether(src="02:00:00:00:00:01", dst=mac("eni1").hex(":")) / packet)
    return node.run(Hook.FROM_WIRE, data, ifindex=node.eni1.ifindex).drop


def there(node: World, flags: str, dport: int = 443) -> Packet:
    return IP(src=own(node), dst=str(REMOTE)) / TCP(sport=40000, dport=dport, flags=flags) / b"x"


def back(node: World, flags: str, sport: int = 443) -> Packet:
    return IP(src=str(REMOTE), dst=own(node)) / TCP(sport=sport, dport=40000, flags=flags) / b"x"


def test_a_node_reaches_its_own_pods_and_hears_them_whatever_its_policy_says(node: World) -> None:
    pod = node.pod1

    def probe(flags: str) -> Drop | None:
        packet = IP(src=own(node), dst=str(pod.ipv4)) / TCP(sport=50000, dport=80, flags=flags) / b"x"
        data = bytes(Ether(src=pod.host_mac.hex(":"), dst=pod.pod_mac.hex(":")) / packet)
        return node.run(Hook.TO_POD, data, ifindex=pod.ifindex).drop

    def reply(sport: int, dport: int, flags: str) -> Drop | None:
        packet = IP(src=str(pod.ipv4), dst=own(node)) / TCP(sport=sport, dport=dport, flags=flags) / b"x"
        data = bytes(Ether(src=pod.pod_mac.hex(":"), dst=pod.host_mac.hex(":")) / packet)
        return node.run(Hook.FROM_POD, data, ifindex=pod.ifindex).drop

    assert probe("S") is None
    assert reply(80, 50000, "SA") is None
    for _ in range(3):  # the whole way, then the short one
        assert (probe("A"), reply(80, 50000, "A")) == (None, None)
    assert reply(50001, 22, "S") is Drop.POLICY_DEFAULT_DENY, "a pod that begins is asked"


def test_what_the_agent_says_to_the_api_server_passes_and_so_do_the_answers(node: World) -> None:
    assert sends(node, there(node, "S")) is Drop.POLICY_DEFAULT_DENY
    assert sends(node, there(node, "S"), AGENT_MARK) is None
    assert gets(node, back(node, "SA")) is None
    for _ in range(3):
        assert (sends(node, there(node, "A"), AGENT_MARK), gets(node, back(node, "A"))) == (None, None)
    assert sends(node, there(node, "S", 444)) is Drop.POLICY_DEFAULT_DENY
    assert gets(node, back(node, "S", 445)) is Drop.POLICY_DEFAULT_DENY


def test_a_pod_that_netfilter_hides_behind_the_node_is_not_judged_as_the_node(node: World) -> None:
    assert gets(node, back(node, "A")) is Drop.POLICY_DEFAULT_DENY
    assert sends(node, there(node, "S"), eni_mark(1)) is None
    assert gets(node, back(node, "SA")) is None
    for _ in range(3):
        assert (sends(node, there(node, "A"), eni_mark(1)), gets(node, back(node, "A"))) == (None, None)
    assert sends(node, there(node, "S", 444)) is Drop.POLICY_DEFAULT_DENY
    assert sends(node, there(node, "S"), eni_mark(2)) is Drop.WRONG_INTERFACE


@pytest.mark.parametrize("source", ["10.0.1.1", "255.255.255.255"])
def test_the_lease_of_the_node_s_address_is_never_asked(node: World, source: str) -> None:
    assert sends(node, IP(src=own(node), dst=source) / UDP(sport=68, dport=67)) is None
    if source == "10.0.1.1":
        assert gets(node, IP(src=source, dst=own(node)) / UDP(sport=67, dport=68)) is None
        assert gets(node, IP(src=source, dst=own(node)) / UDP(sport=68, dport=67)) is Drop.POLICY_DEFAULT_DENY
        assert gets(node, IP(src=source, dst=own(node)) / UDP(sport=67, dport=69)) is Drop.POLICY_DEFAULT_DENY
        assert sends(node, IP(src=own(node), dst=source) / UDP(sport=67, dport=68)) is Drop.POLICY_DEFAULT_DENY


def test_neighbours_of_the_node_find_each_other(node: World) -> None:
    head = IPv6(src=str(REMOTE6), dst=str(OWN6), hlim=255)
    assert gets(node, head / ICMPv6ND_NS(tgt=str(OWN6))) is None
    assert sends(node, IPv6(src=str(OWN6), dst=str(REMOTE6), hlim=255) / ICMPv6ND_NA(tgt=str(OWN6))) is None
    routed = IPv6(src=str(REMOTE6), dst=str(OWN6), hlim=64)
    assert gets(node, routed / ICMPv6ND_NS(tgt=str(OWN6))) is Drop.POLICY_DEFAULT_DENY


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.169.253", "224.0.0.1"])
def test_what_only_the_link_has_is_never_asked(node: World, address: str) -> None:
    assert sends(node, IP(src=own(node), dst=address) / UDP(sport=5000, dport=53)) is None
    assert sends(node, IP(src=own(node), dst=address) / ICMP()) is None


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("distance", [1000, -5, 251])  # 251: the order of the bytes decides which end is the lower
def test_a_connection_that_is_older_than_policy_is_of_the_end_that_began_it(
    node: World, family: int, distance: int
) -> None:
    """Its other end speaks first; it is not taken for one that begins a connection to the node."""
    mine: IPv4Address | IPv6Address = OWN6 if family == 6 else node.node_addresses[0]  # type: ignore[assignment]
    other = mine + distance
    head = IPv6 if family == 6 else IP
    allow_out = RuleSet(8, isolated_ingress=True, isolated_egress=False, entries={})
    node.datapath.policy.apply(allow_out)
    node.datapath.policy.set_host(EndpointPolicy(8, Reserved.HOST))
    data = head(src=str(other), dst=str(mine)) / TCP(sport=443, dport=40000, flags="A") / b"x"
    assert gets(node, data) is Drop.POLICY_DEFAULT_DENY
    known = Connections(node.loaded.maps["connections"])
    found = NodeConnection(mine, 40000, other, 443)
    assert known.adopt([found]) == 1
    assert known.adopt([found]) == 0, "what is known stays as it is"
    assert gets(node, data) is None
    turned = NodeConnection(other, 443, mine, 40001)
    known.adopt([turned])
    begun_there = head(src=str(other), dst=str(mine)) / TCP(sport=443, dport=40001, flags="A") / b"x"
    assert gets(node, begun_there) is Drop.POLICY_DEFAULT_DENY, "one that the other end began is judged as such"


def test_what_holds_for_the_node_is_read_back(node: World) -> None:
    policy = node.datapath.policy
    assert policy.host() == HOST
    policy.set_host(replace(HOST, enforce=False, audit=True))
    assert policy.host() == replace(HOST, enforce=False, audit=True)
    policy.set_host(None)
    assert policy.host() is None
