"""Tells people, by Events on the Node and its ENINode, when a node begins to wait and when it no longer does.

One Event per change of a node's reason, not one per pass; repeats fold into series (`enitide_kube.events`). Work under
way is no news until it has lasted `STUCK_S`: then it is told whatever keeps it, so that no node is short in silence. It
is told on the ENINode alone, and that it is done is no news: a thousand nodes that wait are the ordinary course.
"""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_api.resources import Condition
from enitide_ipam.model import Plan
from enitide_ipam.status import AGENT_SILENT
from enitide_kube.events import ObjectRef
from enitide_kube.port import ENINODE, NODE
from enitide_operator.context import Context
from enitide_operator.decision import Outlook
from enitide_operator.node_state import NodeState, Summary

STUCK_S = 75.0  # Events of a thousand nodes take half a minute to be written
REPEAT_S = 600.0  # reasons that take turns are told once in this time each


@dataclass(frozen=True, slots=True)
class Said:
    """What to tell now: a reason with its sentence, or (`reason` None) that the node no longer waits."""

    reason: Reason | None
    note: str = ""


def waits_for(plan: Plan, summary: Summary) -> Reason | None:
    """Why the node is not at its tide; None where it is. Covered by work under way: `Filling`."""
    return plan.wait or (Reason.FILLING if summary.needed else None)


def headline(
    told: Reason | None, reason: Reason | None, plan: Plan, filling_since: float | None, now: float
) -> Said | None:
    """What is new since `told`; None for nothing. `filling_since`: since when the node has been short."""
    if reason is None:
        return Said(None, "the node no longer waits") if told is not None else None
    if reason is told:
        return None
    if reason is Reason.FILLING and (filling_since is None or now < filling_since + STUCK_S):
        return None
    return Said(reason, plan.message or "addresses are on their way, and slow to come")


class News:
    """For one node."""

    def __init__(self, ctx: Context, state: NodeState) -> None:
        self._ctx = ctx
        self._state = state
        self._told: Reason | None = None
        self._silent = False
        self._short_since: float | None = None
        self._recorded_at: dict[Reason, float] = {}

    def tell(self, view: Outlook) -> None:
        """After each pass that speaks."""
        reason = waits_for(view.plan, view.summary)
        now = self._ctx.now()
        if reason is None:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now
        said = headline(self._told, reason, view.plan, self._short_since, now)
        if said is not None:
            before, self._told = self._told, said.reason
            if said.reason is not None:
                self._record(said.reason, said.note, warning=True)
            elif before is not Reason.FILLING:
                self._record(Reason.POOL_FILLED, said.note, warning=False)
        self._tell_silence(view.wanted.conditions)

    def look_again_at(self) -> float | None:
        """When work under way becomes news (Unix seconds); None where nothing is to be told."""
        if self._short_since is None or self._told is not None:
            return None
        due = self._short_since + STUCK_S
        return due if due > self._ctx.now() else None

    def _tell_silence(self, conditions: tuple[Condition, ...]) -> None:
        silence = next((each for each in conditions if each.type == AGENT_SILENT), None)
        if silence is not None and not self._silent:
            self._record(Reason.AGENT_SILENT, silence.message, warning=True)
        self._silent = silence is not None

    def _record(self, reason: Reason, note: str, *, warning: bool) -> None:
        ctx, state, now = self._ctx, self._state, self._ctx.now()
        if now < self._recorded_at.get(reason, float("-inf")) + REPEAT_S:
            return
        self._recorded_at[reason] = now
        node = ctx.nodes.get(state.name)
        refs = [ObjectRef(ENINODE, state.name, uid=state.resource.metadata.uid)]
        if node is not None and reason is not Reason.FILLING:
            refs.append(ObjectRef(NODE, state.name, uid=node.metadata.uid))
        for ref in refs:
            ctx.events.record(ref, reason, note, action="Allocate", event_type="Warning" if warning else "Normal")
