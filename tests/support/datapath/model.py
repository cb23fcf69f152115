"""What the programs should do, said a second time: from the meaning of a packet, never from its bytes.

`Case` is a packet as a person would describe it; `frame` lets scapy write it; `from_pod`, `to_pod` and `from_wire` are
the policy of bpf/README.md in Python. The C programs parse bytes, the model never does: the two share no code and no
idea of offsets.
"""

from __future__ import annotations

from dataclasses import dataclass

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw
from support.datapath.world import World

from enitide_api.reasons import Drop
from enitide_enidp.datapath import Endpoint, Routing
from enitide_enidp.datapath.types import Onward

SOURCES = ("own", "other pod", "remote", "node", "unspecified", "link-local")
DESTINATIONS = ("local pod", "self", "node", "remote", "multicast", "link-local", "loopback", "broadcast", "mapped pod")
TRANSPORTS = (
    "udp",
    "tcp",
    "echo",
    "sctp",
    "esp",
    "ns gateway",
    "ns own",
    "ns other",
    "na own",
    "na source",
    "rs",
    "ra",
)
TRANSPORTS += ("redirect", "mld")
DISCOVERY = ("ns gateway", "ns own", "ns other", "na own", "na source", "rs", "ra", "redirect")
EXTENSIONS = ("destination", "routing")
ENI_MTU, POD_MTU = 2000, 3000

