"""Writes one Ethernet frame for a test run: addresses, protocol, ports, checksums. No options, no fragments. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from enitide_api.errors import UsageError

Address = IPv4Address | IPv6Address
NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}
_ICMPV6 = 58
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}
_PAYLOAD = bytes(16)


@dataclass(frozen=True, slots=True)
class Description:
    """A packet in words. `icmp_type` None: an echo request of the family; `port` is then its identifier."""

    source: Address
    destination: Address
    protocol: str
    source_port: int
    port: int
    flags: str = "S"
    icmp_type: int | None = None
    icmp_code: int = 0


def checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def flag_bits(text: str) -> int:
    """`SA` as TCP's byte; `UsageError` for a letter that is none."""
    unknown = [letter for letter in text.upper() if letter not in FLAGS]
    if unknown:
        raise UsageError(f"{''.join(unknown)!r} is no TCP flag: write some of {''.join(FLAGS)}, such as S or FA")
    return sum(FLAGS[letter] for letter in set(text.upper()))


def _transport(packet: Description) -> tuple[int, bytes, int]:
    """Protocol number, header with a checksum of zero, and where the checksum stands (-1: it has none here)."""
    if packet.protocol == "icmp":
        six = packet.source.version == 6
        kind = packet.icmp_type if packet.icmp_type is not None else (128 if six else 8)
        header = struct.pack("!BBHHH", kind, packet.icmp_code, 0, packet.source_port, 1)
        return (_ICMPV6 if six else 1), header + _PAYLOAD, 2
    ports = struct.pack("!HH", packet.source_port, packet.port)
    if packet.protocol == "tcp":
        return 6, ports + struct.pack("!IIBBHHH", 1, 0, 5 << 4, flag_bits(packet.flags), 65535, 0, 0), 16
    if packet.protocol == "udp":
        return 17, ports + struct.pack("!HH", 8 + len(_PAYLOAD), 0) + _PAYLOAD, 6
    return NUMBERS[packet.protocol], ports + bytes(8) + _PAYLOAD, -1


def _filled(packet: Description, number: int, body: bytes, at: int) -> bytes:
    if at < 0:
        return body
    pseudo = packet.source.packed + packet.destination.packed + struct.pack("!II", len(body), number)
    summed = body if number == 1 else pseudo + body
    return body[:at] + struct.pack("!H", checksum(summed)) + body[at + 2 :]


def frame(packet: Description, source_mac: bytes, destination_mac: bytes) -> bytes:
    """The frame; `UsageError` if the ends are of two families."""
    if packet.source.version != packet.destination.version:
        raise UsageError(f"{packet.source} and {packet.destination} are of two families: choose ends of one")
    number, body, at = _transport(packet)
    body = _filled(packet, number, body, at)
    version = packet.source.version
    if version == 4:
        addresses = packet.source.packed + packet.destination.packed
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, number, 0) + addresses
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    else:
        head = struct.pack("!IHBB", 6 << 28, len(body), number, 64) + packet.source.packed + packet.destination.packed
    return destination_mac + source_mac + struct.pack("!H", _ETHERTYPES[version]) + head + body
