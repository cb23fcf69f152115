from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from support.datapath.namespaces import Namespace
from support.datapath.world import World, world

from enitide_api.cli import root
from enitide_api.errors import UsageError
from enitide_enidp.datapath import EndpointPolicy, Routing, loader, packets, syscalls, views
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleValue, pack_key, pack_value
from enitide_policy.numbers import local_number

pytestmark = pytest.mark.bpf

ALLOW, DENY = pack_value(RuleValue(allow=True)), pack_value(RuleValue(deny=True))
EGRESS_80 = pack_key(RuleKey(Direction.EGRESS, Peer.IDENTITY, 300, 6, 80, 16))
EGRESS_CIDR = pack_key(RuleKey(Direction.EGRESS, Peer.CIDR_ANY, local_number(4), 17))
EGRESS_BAD = pack_key(RuleKey(Direction.EGRESS, Peer.ANY, 0, 6, 8000, 10))


@pytest.fixture(params=list(Routing), ids=lambda routing: routing.value)
def node(request: pytest.FixtureRequest, pins: Path, namespace: Namespace) -> Iterator[World]:
    with world(pins, namespace, request.param, policy=True) as made:
        policy = made.datapath.policy
        policy.apply(RuleSet(7, False, True, {EGRESS_80: ALLOW, EGRESS_CIDR: ALLOW, EGRESS_BAD: DENY}))
        policy.apply(RuleSet(8, True, False, {}))
        policy.set_endpoint(made.pod1.ifindex, EndpointPolicy(7, 299))
        policy.set_endpoint(made.pod2.ifindex, EndpointPolicy(8, 300))
        policy.put_identities(dict.fromkeys(made.pod2.addresses, 300))
        policy.put_cidrs({ip_network("10.9.0.0/16"): local_number(4)})
        yield made


def ask(pins: Path, *words: str, pod: str = "10.0.1.11") -> Result:
    command = ["packet", "--from", pod, *words, "-o", "json", "--pin-dir", str(pins), "--run-dir", str(pins)]
    return CliRunner().invoke(root, command)


def state(pins: Path) -> dict[str, list[object]]:
    """Everything in every map that has entries to show, but for how long they still live."""
    with views.opened(pins) as fds:
        return {name: _lasting(view.rows(fds)) for name, view in views.VIEWS.items()}


def _lasting(rows: list[dict[str, object]]) -> list[object]:
    return [{key: value for key, value in row.items() if key != "expires"} for row in rows]


def test_a_packet_that_no_rule_allows_is_told_as_dropped_with_who_said_so(node: World, pins: Path) -> None:
    result = ask(pins, "--to", "10.9.0.7", "--dport", "80")
    assert result.exit_code == 1, result.output
    said = json.loads(result.output)
    assert (said["verdict"], said["reason"]) == ("drop", "PolicyDefaultDeny")
    sender = said["hooks"][0]["sender"]
    assert (sender["policy"], sender["verdict"], sender["identity"]) == ("egress", "denied by default", 299)
    assert (sender["peer"], sender["peerCIDR"], sender["rule"]) == ("world", "cidr:4", None)


def test_the_entry_that_decided_is_named(node: World, pins: Path) -> None:
    said = json.loads(ask(pins, "--to", "10.9.0.7", "--dport", "53", "--proto", "udp").output)
    rule = said["hooks"][0]["sender"]["rule"]
    assert said["verdict"] == "pass"
    assert (rule["direction"], rule["peer"], rule["protocol"], rule["port"], rule["says"]) == (
        "egress",
        "cidr:4",
        "UDP",
        "any",
        "allow",
    )
    said = json.loads(ask(pins, "--to", "10.9.0.7", "--dport", "8010").output)
    rule = said["hooks"][0]["sender"]["rule"]
    assert (said["reason"], rule["port"], rule["says"]) == ("PolicyDenied", "8000-8063", "deny")


def test_both_ends_on_one_node_are_asked_whichever_way_the_packet_goes(node: World, pins: Path) -> None:
    result = ask(pins, "--to", "10.0.1.12", "--dport", "80")
    said = json.loads(result.output)
    assert (result.exit_code, said["reason"]) == (1, "PolicyDefaultDeny")
    ends = [hook[end] for hook in said["hooks"] for end in ("sender", "receiver") if hook[end]]
    assert [(end["policy"], end["verdict"]) for end in ends] == [
        ("egress", "allowed"),
        ("ingress", "denied by default"),
    ]


def test_asking_leaves_nothing_behind(node: World, pins: Path) -> None:
    before = state(pins)
    for words in (
        ("--to", "10.9.0.7", "--dport", "53", "--proto", "udp"),
        ("--to", "10.9.0.7", "--dport", "80"),
        ("--to", "2001:db8:9::7", "--proto", "icmp"),
    ):
        pod = "2001:db8:1::11" if ":" in words[1] else "10.0.1.11"
        assert ask(pins, *words, pod=pod).exit_code in (0, 1)
    assert state(pins) == before


