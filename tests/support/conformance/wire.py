"""Packets that no socket of this kernel makes: the first two of SCTP, datagrams from any port one likes. As bytes."""

from __future__ import annotations

import struct
from ipaddress import ip_address

INIT, INIT_ACK = 1, 2
SCTP, UDP = 132, 17
_CRC_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected (RFC 9260, appendix A)


def _table() -> list[int]:
    rows = []
    for start in range(256):
        value = start
        for _ in range(8):
            value = (value >> 1) ^ (_CRC_POLYNOMIAL if value & 1 else 0)
        rows.append(value)
    return rows


_CRC = _table()


def crc32c(data: bytes) -> int:
    """The checksum of SCTP."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def sctp(kind: int, source: int, target: int, tag: int, own_tag: int) -> bytes:
    """INIT or INIT ACK between two ports. `tag`: the receiver's, 0 in an INIT; `own_tag`: the sender's."""
    chunk = struct.pack("!BBHIIHHI", kind, 0, 20, own_tag, 65536, 1, 1, 1)
    head = struct.pack("!HHI", source, target, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def sctp_of(packet: bytes) -> tuple[int, int, int, int, int] | None:
    """(kind, source port, target port, receiver's tag, sender's tag) of what a raw socket received; None: neither."""
    start = (packet[0] & 0xF) * 4
    if len(packet) < start + 32 or packet[start + 12] not in (INIT, INIT_ACK):
        return None
    source, target, tag = struct.unpack_from("!HHI", packet, start)
    kind, _flags, _length, own_tag = struct.unpack_from("!BBHI", packet, start + 12)
    return kind, source, target, tag, own_tag


def datagram(source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    """IP and UDP; the kernel fills in length, identification and the header's checksum, UDP's is not needed."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, UDP, 0)
    head += ip_address(source[0]).packed + ip_address(target[0]).packed
    return head + struct.pack("!HHHH", source[1], target[1], 8 + len(payload), 0) + payload
