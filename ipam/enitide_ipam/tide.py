"""The tide: how many IPv4 addresses a node should hold. One formula for operator, agent and command line.

Pure arithmetic in addresses. Two invariants are tested over the whole small state space: after taking what `take` says
nothing is given back, and after giving back what `give_back` says nothing is taken. Any other formula flaps.
"""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.resources import Demand, PoolLevels
from enitide_ipam.addresses import PREFIX_SIZE


@dataclass(frozen=True, slots=True)
class Levels:
    """Watermarks of one node, in addresses.

    Below `low` the node takes, up to `high`; above `high + slack` it gives back, down to `high`. `high` is already cut
    to maxAllocate but never below `held` (in use or cooling: those are never given back). `maximum`: maxAllocate.
    """

    low: int
    high: int
    slack: int
    held: int
    maximum: int | None


def levels(demand: Demand, bound: int, pool: PoolLevels, *, prefix_delegation: bool = False) -> Levels:
    """Watermarks from demand (agent), `bound` pods that are not host-network (operator; 0 where unknown) and class."""
    pods = max(demand.in_use + demand.waiting, bound)
    low = max(pool.min_allocate, demand.cooling + max(demand.in_use + pool.pre_allocate, pods))
    held = demand.in_use + demand.cooling
    high = low + pool.max_above_watermark
    if pool.max_allocate is not None:
        high = max(min(high, pool.max_allocate), min(high, held))
    return Levels(low, high, PREFIX_SIZE - 1 if prefix_delegation else 0, held, pool.max_allocate)


def cap(provisioned: int, room: int, maximum: int | None) -> int:
    """The most the node can come to hold. `room`: what its free slots can still hold (`NodeCapacity.room`)."""
    reach = provisioned + room
    return reach if maximum is None else min(reach, maximum)


def at_capacity(marks: Levels, provisioned: int, room: int) -> bool:
    """Wants more and cannot have it: no free slot, or maxAllocate reached."""
    return marks.low > provisioned and cap(provisioned, room, marks.maximum) <= provisioned


def take(marks: Levels, provisioned: int, room: int) -> int:
    """How many addresses to take now; 0 unless below `low`. Rounding up to prefixes is the planner's."""
    if provisioned >= marks.low:
        return 0
    return max(0, min(marks.high, cap(provisioned, room, marks.maximum)) - provisioned)


def give_back(marks: Levels, provisioned: int) -> int:
    """How many addresses to ask back now; 0 unless above `high + slack`."""
    return provisioned - marks.high if excess(marks, provisioned) else 0


def needed(marks: Levels, provisioned: int, room: int) -> int:
    """The deficit that is reported: below `low`, and 0 at capacity."""
    return 0 if at_capacity(marks, provisioned, room) else max(0, marks.low - provisioned)


def excess(marks: Levels, provisioned: int) -> int:
    """The surplus that is reported: above `high + slack`, whether release is enabled or not."""
    return max(0, provisioned - marks.high - marks.slack)


def to_give(demand: Demand, bound: int, provisioned: int) -> int:
    """Addresses that pods could get at once: neither held, nor cooling, nor awaited. Negative where pods wait."""
    return provisioned - demand.cooling - max(demand.in_use + demand.waiting, bound)


def prefixes_and_singles(count: int, provisioned: int, maximum: int | None) -> tuple[int, int]:
    """`count` wanted addresses as (whole /28s, single addresses), where /28s may be had without limit.

    Rounded up to whole prefixes, unless that passes maxAllocate: then the rest are single addresses.
    """
    whole, rest = divmod(count, PREFIX_SIZE)
    if not rest:
        return whole, 0
    if maximum is None or provisioned + (whole + 1) * PREFIX_SIZE <= maximum:
        return whole + 1, 0
    return whole, rest
