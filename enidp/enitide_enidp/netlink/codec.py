"""Netlink messages as bytes: headers, attributes, and the splitting of what a socket delivers.

Pure. Layouts are those of netlink(7): everything is in host byte order and padded to four bytes; addresses inside
attributes are in network order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_DUMP_INTR = 0x10
NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 2, 3, 4
NESTED = 0x8000
_TYPE_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_ERRNO = struct.Struct("=i")


def message(kind: int, flags: int, body: bytes) -> bytes:
    """A whole request with sequence number 0, to be filled in by the socket that sends it."""
    return HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, 0, 0) + body


def with_sequence(raw: bytes, sequence: int) -> bytes:
    """The message with its sequence number (bytes 8 to 12) filled in."""
    return raw[:8] + _U32.pack(sequence) + raw[12:]


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes([value]))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, _U32.pack(value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """What one receive delivered, as `(type, flags, sequence, body)`."""
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size:
            return
        yield kind, flags, sequence, data[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on; the last of a kind wins."""
    found: dict[int, bytes] = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def first(data: bytes, offset: int, wanted: int) -> bytes | None:
    """The first attribute of one kind, without reading what follows it; None if there is none."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return None
        if kind & _TYPE_MASK == wanted:
            return data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return None


def read_u32(payload: bytes | None, default: int = 0) -> int:
    """A 32-bit attribute, or the default where there is none."""
    return int(_U32.unpack_from(payload)[0]) if payload is not None and len(payload) >= 4 else default


def read_text(payload: bytes | None) -> str:
    """A text attribute without its end; empty where there is none."""
    return payload.split(b"\0", 1)[0].decode(errors="replace") if payload else ""


def error_number(body: bytes) -> int:
    """The errno of an NLMSG_ERROR body; 0 is an acknowledgement."""
    return -int(_ERRNO.unpack_from(body)[0])
