"""From published ENIs and what the kernel has to the few requests between: nothing foreign is touched or repeated."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import ip_address

import pytest

from enitide_api.resources import Interface, IPv6Facts
from enitide_enidp.netlink import build, codec, facts
from enitide_enidp.netlink.diff import Actual, steps
from enitide_enidp.netlink.facts import Address, Link, Route, Rule
from enitide_enidp.netlink.monitor import is_news
from enitide_enidp.netlink.pod import host_route
from enitide_enidp.netlink.wanted import Device, Wanted, assign_numbers, match, reference_mtu, wanted

pytestmark = pytest.mark.unit

ETH0 = Link(2, "eth0", "0e:00:00:00:00:10", 9001, up=True)
ETH1 = Link(3, "eth1", "0e:00:00:00:00:11", 1500, up=False)
POD = Link(9, "etd012345678901", "0a:00:00:00:00:01", 9001, up=True, kind="veth")
DEFAULT = Route(facts.MAIN_TABLE, None, 0, 2, ip_address("10.0.0.1"), protocol=16)
LEASE = Route(facts.MAIN_TABLE, ip_address("10.0.0.2"), 32, 2, None, protocol=16, scope=facts.SCOPE_LINK)


def eni(index: int, link: Link, *, ipv6: bool = False) -> Interface:
    six = IPv6Facts(cidr="2600::/64", gateway="2600::1", prefixes=(f"2600:0:0:0:{index}::/80",)) if ipv6 else None
    return Interface(
        id=f"eni-{index}", mac=link.mac, card=0, index=index, primary=f"10.0.0.{10 + index}",
        cidr="10.0.0.0/16", gateway="10.0.0.1", ipv6=six,
    )  # fmt: skip


def goal(*, ipv6: bool = False, mtu: int | None = 9001) -> Wanted:
    devices = [Device(eni(0, ETH0, ipv6=ipv6), ETH0, 1), Device(eni(1, ETH1, ipv6=ipv6), ETH1, 2)]
    return wanted(devices, [(ip_address("10.0.1.20"), 9)], mtu)


def test_the_primary_eni_stays_the_systems_and_a_secondary_one_is_ours() -> None:
    state = goal()
    assert state.managed == {3}
    assert state.addresses == {Address(3, ip_address("10.0.0.11"), 32)}
    assert {(rule.priority, rule.table) for rule in state.rules} == {
        (300, 25600),
        (310, 25601),
        (310, 25602),
        (320, 25602),
    }
    assert all(rule.family == socket.AF_INET for rule in state.rules)
    assert {(route.table, route.length, route.ifindex) for route in state.routes} == {
        (25600, 32, 9), (25601, 32, 2), (25601, 0, 2), (25602, 32, 3), (25602, 0, 3),
    }  # fmt: skip
    assert ("ipv4/conf/eth0/rp_filter", "2") in state.sysctls
    assert ("ipv4/conf/eth1/rp_filter", "2") in state.sysctls


def test_ipv6_stands_in_rules_routes_and_settings_only_where_it_is_given() -> None:
    assert not any("ipv6/conf/all" in name for name, _ in goal().sysctls)
    state = goal(ipv6=True)
    assert state.sysctls[-1] == ("ipv6/conf/all/forwarding", "1")
    six = {(rule.priority, rule.table) for rule in state.rules if rule.family == socket.AF_INET6}
    assert six == {(300, 25600), (310, 25601), (310, 25602)}
    assert any(route.family == socket.AF_INET6 and route.table == 25602 for route in state.routes)


def applied(state: Wanted, actual: Actual) -> Actual:
    """The kernel after all steps, as far as this test can tell."""
    links = tuple(
        replace(link, mtu=state.mtu.get(link.ifindex, link.mtu), up=link.up or link.ifindex in state.up)
        for link in actual.links
    )
    kept = tuple(route for route in actual.routes if route.protocol != facts.PROTOCOL and route.ifindex != 3)
    others = tuple(rule for rule in actual.rules if rule.protocol != facts.PROTOCOL)
    addresses = tuple(each for each in actual.addresses if each.ifindex != 3)
    return Actual(links, (*addresses, *state.addresses), (*kept, *state.routes), (*others, *state.rules))


def test_what_is_as_wanted_takes_no_step_and_what_is_not_takes_each_once() -> None:
    state = goal(ipv6=True)
    local = Rule(socket.AF_INET, 0, facts.LOCAL_TABLE, protocol=facts.PROTOCOL_KERNEL)
    start = Actual((ETH0, ETH1, POD), (Address(2, ip_address("10.0.0.10"), 16),), (DEFAULT, LEASE), (local,))
    todo = steps(state, start)
    assert len({step.message for step in todo}) == len(todo)
    assert len(todo) == 2 + len(state.addresses) + len(state.routes) + len(state.rules)
    assert [step.what for step in todo[:2]] == ["MTU 9001 on eth1", "eth1 up"]
    assert steps(state, applied(state, start)) == []


def test_what_the_system_put_on_a_secondary_eni_is_undone_and_nothing_else_of_the_system() -> None:
    state = goal()
    leased = Address(3, ip_address("10.0.0.11"), 16)
    foreign = Route(facts.MAIN_TABLE, None, 0, 3, ip_address("10.0.0.1"), protocol=16, priority=200)
    connected = Route(facts.MAIN_TABLE, ip_address("10.0.0.0"), 16, 3, None, protocol=facts.PROTOCOL_KERNEL)
    link_local = Address(3, ip_address("fe80::1"), 64, facts.SCOPE_LINK)
    start = Actual(
        (ETH0, ETH1),
        (Address(2, ip_address("10.0.0.10"), 16), leased, link_local),
        (DEFAULT, foreign, connected, LEASE),
        (),
    )
    undone = [step for step in steps(state, start) if step.foreign]
    assert [step.message for step in undone] == [build.delete_address(leased), build.delete_route(foreign)]


def test_what_we_left_behind_goes_and_equal_looking_rules_of_others_stay() -> None:
    state = goal()
    stale = host_route(ip_address("10.0.9.9"), 8)
    old_rule = Rule(socket.AF_INET, 310, 25699, 0x630000, 0xFF0000)
    others = Rule(socket.AF_INET, 310, 25699, 0x630000, 0xFF0000, protocol=4)
    start = applied(state, Actual((ETH0, ETH1, POD)))
    start = Actual(start.links, start.addresses, (*start.routes, stale), (*start.rules, old_rule, others))
    assert [step.message for step in steps(state, start)] == [build.delete_route(stale), build.delete_rule(old_rule)]


def test_a_device_is_found_by_mac_whatever_its_name_and_never_one_that_is_stacked_on_it() -> None:
    vlan = Link(4, "eth1.5", ETH1.mac, 1500, up=True, kind="vlan")
    pod = Link(5, "etdaaaaaaaaaaaa", ETH1.mac, 1500, up=True, kind="veth")
    upper = Interface(id="eni-1", mac=ETH1.mac.upper(), card=0, index=1)
    assert match([upper], [vlan, pod, ETH1]) == {"eni-1": ETH1}
    assert match([upper], [vlan, pod]) == {}


def test_secondary_enis_take_the_mtu_of_the_primary_or_of_the_default_routes_device() -> None:
    first, second = Device(eni(0, ETH0), ETH0, 1), Device(eni(1, ETH1), ETH1, 2)
    assert reference_mtu([first, second], [ETH0, ETH1], []) == 9001
    assert reference_mtu([second], [ETH0, ETH1], [DEFAULT]) == 9001
    assert reference_mtu([second], [ETH0, ETH1], []) is None


def test_numbers_stay_with_their_eni_and_the_lowest_free_one_is_given_next() -> None:
    assert assign_numbers({"a": 3, "b": 1}, ["a", "c", "d"]) == {"a": 3, "c": 1, "d": 2}
    many = assign_numbers({}, [f"eni-{i:03}" for i in range(300)])
    assert sorted(many.values()) == list(range(1, 256))


def test_messages_read_back_as_the_facts_they_were_made_of() -> None:
    routes = [
        host_route(ip_address("10.0.1.20"), 9),
        host_route(ip_address("2600::20"), 9),
        Route(25602, None, 0, 3, ip_address("10.0.0.1")),
    ]
    for route in routes:
        assert facts.parse_route(build.new_route(route)[codec.HEADER.size :]) == route
    for rule in goal(ipv6=True).rules:
        assert facts.parse_rule(build.new_rule(rule)[codec.HEADER.size :]) == rule
    address = Address(3, ip_address("2600::11"), 128)
    assert facts.parse_address(build.new_address(address)[codec.HEADER.size :]) == address


class Knows:
    """A node on which the pod 10.0.1.20 lives or not, and ifindex 3 is an ENI."""

    def __init__(self, *, lives: bool) -> None:
        self._lives = lives

    def is_wanted(self, _route: Route) -> bool:
        return self._lives

    def is_managed(self, ifindex: int) -> bool:
        return ifindex == 3


def test_changes_of_our_own_pods_are_no_news_and_those_of_others_are() -> None:
    def body(message: bytes) -> bytes:
        return message[codec.HEADER.size :]

    def rp_filter(ifindex: int, value: int) -> bytes:
        return bytes(4) + codec.u32(1, ifindex) + codec.u32(3, value)

    node = Knows(lives=True)
    ours, foreign = body(build.new_route(host_route(ip_address("10.0.1.20"), 9))), body(build.new_route(DEFAULT))
    assert not is_news(build.RTM_NEWROUTE, ours, node)
    assert is_news(build.RTM_NEWROUTE, foreign, node)
    assert is_news(build.RTM_DELROUTE, ours, node)
    assert not is_news(build.RTM_DELROUTE, ours, Knows(lives=False))
    named = facts.IFINFO.pack(0, 0, 9, 0, 0) + codec.text(facts.IFLA_IFNAME, "etd012345678901")
    assert not is_news(build.RTM_NEWLINK, named, node)
    assert is_news(build.RTM_NEWLINK, facts.IFINFO.pack(0, 0, 3, 0, 0) + codec.text(facts.IFLA_IFNAME, "eth1"), node)
    assert is_news(build.RTM_DELRULE, b"", node)
    assert is_news(80, rp_filter(3, 1), node)
    assert not is_news(80, rp_filter(3, 2), node)
    assert not is_news(80, rp_filter(9, 1), node)