def test_a_packet_of_a_live_connection_is_told_as_one(node: World, pins: Path) -> None:
    packet = packets.Description(node.pod1.ipv4, IPv4Address("10.9.0.7"), "udp", 40000, 53)
    from enitide_enidp.datapath.types import Hook

    data = packets.frame(packet, node.pod1.pod_mac, node.pod1.host_mac)
    assert node.run(Hook.FROM_POD, data, ifindex=node.pod1.ifindex).drop is None
    [hook] = json.loads(ask(pins, "--to", "10.9.0.7", "--dport", "53", "--proto", "udp").output)["hooks"]
    assert hook["connection"]["initiator"] == "10.0.1.11:40000"
    assert hook["sender"]["by"] == "the connection"


def test_what_becomes_of_the_packet_is_shown(node: World, pins: Path) -> None:
    [hook] = json.loads(ask(pins, "--to", "10.9.0.7", "--dport", "53", "--proto", "udp").output)["hooks"]
    direct = hook["onward"] == "wire"
    assert hook["packet"]["hopLimit"] == (63 if direct else 64)
    assert hook["packet"]["mark"] == "0x10000"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--to", "nowhere", "--dport", "80"), "is no IP address"),
        (("--to", "10.9.0.7"), "needs --dport"),
        (("--to", "2001:db8::1", "--dport", "80"), "has no address of the family"),
        (("--to", "10.9.0.7", "--dport", "80", "--flags", "XS"), "is no TCP flag"),
    ],
)
def test_bad_input_says_what_to_write(node: World, pins: Path, words: tuple[str, ...], complaint: str) -> None:
    result = ask(pins, *words)
    assert isinstance(result.exception, UsageError)
    assert complaint in str(result.exception)


def test_an_address_that_is_no_pod_here_is_refused(node: World, pins: Path) -> None:
    result = ask(pins, "--to", "10.9.0.8", "--dport", "80", pod="10.9.0.7")
    assert "ask on the node of one of them" in result.output + str(result.exception)


SIX, SEVEN = IPv6Address("2001:db8::6"), IPv6Address("2001:db8::7")
FOUR, FIVE = IPv4Address("10.0.0.4"), IPv4Address("10.0.0.5")


@pytest.mark.parametrize(("source", "destination"), [(FOUR, FIVE), (SIX, SEVEN)])
@pytest.mark.parametrize(
    ("protocol", "layer"), [("tcp", TCP), ("udp", UDP), ("sctp", SCTP), ("icmp", None)], ids=lambda v: str(v)
)
def test_frames_are_what_another_implementation_makes_of_them(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, protocol: str, layer: type | None
) -> None:
    data = packets.frame(packets.Description(source, destination, protocol, 1234, 80, "SA"), bytes(6), bytes(6))
    parsed = Ether(data)
    network = IP if source.version == 4 else IPv6
    layer = layer or (ICMP if source.version == 4 else ICMPv6EchoRequest)
    assert parsed.haslayer(layer)
    if layer in (TCP, UDP):
        assert (parsed[layer].sport, parsed[layer].dport) == (1234, 80)
    if layer is TCP:
        assert parsed[TCP].flags == "SA"
    again = Ether(data)
    fields = {TCP: "chksum", UDP: "chksum", ICMP: "chksum", ICMPv6EchoRequest: "cksum"}
    if layer in fields:
        delattr(again[layer], fields[layer])
    if network is IP:
        del again[IP].chksum
    assert bytes(again) == data, "checksums too"


def test_a_real_packet_cannot_pass_for_a_dry_run(node: World, pins: Path) -> None:
    """The number is 0 while nobody asks, and 0 is no number."""
    from enitide_enidp.datapath import codec, testrun
    from enitide_enidp.datapath.dryrun import DRY_RUN_MAGIC
    from enitide_enidp.datapath.types import Hook

    packet = packets.Description(node.pod1.ipv4, IPv4Address("10.9.0.7"), "udp", 40001, 53)
    data = packets.frame(packet, node.pod1.pod_mac, node.pod1.host_mac)
    entry = node.loaded.entries[Hook.FROM_POD]
    testrun.run(entry, data, ifindex=node.pod1.ifindex, cb=(0, 0, 0, 0, DRY_RUN_MAGIC))
    fd = syscalls.pinned(loader.schema_dir(pins) / "maps" / "connections")
    assert len(syscalls.dump(fd, codec.CONNECTION_KEY.codec.size, codec.CONNECTION.codec.size, 4096)) == 1
