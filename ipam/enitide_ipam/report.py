"""Whether the agent must write its spec now, or may wait for the next interval."""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.resources import Demand, ENINodeSpec, ENINodeStatus


@dataclass(frozen=True, slots=True)
class ReportState:
    """`written`: the spec of the last accepted write (None: never). `written_at`: when. `interval_s`: jittered."""

    written: ENINodeSpec | None
    written_at: float
    interval_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """`write_now`, and why; else `due_at`, None when there is nothing new to say."""

    write_now: bool
    why: str
    due_at: float | None


def decide(state: ReportState, wanted: ENINodeSpec, status: ENINodeStatus, now: float) -> Decision:
    """At once for what is newly a deficit (by the shared formula), a reclaim to answer, CIDRs to take back, or a first
    registration; anything else that changed waits for the interval; unchanged is never written.
    """
    raise NotImplementedError


def is_deficit(demand: Demand, status: ENINodeStatus) -> bool:
    """`provisioned < low` as the operator would see it from this demand, and not at capacity."""
    raise NotImplementedError
