"""Bytes of the policy maps: rule sets, their entries, endpoints' policy words, CIDRs. Numbers are those of consts.h."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from enitide_enidp.datapath import codec
from enitide_policy.mapstate import Action, Direction, Peer, RuleKey, RuleValue

Network = IPv4Network | IPv6Network

MAX_RULESETS, MAX_RULES = 8192, 524_288
MAX_PLACES = 4096
EPOCHS = 1024
PEER_KINDS = 4
SHAPE_ROWS = 2 * PEER_KINDS
"""A rule set's bitmaps: direction x PEER_KINDS + kind of peer."""

POLICY_OPEN, POLICY_AUDIT, POLICY_HOST = 1, 2, 4
RULESET_CLOSED, RULESET_ISOLATED_INGRESS, RULESET_ISOLATED_EGRESS = 1, 2, 4
MIDDLE_DENY, MIDDLE_ALLOW = 1, 2

_POLICY, _RULESET, _KEY, _RULE = codec.POLICY.codec, codec.RULESET.codec, codec.RULE_KEY.codec, codec.RULE.codec
_CIDR_KEY, _CIDR = codec.CIDR_KEY.codec, codec.CIDR.codec
_SHAPES = struct.Struct(f"={SHAPE_ROWS}I")
RULESET_BYTES, KEY_BYTES, RULE_BYTES = _RULESET.size, _KEY.size, _RULE.size
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
    return _RULESET.pack(head.id, head.generation & 0xFFFF_FFFF, head.flags, head.entries, _SHAPES.pack(*head.shapes))


def decode_head(data: bytes) -> Head:
    number, generation, flags, entries, shapes = _RULESET.unpack(data)
    return Head(number, generation, flags, entries, _SHAPES.unpack(shapes))


def shape_of(key: RuleKey) -> tuple[int, int]:
    """Row and bit of the bitmap that must be set for this key to be looked up."""
    row = key.direction * PEER_KINDS + key.peer
    if not key.protocol:
        return row, 0
    return row, 1 + key.port_bits


def encode_key(place: int, key: RuleKey) -> bytes:
    """`struct rule_key`."""
    return _KEY.pack(place, key.port, key.identity, key.direction, key.peer, key.protocol, key.port_bits)


def decode_key(data: bytes) -> tuple[int, RuleKey]:
    """The place of the rule set, and the key in it."""
    place, port, identity, direction, peer, protocol, port_bits = _KEY.unpack(data)
    return place, RuleKey(Direction(direction), Peer(peer), identity, protocol, port, port_bits)


def encode_rule(value: RuleValue) -> bytes:
    """`struct rule`."""
    middle = (MIDDLE_DENY if value.deny else 0) | (MIDDLE_ALLOW if value.allow else 0)
    return _RULE.pack(value.admin_precedence, value.baseline_precedence, value.admin, value.baseline, middle, b"\0")


def decode_rule(data: bytes) -> RuleValue:
    admin_precedence, baseline_precedence, admin, baseline, middle, _ = _RULE.unpack(data)
    return RuleValue(
        admin=Action(admin),
        admin_precedence=admin_precedence,
        deny=bool(middle & MIDDLE_DENY),
        allow=bool(middle & MIDDLE_ALLOW),
        baseline=Action(baseline),
        baseline_precedence=baseline_precedence,
    )


def pack_entries(place: int, entries: Mapping[RuleKey, RuleValue]) -> tuple[bytes, bytes]:
    """Keys and values in a row, as one batch call takes them. Large rule sets have few distinct values."""
    pack = _KEY.pack
    keys = b"".join([pack(place, k.port, k.identity, k.direction, k.peer, k.protocol, k.port_bits) for k in entries])
    known: dict[int, bytes] = {}
    values = list[bytes]()
    for value in entries.values():
        encoded = known.get(id(value))
        if encoded is None:
            encoded = known[id(value)] = encode_rule(value)
        values.append(encoded)
    return keys, b"".join(values)


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


def shapes_of(keys: Iterable[RuleKey]) -> dict[tuple[int, int], int]:
    """How many keys have each shape."""
    counts: dict[tuple[int, int], int] = {}
    for key in keys:
        shape = shape_of(key)
        counts[shape] = counts.get(shape, 0) + 1
    return counts


def bitmaps(shapes: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """The rows of a head for these shapes."""
    rows = [0] * SHAPE_ROWS
    for row, bit in shapes:
        rows[row] |= 1 << bit
    return tuple(rows)
