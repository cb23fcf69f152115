"""Bytes of the policy maps: rule sets, their entries, endpoints' policy words, CIDRs. Numbers are those of consts.h."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from enitide_enidp.datapath import codec
from enitide_policy.mapstate import DIRECTION_SHIFT, Network

MAX_RULESETS, MAX_RULES = 8192, 262_144
MAX_PLACES = 4096
EPOCHS = 1024
PEER_KINDS = 4
SHAPE_ROWS = 2 * PEER_KINDS
"""A rule set's bitmaps: direction x PEER_KINDS + kind of peer."""

POLICY_OPEN, POLICY_AUDIT, POLICY_HOST = 1, 2, 4
RULESET_CLOSED, RULESET_ISOLATED_INGRESS, RULESET_ISOLATED_EGRESS = 1, 2, 4
_POLICY, _RULESET = codec.POLICY.codec, codec.RULESET.codec
_CIDR_KEY, _CIDR = codec.CIDR_KEY.codec, codec.CIDR.codec
_SHAPES = struct.Struct(f"={SHAPE_ROWS}I")
RULESET_BYTES, KEY_BYTES, RULE_BYTES = _RULESET.size, codec.RULE_KEY.codec.size, codec.RULE.codec.size
CIDR_KEY_BYTES, CIDR_BYTES, POLICY_BYTES = _CIDR_KEY.size, _CIDR.size, _POLICY.size


@dataclass(frozen=True, slots=True)
class Word:
    """`struct policy`: who an endpoint is and where its rule set stands."""

    identity: int = 0
    place: int = 0
    """Of its rule set; 0: none, closed."""
    flags: int = 0


def encode_word(word: Word) -> bytes:
    return _POLICY.pack(word.identity, word.place, word.flags)


def decode_word(data: bytes) -> Word:
    return Word(*_POLICY.unpack(data))


@dataclass(frozen=True, slots=True)
class Head:
    """`struct ruleset`."""

    id: int
    generation: int
    flags: int
    entries: int
    shapes: tuple[int, ...] = (0,) * SHAPE_ROWS


def encode_head(head: Head) -> bytes:
    return pack_head(head.id, head.generation, head.flags, head.entries, pack_rows(head.shapes))


def pack_rows(shapes: Iterable[int]) -> bytes:
    """The bitmaps of a head."""
    return _SHAPES.pack(*shapes)


def pack_head(number: int, generation: int, flags: int, entries: int, rows: bytes) -> bytes:
    """`struct ruleset`, its bitmaps packed already."""
    return _RULESET.pack(number, generation & 0xFFFF_FFFF, flags, entries, rows)


def decode_head(data: bytes) -> Head:
    number, generation, flags, entries, shapes = _RULESET.unpack(data)
    return Head(number, generation, flags, entries, _SHAPES.unpack(shapes))


def encode_key(place: int, key: int) -> bytes:
    """`struct rule_key` of a packed key (`enitide_policy.mapstate.pack_key`) in the rule set at `place`."""
    return (key << 16 | place).to_bytes(KEY_BYTES, "little")


def decode_key(data: bytes) -> tuple[int, int]:
    """The place of the rule set, and the packed key in it."""
    number = int.from_bytes(data, "little")
    return number & 0xFFFF, number >> 16


def decode_value(data: bytes) -> int:
    """The packed value of `struct rule`."""
    return int.from_bytes(data, "little")


def pack_entries(sets: Iterable[tuple[int, Mapping[int, int]]]) -> tuple[bytes, bytes, int]:
    """Keys and values of rule sets, each with its place, in a row as one batch call takes them; at last how many.

    Large rule sets have few distinct values.
    """
    keys, values = list[bytes](), list[bytes]()
    known: dict[int, bytes] = {}
    for place, entries in sets:
        for key, value in entries.items():
            keys.append((key << 16 | place).to_bytes(KEY_BYTES, "little"))
            values.append(known.get(value) or known.setdefault(value, value.to_bytes(RULE_BYTES, "little")))
    return b"".join(keys), b"".join(values), len(keys)


def class_of(key: int) -> int:
    """Direction, kind of peer, protocol and number of port bits of a packed key, as one number."""
    return key >> DIRECTION_SHIFT


def classes_of(keys: Iterable[int]) -> Counter[int]:
    """How many keys have each direction, kind of peer, protocol and number of port bits."""
    return Counter([key >> DIRECTION_SHIFT for key in keys])


def bitmaps(classes: Iterable[int]) -> tuple[int, ...]:
    """The rows of a head for keys of these classes: bit 0 no L4, bit 1 protocol alone, bit 1 + n a port of n bits."""
    rows = [0] * SHAPE_ROWS
    for each in classes:
        direction, peer, protocol, bits = each.to_bytes(4, "little")
        rows[direction * PEER_KINDS + peer] |= 1 << (1 + bits if protocol else 0)
    return tuple(rows)


def encode_cidr_key(network: Network) -> bytes:
    """`struct cidr_key`: the family is the first 32 bits of the prefix."""
    return _CIDR_KEY.pack(32 + network.prefixlen, network.version, network.network_address.packed)


def decode_cidr_key(data: bytes) -> Network:
    bits, family, words = _CIDR_KEY.unpack(data)
    return ip_network((codec.address_of(family, words), bits - 32))


def encode_cidr(identity: int, klass: int) -> bytes:
    """`struct cidr`."""
    return _CIDR.pack(identity, klass)


def decode_cidr(data: bytes) -> tuple[int, int]:
    identity, klass = _CIDR.unpack(data)
    return identity, klass


def epoch_place(address: codec.Address) -> int:
    """Which epoch an address counts in: `epoch_place` of policy.h."""
    words = struct.unpack("=4I", address.packed.ljust(16, b"\0"))
    mixed = int(words[0] ^ words[1] ^ words[2] ^ words[3]) * 0x9E37_79B1 & 0xFFFF_FFFF
    return mixed >> 22 & (EPOCHS - 1)
