"""Whether the agent must write its spec now, or may wait for the next interval.

One write tells all that is new, so a burst costs one write: at once only for what the operator must know to act.
"""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.resources import Demand, ENINodeSpec, ENINodeStatus
from enitide_ipam.tide import at_capacity, levels


@dataclass(frozen=True, slots=True)
class ReportState:
    """`written`: the spec of the last accepted write (None: never). `written_at`: when. `interval_s`: jittered."""

    written: ENINodeSpec | None
    written_at: float
    interval_s: float
    endpoints_now: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """`write_now`, and why; else `due_at`, None when there is nothing new to say."""

    write_now: bool
    why: str
    due_at: float | None


def decide(state: ReportState, wanted: ENINodeSpec, status: ENINodeStatus, now: float) -> Decision:
    """At once or at the interval.

    At once: the first registration, another instance, CIDRs to yield or to take back, and what is newly a deficit (by
    the shared formula). Anything else that changed waits for the interval; unchanged is never written.
    """
    written = state.written
    if written is None or written.instance != wanted.instance:
        return Decision(write_now=True, why="registration", due_at=None)
    if written == wanted:
        return Decision(write_now=False, why="", due_at=None)
    if _answers(written.yielded, wanted.yielded, status):
        return Decision(write_now=True, why="reclaim", due_at=None)
    if state.endpoints_now and set(wanted.endpoints) - set(written.endpoints):
        return Decision(write_now=True, why="endpoints", due_at=None)
    if is_deficit(wanted.demand, status) and not is_deficit(written.demand, status):
        return Decision(write_now=True, why="deficit", due_at=None)
    due_at = state.written_at + state.interval_s
    return Decision(write_now=due_at <= now, why="interval", due_at=due_at)


def _answers(written: tuple[str, ...], wanted: tuple[str, ...], status: ENINodeStatus) -> bool:
    """Something new is yielded, or taken back; to strike what has left can wait."""
    published = {cidr for each in status.interfaces for cidr in (*each.addresses, *each.prefixes)}
    return any(cidr not in written for cidr in wanted) or any(
        cidr in published and cidr not in wanted for cidr in written
    )


def is_deficit(demand: Demand, status: ENINodeStatus) -> bool:
    """`provisioned < low` as the operator would see it from this demand alone, and not at capacity.

    False before the operator has published a class: it acts on the registration itself.
    """
    if status.class_ is None:
        return False
    capacity = status.capacity
    marks = levels(demand, 0, status.class_.pool, prefix_delegation=status.class_.prefix_delegation)
    return capacity.provisioned < marks.low and not at_capacity(marks, capacity.provisioned, capacity.free_slots)
