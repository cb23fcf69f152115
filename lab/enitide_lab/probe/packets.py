"""The few packets a probe sends and reads, as bytes: ICMP echo of both families, and whole IP headers for forgeries."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address

ECHO4, REPLY4, ECHO6, REPLY6 = 8, 0, 128, 129
PROTOCOL4, PROTOCOL6 = 1, 58
HEADERS4, HEADERS6 = 28, 48  # IP header and ICMP header
_HOPS = 64


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo(family: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An ICMP echo request; for version 6 with checksum 0, which the kernel fills in."""
    if family == 6:
        return struct.pack("!BBHHH", ECHO6, 0, 0, identifier, sequence) + payload
    body = struct.pack("!BBHHH", ECHO4, 0, 0, identifier, sequence) + payload
    return body[:2] + struct.pack("!H", checksum(body)) + body[4:]


def whole(source: str, target: str, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo request with its IP header and the `source` one likes."""
    if ":" in target:
        from_, to = IPv6Address(source).packed, IPv6Address(target).packed
        body = echo(6, identifier, sequence, payload)
        pseudo = from_ + to + struct.pack("!IHBB", len(body), 0, 0, PROTOCOL6)
        body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
        return struct.pack("!IHBB", 6 << 28, len(body), PROTOCOL6, _HOPS) + from_ + to + body
    body = echo(4, identifier, sequence, payload)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, _HOPS, PROTOCOL4, 0)
    header += ip_address(source).packed + ip_address(target).packed
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + body


def icmp_of(family: int, packet: bytes) -> tuple[int, int, int]:
    """(type, identifier, sequence) of what a raw ICMP socket received; version 4 sockets give the IP header too."""
    start = (packet[0] & 0xF) * 4 if family == 4 else 0
    kind, _code, _sum, identifier, sequence = struct.unpack_from("!BBHHH", packet, start)
    return kind, identifier, sequence
