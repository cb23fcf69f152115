"""Ports and ICMP types as the L4 part of packed keys: a range becomes its minimal cover by leading bits."""

from __future__ import annotations

from functools import lru_cache

from enitide_policy.labels import Ports
from enitide_policy.mapstate import BITS_SHIFT, PROTOCOL_SHIFT
from enitide_policy.model import ICMP, ICMPV6, L4, PROTOCOLS


def cover(first: int, last: int, width: int) -> list[tuple[int, int]]:
    """The fewest blocks (value, leading bits) that together are exactly first..last of a `width`-bit number."""
    found = []
    while first <= last:
        size = first & -first or 1 << width
        while first + size - 1 > last:
            size >>= 1
        found.append((first, width - (size.bit_length() - 1)))
        first += size
    return found


@lru_cache(maxsize=1 << 16)
def parts(l4: L4) -> tuple[int, ...]:
    """The packed L4 parts of numeric ports: one for each block. No name is looked at."""
    protocol = l4.protocol << PROTOCOL_SHIFT
    if not l4.protocol:
        return (0,)
    icmp = l4.protocol in (ICMP, ICMPV6)
    width, shift = (8, 8) if icmp else (16, 0)
    last = min(l4.last, (1 << width) - 1)
    return tuple(
        protocol | (value << shift | bits << BITS_SHIFT if bits else 0) for value, bits in cover(l4.first, last, width)
    )


@lru_cache(maxsize=1 << 16)
def named_parts(l4: L4, ports: Ports) -> tuple[int, ...]:
    """The packed L4 parts of a named port at a pod with these ports; none if it has no port of that name."""
    return tuple(
        PROTOCOLS[word] << PROTOCOL_SHIFT | number | 16 << BITS_SHIFT
        for name, word, number in ports
        if name == l4.name and l4.protocol in (0, PROTOCOLS[word])
    )
