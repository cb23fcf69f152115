"""Packets of the policy model as scapy writes them."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw
from support.datapath import policymodel as pm
from support.datapath.policymodel import Said

LATER_AT = 100  # units of 8 bytes


def _icmp(packet: Said) -> Packet:
    kind, code = packet.kind
    head = bytes((kind, code)) + bytes(2)
    if packet.quotes is not None:
        return Raw(head + bytes(4) + bytes(network(packet.quotes))[: 20 + 8 if packet.family == 4 else 1000])
    return Raw(head + packet.sport.to_bytes(2, "big") + bytes(2) + b"x" * 16)


def _transport(packet: Said) -> Packet:
    if packet.is_icmp:
        return _icmp(packet)
    data = Raw(b"x" * 16)
    if packet.protocol == pm.TCP:
        return TCP(sport=packet.sport, dport=packet.dport, flags=packet.flags) / data
    if packet.protocol == pm.UDP:
        return UDP(sport=packet.sport, dport=packet.dport) / data
    if packet.protocol == pm.SCTP:
        return SCTP(sport=packet.sport, dport=packet.dport) / data
    return data


def network(packet: Said) -> Packet:
    """From the IP header on."""
    offset = LATER_AT if packet.fragment == "later" else 0
    body = Raw(b"later part of it") if packet.fragment == "later" else _transport(packet)
    source, destination = str(packet.source), str(packet.destination)
    if packet.family == 4:
        flags = "MF" if packet.fragment == "first" else 0
        fields = {"proto": packet.protocol, "id": packet.datagram, "flags": flags, "frag": offset, "ttl": 64}
        return IP(src=source, dst=destination, **fields) / Raw(bytes(body))
    head = IPv6(src=source, dst=destination, hlim=64)
    if packet.fragment == "none":
        return IPv6(src=source, dst=destination, hlim=64, nh=packet.protocol) / Raw(bytes(body))
    more = packet.fragment == "first"
    return head / IPv6ExtHdrFragment(nh=packet.protocol, offset=offset, m=more, id=packet.datagram) / Raw(bytes(body))


def frame(packet: Said, source_mac: bytes, destination_mac: bytes) -> bytes:
    """The Ethernet frame."""
    return bytes(Ether(src=source_mac.hex(":"), dst=destination_mac.hex(":")) / network(packet))
