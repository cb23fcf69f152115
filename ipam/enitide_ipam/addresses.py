"""IPv4 addresses as integers, /28 prefixes as their first address, and the text forms the APIs speak.

Strict: a text that is no canonical address or network is a `ValueError`, never repaired. IPv4 goes through the C
library, as it stands on the pod path; IPv6 is rare here and goes through `ipaddress`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from socket import AF_INET, inet_pton

PREFIX_LENGTH = 28
PREFIX_SIZE = 16
IPV6_PREFIX_LENGTH = 80


def parse(text: str) -> int:
    """`10.0.0.7` as an integer. `ValueError` for anything but four decimal octets without leading zeros."""
    try:
        return int.from_bytes(inet_pton(AF_INET, text))
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is no IPv4 address") from None


def text(address: int) -> str:
    """An integer as dotted text."""
    if not 0 <= address <= 0xFFFFFFFF:
        raise ValueError(f"{address} is outside IPv4")
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def parse_cidr(cidr: str) -> tuple[int, int]:
    """First address and length of an IPv4 network or, without a slash, of a single address (length 32)."""
    base_text, slash, length_text = cidr.partition("/")
    base = parse(base_text)
    if not slash:
        return base, 32
    if not (length_text.isascii() and length_text.isdigit()) or int(length_text) > 32:
        raise ValueError(f"{cidr!r} is no IPv4 network")
    length = int(length_text)
    if base & ((1 << 32 - length) - 1):
        raise ValueError(f"{cidr!r} has bits set beyond its length")
    return base, length


def cidr_text(base: int, length: int) -> str:
    """`10.0.0.16/28`; a single address without a slash."""
    return text(base) if length == 32 else f"{text(base)}/{length}"


def size(cidr: str) -> int:
    """How many addresses a network or single address holds."""
    return 1 << 32 - parse_cidr(cidr)[1]


def expand(cidr: str) -> range:
    """Every address of a network or single address."""
    base, length = parse_cidr(cidr)
    return range(base, base + (1 << 32 - length))


def is_prefix(cidr: str) -> bool:
    """Whether this is a delegated /28 (and not a single address)."""
    return parse_cidr(cidr)[1] == PREFIX_LENGTH


def contains(cidr: str, address: int) -> bool:
    """Whether the network holds the address."""
    base, length = parse_cidr(cidr)
    return base <= address < base + (1 << 32 - length)


def overlap(one: str, other: str) -> bool:
    """Whether two networks share an address."""
    first, second = expand(one), expand(other)
    return first.start < second.stop and second.start < first.stop


def ordered(cidrs: Iterable[str]) -> tuple[str, ...]:
    """In numeric order, shorter networks first where they start together; doubles dropped."""
    return tuple(cidr_text(base, length) for base, length in sorted({parse_cidr(cidr) for cidr in cidrs}))


def ordered_again(cidrs: Iterable[str], before: tuple[str, ...]) -> tuple[str, ...]:
    """`ordered(cidrs)`, where `before` was ordered so: the same members need no sorting."""
    now = tuple(cidrs)
    if now == before or (len(now) == len(before) and set(now) == set(before)):
        return before
    return ordered(now)


def gateway(cidr: str) -> str:
    """The VPC router of a subnet: its first address plus one."""
    base, length = parse_cidr(cidr)
    if length > 30:
        raise ValueError(f"{cidr!r} is no subnet")
    return text(base + 1)


def ordered_ipv6(cidrs: Iterable[str]) -> tuple[str, ...]:
    """IPv6 networks in numeric order, canonical text, doubles dropped."""
    return tuple(str(network) for network in sorted({ipaddress.IPv6Network(cidr) for cidr in cidrs}))


def ipv6_gateway(cidr: str) -> str:
    """The VPC router of an IPv6 subnet: its first address plus one."""
    return str(ipaddress.IPv6Network(cidr).network_address + 1)


def ipv6_of(prefix: str, ipv4: int) -> str:
    """The pod's IPv6 address: the IPv4 address in the last 32 bits of its ENI's /80.

    One function of the IPv4 address, so that it is unique where that is, cools with it, and needs no state.
    """
    network = ipaddress.IPv6Network(prefix)
    if network.prefixlen != IPV6_PREFIX_LENGTH:
        raise ValueError(f"{prefix!r} is no /80")
    return str(network.network_address + ipv4)
