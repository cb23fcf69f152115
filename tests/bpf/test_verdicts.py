"""The real programs, run by the kernel on scapy's packets, against the model: families x cases, both routings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from support.datapath import model
from support.datapath.model import Case
from support.datapath.namespaces import Namespace, mac
from support.datapath.world import Seen, World, without_ipv6, world

from enitide_api.reasons import Drop
from enitide_enidp.datapath import Routing, eni_mark
from enitide_enidp.datapath.types import Hook, Onward

pytestmark = pytest.mark.bpf

OK, SHOT, REDIRECT, NEXT = 0, 2, 7, -1
FOREIGN_MARK = 0x4000
_many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


Run = Callable[[World, Routing, Case], None]


@pytest.fixture(scope="module", params=list(Routing), ids=lambda routing: routing.value)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Routing]]:
    from enitide_enidp.datapath import bpffs, loader

    namespace, pins = Namespace(), tmp_path_factory.mktemp("pins") / "bpf"
    try:
        with namespace.entered(), world(pins, namespace, request.param) as made:
            yield made, request.param
            loader.unload(pins)
    finally:
        bpffs.unmount(pins)
        namespace.close()


cases = st.builds(
    Case,
    family=st.sampled_from((4, 6)),
    source=st.sampled_from(("own", *model.SOURCES)),
    destination=st.sampled_from(model.DESTINATIONS),
    transport=st.sampled_from(model.TRANSPORTS),
    hop_limit=st.sampled_from((0, 1, 2, 64, 255)),
    options=st.sampled_from((False, False, False, True)),
    extensions=st.lists(st.sampled_from(model.EXTENSIONS), max_size=3).map(tuple),
    fragment=st.sampled_from(("none", "none", "none", "first", "later")),
    length=st.sampled_from(("right", "right", "right", "beyond the frame")),
    payload=st.sampled_from((0, 20, 1200, 1900, 2500, 3100)),
    to_host_mac=st.sampled_from((True, True, True, False)),
    known=st.sampled_from((True, True, True, False)),
)


def hop_limit_of(packet: bytes) -> int:
    return packet[22] if packet[12:14] == b"\x08\x00" else packet[21]


def check(seen: Seen, sent: bytes, expected: model.Verdict, passed: int) -> None:
    """Counter, action and the packet itself tell the same story."""
    assert (seen.drop, seen.onward) == (expected.drop, expected.onward)
    if expected.drop is not None:
        assert seen.action == SHOT
        return
    if expected.onward is Onward.STACK:
        assert seen.action == passed
        assert seen.packet == sent, "what goes to the stack is untouched"
        return
    assert seen.action == REDIRECT
    assert hop_limit_of(seen.packet) == hop_limit_of(sent) - 1
    if sent[12:14] == b"\x08\x00":
        again = Ether(seen.packet)
        del again[IP].chksum
        assert bytes(again) == seen.packet, "the IPv4 checksum is right after the hop limit changed"


def run_from_pod(world: World, routing: Routing, case: Case) -> None:
    packet = model.frame(case, world, world.pod1, mac("pod1" if case.known else "stranger"))
    device = world.pod1.ifindex if case.known else world.stranger
    seen = world.run(Hook.FROM_POD, packet, ifindex=device, mark=FOREIGN_MARK)
    expected = model.from_pod(case, routing, len(packet))
    check(seen, packet, expected, OK)
    if expected.onward is Onward.PEER:
        assert seen.mark == 0, "a mark of the node is nothing a pod may see"
        assert seen.packet[:12] == world.pod2.pod_mac + world.pod2.host_mac
    elif expected.onward is not None:
        assert seen.mark == FOREIGN_MARK | eni_mark(1)


def run_to_pod(world: World, _routing: Routing, case: Case) -> None:
    packet = model.frame(case, world, world.pod1, mac("pod1" if case.known else "stranger"))
    device = world.pod1.ifindex if case.known else world.stranger
    check(world.run(Hook.TO_POD, packet, ifindex=device), packet, model.to_pod(case), OK)


def run_from_wire(world: World, routing: Routing, case: Case) -> None:
    packet = model.frame(case, world, world.pod1, mac("eni1"))
    seen = world.run(Hook.FROM_WIRE, packet, ifindex=world.eni1.ifindex, mark=FOREIGN_MARK)
    expected = model.from_wire(case, routing, len(packet))
    check(seen, packet, expected, NEXT)
    if expected.onward is Onward.PEER:
        pod = world.pod1 if case.destination == "self" else world.pod2
        assert seen.packet[:12] == pod.pod_mac + pod.host_mac
        assert seen.mark == 0


ways = pytest.mark.parametrize("run", [run_from_pod, run_to_pod, run_from_wire], ids=lambda run: run.__name__[4:])


@ways
@_many
@given(case=cases)
def test_whatever_the_packet_program_and_model_agree(node: tuple[World, Routing], run: Run, case: Case) -> None:
    run(*node, case)


FORWARDED = [
    Case(family, destination=destination, hop_limit=hops, payload=payload, options=options, to_host_mac=ours)
    for family, destination, payload, (hops, options, ours) in itertools.product(
        (4, 6),
        model.DESTINATIONS,
        (0, 20, 1900, 2500, 3100),
        ((64, False, True), (1, False, True), (64, True, True), (64, False, False)),
    )
]


@ways
def test_every_destination_at_every_size_goes_the_way_of_the_model(node: tuple[World, Routing], run: Run) -> None:
    for case in FORWARDED:
        run(*node, case)


SENT = [
    Case(family, source, destination, transport, hops, extensions=extensions, fragment=fragment)
    for family, source, transport, (destination, hops), (extensions, fragment) in itertools.product(
        (4, 6),
        model.SOURCES,
        model.TRANSPORTS,
        (("remote", 64), ("multicast", 255)),
        (((), "none"), ((), "first"), ((), "later"), (("destination",), "none")),
    )
    if family == 6 or not (extensions or transport in model.DISCOVERY)
]


def test_every_source_with_every_protocol_is_judged_as_the_model_does(node: tuple[World, Routing]) -> None:
    for case in SENT:
        run_from_pod(*node, case)


@pytest.mark.parametrize(
    ("mark", "drop"),
    [(0, None), (FOREIGN_MARK, None), (eni_mark(1), None), (eni_mark(2), Drop.WRONG_INTERFACE)],
    ids=["unmarked", "foreign mark", "own ENI", "other ENI"],
)
@pytest.mark.parametrize("family", [4, 6])
def test_a_packet_marked_for_another_eni_does_not_leave_by_this_one(
    node: tuple[World, Routing], family: int, mark: int, drop: Drop | None
) -> None:
    world, _ = node
    packet = model.frame(Case(family), world, world.pod1, mac("eni1"))
    seen = world.run(Hook.TO_WIRE, packet, ifindex=world.eni1.ifindex, mark=mark)
    assert (seen.action, seen.drop) == ((SHOT, drop) if drop else (NEXT, None))


def from_pod(world: World, packet: Ether) -> Seen:
    return world.run(Hook.FROM_POD, bytes(packet), ifindex=world.pod1.ifindex)


def arp(world: World, *, sender: str, sender_mac: bytes, operation: int = 1) -> Ether:
    ether = Ether(src=world.pod1.pod_mac.hex(":"), dst="ff:ff:ff:ff:ff:ff")
    return ether / ARP(op=operation, psrc=sender, hwsrc=sender_mac.hex(":"), pdst="169.254.1.1")


@pytest.mark.parametrize("operation", [1, 2])
def test_a_pod_speaks_arp_only_as_itself(node: tuple[World, Routing], operation: int) -> None:
    world, _ = node
    own, own_mac, other_mac = str(world.pod1.ipv4), world.pod1.pod_mac, world.pod2.pod_mac
    for sender, sender_mac, drop in (
        (own, own_mac, None),
        ("0.0.0.0", own_mac, None),
        (str(world.pod2.ipv4), own_mac, Drop.FORBIDDEN_NEIGHBOR),
        ("169.254.1.1", own_mac, Drop.FORBIDDEN_NEIGHBOR),
        (own, other_mac, Drop.FORBIDDEN_NEIGHBOR),
    ):
        seen = from_pod(world, arp(world, sender=sender, sender_mac=sender_mac, operation=operation))
        assert (seen.drop, seen.onward) == (drop, None if drop else Onward.STACK)


def test_a_truncated_or_foreign_arp_is_refused(node: tuple[World, Routing]) -> None:
    world, _ = node
    whole = bytes(arp(world, sender=str(world.pod1.ipv4), sender_mac=world.pod1.pod_mac))
    assert world.run(Hook.FROM_POD, whole[:30], ifindex=world.pod1.ifindex).drop is Drop.MALFORMED
    other = bytearray(whole)
    other[16:18] = b"\x86\xdd"
    assert world.run(Hook.FROM_POD, bytes(other), ifindex=world.pod1.ifindex).drop is Drop.UNKNOWN_PROTOCOL


@pytest.mark.parametrize("ethertype", [0x8847, 0x88CC, 0x0042], ids=["MPLS", "LLDP", "802.3 length"])
@pytest.mark.parametrize("hook", [Hook.FROM_POD, Hook.TO_POD])
def test_what_is_neither_ip_nor_arp_is_refused_on_a_pods_device(
    node: tuple[World, Routing], hook: Hook, ethertype: int
) -> None:
    world, _ = node
    packet = bytes(Ether(dst=mac("pod1").hex(":"), type=ethertype) / Raw(bytes(60)))
    assert world.run(hook, packet, ifindex=world.pod1.ifindex).drop is Drop.UNKNOWN_PROTOCOL


def test_a_tagged_packet_of_a_pod_is_refused_and_one_from_the_wire_is_left_alone(node: tuple[World, Routing]) -> None:
    world, _ = node
    inner = Dot1Q(vlan=5) / IP(src=str(world.pod1.ipv4), dst=str(world.pod2.ipv4)) / UDP()
    packet = bytes(Ether(dst=mac("pod1").hex(":")) / inner)
    assert world.run(Hook.FROM_POD, packet, ifindex=world.pod1.ifindex).drop is Drop.UNKNOWN_PROTOCOL
    assert world.run(Hook.FROM_WIRE, packet, ifindex=world.eni1.ifindex).onward is Onward.STACK


@pytest.mark.parametrize("checksum", [0xFEFE, 0xFEFF, 0xFF00, 0xFFFE, 0xFFFF, 0x0000, 0x0001], ids=hex)
def test_the_ipv4_checksum_is_right_also_where_the_sum_carries_around(
    node: tuple[World, Routing], checksum: int
) -> None:
    world, routing = node
    ether = Ether(src=world.pod1.pod_mac.hex(":"), dst=mac("pod1").hex(":"))
    base = IP(bytes(IP(src=str(world.pod1.ipv4), dst="10.9.0.7", id=0, len=28, proto=17))).chksum
    header = IP(src=str(world.pod1.ipv4), dst="10.9.0.7", id=(base - checksum) % 0xFFFF, len=28, proto=17)
    sent = bytes(ether / header / UDP())
    sent = sent[:24] + checksum.to_bytes(2, "big") + sent[26:]
    seen = world.run(Hook.FROM_POD, sent, ifindex=world.pod1.ifindex)
    assert seen.onward is (Onward.WIRE if routing is Routing.DIRECT else Onward.STACK)
    words = [int.from_bytes(seen.packet[i : i + 2], "big") for i in range(14, 34, 2)]
    assert sum(words) % 0xFFFF == 0, "the ones' complement sum over the header is zero"


def ipv4_frame(world: World) -> bytearray:
    ether = Ether(src=world.pod1.pod_mac.hex(":"), dst=mac("pod1").hex(":"))
    return bytearray(bytes(ether / IP(src=str(world.pod1.ipv4), dst="10.9.0.7") / UDP() / Raw(bytes(64))))


@pytest.mark.parametrize(
    ("offset", "value"),
    [(14, 0x44), (14, 0x65), (16, 0x00), (14, 0x4F)],
    ids=["header shorter than 20", "version 6 in IPv4", "length below the header", "header beyond the length"],
)
def test_an_ipv4_header_that_contradicts_itself_is_malformed(
    node: tuple[World, Routing], offset: int, value: int
) -> None:
    world, _ = node
    data = ipv4_frame(world)
    data[offset] = value
    if offset == 16:
        data[17] = 19
    if value == 0x4F:
        data[16:18] = (59).to_bytes(2, "big")
    assert world.run(Hook.FROM_POD, bytes(data), ifindex=world.pod1.ifindex).drop is Drop.MALFORMED


def ipv6(world: World, **fields: object) -> Ether:
    ether = Ether(src=world.pod1.pod_mac.hex(":"), dst=mac("pod1").hex(":"))
    return ether / IPv6(**{"src": str(world.pod1.ipv6), "dst": "2001:db8:9::7"} | fields)


@pytest.mark.parametrize(("headers", "drop"), [(6, None), (7, Drop.MALFORMED)])
def test_more_than_six_extension_headers_are_malformed(
    node: tuple[World, Routing], headers: int, drop: Drop | None
) -> None:
    world, _ = node
    packet = ipv6(world)
    for _ in range(headers):
        packet /= IPv6ExtHdrDestOpt()
    assert from_pod(world, packet / UDP()).drop is drop


def test_an_extension_header_that_ends_beyond_the_packet_is_malformed(node: tuple[World, Routing]) -> None:
    world, _ = node
    assert from_pod(world, ipv6(world, nh=60) / Raw(bytes([60, 200]) + bytes(14))).drop is Drop.MALFORMED
    assert from_pod(world, ipv6(world, nh=58)).drop is Drop.MALFORMED, "ICMPv6 without a type"


def test_discovery_without_its_target_is_refused(node: tuple[World, Routing]) -> None:
    world, _ = node
    packet = ipv6(world, nh=58, hlim=255, dst="ff02::1") / Raw(b"\x87\0\0\0" + bytes(8))
    assert from_pod(world, packet).drop is Drop.FORBIDDEN_NEIGHBOR


@pytest.mark.parametrize("message", [ICMPv6ND_NS, ICMPv6ND_NA])
def test_a_pod_may_not_speak_for_the_unspecified_address_nor_for_another_link_local(
    node: tuple[World, Routing], message: type
) -> None:
    world, _ = node
    for source in ("::", str(world.pod1.ipv6), "fe80::aa"):
        unspecified = ipv6(world, src=source, dst="ff02::1", hlim=255) / message(tgt="::")
        assert from_pod(world, unspecified).drop is Drop.FORBIDDEN_NEIGHBOR
    lie = ipv6(world, src="fe80::aa", dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt="fe80::1")
    assert from_pod(world, lie).drop is Drop.FORBIDDEN_NEIGHBOR


def test_a_pod_without_ipv6_can_send_none(node: tuple[World, Routing]) -> None:
    world, _ = node
    world.datapath.put_endpoint(without_ipv6(world.pod1))
    try:
        for source in (str(world.pod1.ipv6), "2001:db8::77"):
            assert from_pod(world, ipv6(world, src=source) / UDP()).drop is Drop.SPOOFED_SOURCE
        assert from_pod(world, ipv6(world, src="::", dst="2001:db8:9::7") / UDP()).drop is Drop.SPOOFED_SOURCE
    finally:
        world.datapath.put_endpoint(world.pod1)


def test_without_a_gateway_a_family_goes_by_the_stack(node: tuple[World, Routing]) -> None:
    from dataclasses import replace

    world, _ = node
    world.datapath.put_endpoint(replace(world.pod1, gateway4=None, gateway6=None))
    try:
        for family in (4, 6):
            packet = model.frame(Case(family), world, world.pod1, mac("pod1"))
            assert world.run(Hook.FROM_POD, packet, ifindex=world.pod1.ifindex).onward is Onward.STACK
    finally:
        world.datapath.put_endpoint(world.pod1)


def test_the_cases_of_the_model_reach_every_verdict() -> None:
    """A model whose cases never reach a branch would agree with anything."""
    reached = {
        model.from_pod(Case(family, source, destination, hop_limit=hops), routing, 100)
        for family, source, destination, hops, routing in itertools.product(
            (4, 6), model.SOURCES, model.DESTINATIONS, (1, 64), Routing
        )
    }
    assert {model.STACK, model.PEER, model.WIRE, model.Verdict(Drop.SPOOFED_SOURCE)} <= reached
