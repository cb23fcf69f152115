"""Writes each ENIClass's status: how many nodes it governs, how they stand, and whether it is sound.

Seldom and only when it differs: counts move with every node, and nobody decides by them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from enitide_api.errors import KubeError, NotLeading
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.resources import Condition, ENIClass, ENIClassStatus
from enitide_ipam.stamps import stamp
from enitide_kube.port import ENICLASS, KubePort
from enitide_operator.classes import problem_of
from enitide_operator.context import FIELD_MANAGER
from enitide_operator.metrics import Metrics
from enitide_operator.node_state import Summary
from enitide_operator.term import Term

_log = get_logger(__name__)

INTERVAL_S = 30.0
SOUND = "Valid"


@dataclass(frozen=True, slots=True)
class ClassView:
    """`summaries`: the governing class's name and the state of each node."""

    term: Term
    classes: Mapping[str, ENIClass]
    summaries: list[tuple[str, Summary]]


def class_status(obj: ENIClass, summaries: list[tuple[str, Summary]], now: float) -> ENIClassStatus:
    """What a class's status should say."""
    mine = [summary for name, summary in summaries if name == obj.metadata.name]
    problem = problem_of(obj.spec)
    before = {each.type: each for each in obj.status.conditions}.get(SOUND)
    wanted = "False" if problem else "True"
    kept = before is not None and before.status == wanted
    condition = Condition(
        type=SOUND,
        status=wanted,
        reason=(Reason.CLASS_INVALID if problem else Reason.CLASS_VALID).value,
        message=problem or "nothing in it contradicts itself",
        last_transition_time=before.last_transition_time if kept and before is not None else stamp(now),
    )
    return ENIClassStatus(
        observed_generation=obj.metadata.generation,
        nodes=len(mine),
        nodes_ready=sum(not each.needed and each.wait is None for each in mine),
        nodes_at_capacity=sum(each.at_capacity for each in mine),
        conditions=(condition,),
    )


def changed(before: ENIClassStatus, after: ENIClassStatus) -> dict[str, Any]:
    """The fields of a merge patch that differ; empty: nothing to write."""
    return {
        field.encode_name: msgspec.to_builtins(getattr(after, field.name))
        for field in msgspec.structs.fields(ENIClassStatus)
        if getattr(after, field.name) != getattr(before, field.name)
    }


class ClassReporter:
    """`run(view)` as a task; `view()` is None while this process follows."""

    def __init__(self, kube: KubePort, metrics: Metrics, rng: Random, now: Callable[[], float]) -> None:
        self._kube = kube
        self._metrics = metrics
        self._rng = rng
        self._now = now

    async def run(self, view: Callable[[], ClassView | None]) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S * self._rng.uniform(0.8, 1.2))
            seen = view()
            if seen is not None:
                for obj in tuple(seen.classes.values()):
                    await self._write(obj, seen)

    async def _write(self, obj: ENIClass, view: ClassView) -> None:
        parts = changed(obj.status, class_status(obj, view.summaries, self._now()))
        if not parts:
            return
        patch = {"metadata": {"resourceVersion": obj.metadata.resource_version}, "status": parts}
        name = obj.metadata.name
        try:
            view.term.require()
            await self._kube.patch(ENICLASS, name, patch, subresource="status", field_manager=FIELD_MANAGER)
            self._metrics.wrote(ENICLASS.kind, "ok")
        except NotLeading:
            return
        except KubeError as error:  # the next round sees what stands then
            self._metrics.wrote(ENICLASS.kind, error.reason)
            _log.warning("class status not written", eniclass=name, reason=error.reason, why=str(error))
