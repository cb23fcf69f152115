"""The programs' clock: units of 256 of the kernel's ticks (jiffies), which a program reads without a call."""

from __future__ import annotations

import time
from functools import cache

TICKS_SHIFT = 8
TCP_S, TCP_OPENING_S, TCP_CLOSING_S, OTHER_S, FRAGMENT_S = LIVES_S = (8000, 60, 10, 60, 30)
"""How long what the programs remember lives without a packet, in the order of `struct node_config`."""
_START_S = 300  # the kernel's counter begins so many seconds before 2^32, to find those who forget that it wraps
_NS_PER_S = 1_000_000_000
_MONOTONIC_COARSE = 6  # of <linux/time.h>; Python has no name for it


@cache
def ticks_per_s() -> int:
    """CONFIG_HZ of this kernel: the coarse clock's resolution is one tick."""
    return round(1 / time.clock_getres(_MONOTONIC_COARSE))


def now() -> int:
    """Now, in units; a unit off at times, as this is computed and not read."""
    ticks = (1 << 32) - _START_S * ticks_per_s() + time.monotonic_ns() * ticks_per_s() // _NS_PER_S
    return ticks >> TICKS_SHIFT


def seconds(units: int) -> float:
    """A span of units."""
    return (units << TICKS_SHIFT) / ticks_per_s()


def units(span_s: int) -> int:
    """A span in units, one more than it fills: the unit that runs is over sooner or later."""
    return (span_s * ticks_per_s() >> TICKS_SHIFT) + 1