POD_LINK_LOCAL = "fe80::aa"
_ADDRESSES = {
    ("remote", 4): "10.9.0.7",
    ("remote", 6): "2001:db8:9::7",
    ("unspecified", 4): "0.0.0.0",
    ("unspecified", 6): "::",
    ("link-local", 4): "169.254.169.254",
    ("link-local", 6): POD_LINK_LOCAL,
    ("multicast", 4): "224.0.0.5",
    ("multicast", 6): "ff02::1",
    ("loopback", 4): "127.0.0.1",
    ("loopback", 6): "::1",
    ("broadcast", 4): "255.255.255.255",
    ("broadcast", 6): "ff02::2",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A packet in words. IPv6-only traits (`extensions`, discovery) mean nothing for IPv4."""

    family: int
    source: str = "own"
    destination: str = "remote"
    transport: str = "udp"
    hop_limit: int = 64
    options: bool = False
    extensions: tuple[str, ...] = ()
    fragment: str = "none"
    length: str = "right"
    payload: int = 20
    to_host_mac: bool = True
    known: bool = True


def address(word: str, case: Case, world: World, pod: Endpoint) -> str:
    """What a word for an address means to pod 1."""
    other = world.pod2 if pod is world.pod1 else world.pod1
    if word in ("own", "self"):
        return str(pod.ipv4 if case.family == 4 else pod.ipv6)
    if word in ("other pod", "local pod"):
        return str(other.ipv4 if case.family == 4 else other.ipv6)
    if word == "mapped pod":
        return str(other.ipv4) if case.family == 4 else f"::ffff:{other.ipv4}"
    if word == "node":
        return str(next(a for a in world.node_addresses if a.version == case.family))
    return _ADDRESSES[word, case.family]


def _transport(case: Case, source: str, pod: Endpoint) -> Packet:
    own = str(pod.ipv6)
    data = Raw(b"x" * case.payload)
    six = {
        "echo": lambda: ICMPv6EchoRequest() / data,
        "ns gateway": lambda: ICMPv6ND_NS(tgt="fe80::1"),
        "ns own": lambda: ICMPv6ND_NS(tgt=own),
        "ns other": lambda: ICMPv6ND_NS(tgt="2001:db8:1::99"),
        "na own": lambda: ICMPv6ND_NA(tgt=own),
        "na source": lambda: ICMPv6ND_NA(tgt=source),
        "rs": ICMPv6ND_RS,
        "ra": ICMPv6ND_RA,
        "redirect": ICMPv6ND_Redirect,
        "mld": ICMPv6MLReport,
    }
    any_family = {
        "udp": lambda: UDP(sport=4431, dport=80) / data,
        "tcp": lambda: TCP(sport=4431, dport=80) / data,
        "echo": lambda: ICMP() / data,
        "sctp": lambda: SCTP(sport=4431, dport=80) / data,
        "esp": lambda: data,
    }
    maker = six.get(case.transport) if case.family == 6 else None
    return (maker or any_family.get(case.transport) or any_family["udp"])()


def frame(case: Case, world: World, pod: Endpoint, destination_mac: bytes) -> bytes:
    """The Ethernet frame."""
    source, destination = address(case.source, case, world, pod), address(case.destination, case, world, pod)
    ether = Ether(src=pod.pod_mac.hex(":"), dst=destination_mac.hex(":") if case.to_host_mac else "02:00:00:00:00:01")
    transport = _transport(case, source, pod)
    if case.family == 4:
        packet = ether / _ipv4(case, source, destination) / transport
    else:
        packet = ether / _ipv6(case, source, destination, transport)
    data = bytearray(bytes(packet))
    if case.length == "beyond the frame":
        offset = 16 if case.family == 4 else 18
        data[offset : offset + 2] = (len(data) + 1).to_bytes(2, "big")
    return bytes(data)


def _ipv4(case: Case, source: str, destination: str) -> IP:
    flags, offset = {"none": (0, 0), "first": (1, 0), "later": (0, 100)}[case.fragment]
    options = [IPOption_Router_Alert()] if case.options else []
    protocol = {"esp": {"proto": 50}}.get(case.transport, {})
    return IP(
        src=source, dst=destination, ttl=case.hop_limit, options=options, flags=flags, frag=offset, id=7, **protocol
    )


def _ipv6(case: Case, source: str, destination: str, transport: Packet) -> Packet:
    packet: Packet = IPv6(src=source, dst=destination, hlim=case.hop_limit)
    headers: list[Packet] = [IPv6ExtHdrHopByHop(options=[RouterAlert()])] if case.options else []
    headers += [IPv6ExtHdrDestOpt() if word == "destination" else IPv6ExtHdrRouting() for word in case.extensions]
    if case.fragment != "none":
        headers.append(IPv6ExtHdrFragment(offset=0 if case.fragment == "first" else 100, m=case.fragment == "first"))
    for header in headers:
        packet /= header
    if case.transport == "esp":
        (headers[-1] if headers else packet).nh = 50
        return packet / transport
    return packet / transport


@dataclass(frozen=True, slots=True)
class Verdict:
    """Dropped for a reason, or let through one way; exactly one of the two."""

    drop: Drop | None = None
    onward: Onward | None = None


STACK, PEER, WIRE = Verdict(onward=Onward.STACK), Verdict(onward=Onward.PEER), Verdict(onward=Onward.WIRE)


def _is_icmpv6(case: Case) -> bool:
    return case.family == 6 and case.transport in (*DISCOVERY, "echo", "mld")


def _discovery(case: Case) -> Drop | None:
    """For a discovery message whose type can be seen."""
    plain = case.hop_limit == 255 and not case.options and not case.extensions and case.fragment == "none"
    nobody = case.source == "unspecified"
    allowed = {
        "ns gateway": True,
        "ns own": nobody,
        "na own": not nobody,
        "na source": not nobody,
    }.get(case.transport, False)
    return None if plain and allowed else Drop.FORBIDDEN_NEIGHBOR


def source_verdict(case: Case) -> Drop | None:
    if case.family == 4:
        return None if case.source == "own" else Drop.SPOOFED_SOURCE
    if case.source not in ("own", "unspecified", "link-local"):
        return Drop.SPOOFED_SOURCE
    if case.transport in DISCOVERY and case.fragment != "later":
        return _discovery(case)
    if case.source == "own":
        return None
    return Drop.FORBIDDEN_NEIGHBOR if _is_icmpv6(case) else Drop.SPOOFED_SOURCE


def for_stack_only(case: Case) -> bool:
    return case.destination in ("multicast", "link-local", "loopback", "broadcast")


def may_bypass(case: Case, routing: Routing) -> bool:
    return routing is Routing.DIRECT and not case.options and case.hop_limit > 1 and case.to_host_mac


def fits(frame_bytes: int, mtu: int) -> bool:
    return frame_bytes - 14 <= mtu


def malformed(case: Case) -> bool:
    return case.length != "right"


def from_pod(case: Case, routing: Routing, frame_bytes: int) -> Verdict:
    if not case.known:
        return Verdict(Drop.NO_ENDPOINT)
    if malformed(case):
        return Verdict(Drop.MALFORMED)
    refused = source_verdict(case)
    if refused is not None:
        return Verdict(refused)
    if not may_bypass(case, routing) or for_stack_only(case):
        return STACK
    local = case.destination == "local pod" or (case.destination == "mapped pod" and case.family == 4)
    if local:
        return PEER if fits(frame_bytes, POD_MTU) else STACK
    if case.destination in ("self", "node"):
        return STACK
    return WIRE if fits(frame_bytes, ENI_MTU) else STACK


def to_pod(case: Case) -> Verdict:
    if not case.known:
        return Verdict(Drop.NO_ENDPOINT)
    if malformed(case):
        return Verdict(Drop.MALFORMED)
    if case.destination == "self" or for_stack_only(case):
        return STACK
    return Verdict(Drop.NOT_LOCAL)


def from_wire(case: Case, routing: Routing, frame_bytes: int) -> Verdict:
    """Never a drop: the node itself lives behind this hook."""
    if malformed(case) or not may_bypass(case, routing):
        return STACK
    pods = ("local pod", "self") + (("mapped pod",) if case.family == 4 else ())
    return PEER if case.destination in pods and fits(frame_bytes, POD_MTU) else STACK
