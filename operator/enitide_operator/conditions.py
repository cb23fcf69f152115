"""What the operator says of itself: a short list of conditions, beside those of nodes and classes.

They live in the process that leads (`Engine.conditions`, for the simulator), go out as a metric and an Event when they
turn, and stand as an annotation on the Lease, where `enitide status` and people read them without asking the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from enitide_api.errors import KubeError
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.resources import Condition
from enitide_ipam.stamps import stamp
from enitide_kube.events import EventRecorder, ObjectRef
from enitide_kube.port import LEASE, KubePort

_log = get_logger(__name__)

ANNOTATION = "enitide.io/conditions"  # on the operator's Lease: a JSON list of conditions
SWEEP = "Sweep"
CLASS = "DefaultClass"
AGAIN_S = 30.0


class Gauge(Protocol):
    """Shows a condition as a metric; `before`: its last reason, '' for none."""

    def __call__(self, kind: str, before: str, reason: str, *, ok: bool) -> None: ...


class OperatorConditions:
    """`tell` from anywhere in the loop; `run()` as a task writes what changed while this process leads."""

    def __init__(
        self,
        kube: KubePort,
        lease: ObjectRef,
        events: EventRecorder,
        *,
        gauge: Gauge,
        now: Callable[[], float],
        leading: Callable[[], bool],
    ) -> None:
        self._kube = kube
        self._lease = lease
        self._events = events
        self._gauge = gauge
        self._now = now
        self._leading = leading
        self._by_type: dict[str, Condition] = {}
        self._changed = asyncio.Event()

    @property
    def all(self) -> tuple[Condition, ...]:
        """By type."""
        return tuple(self._by_type[each] for each in sorted(self._by_type))

    def tell(self, kind: str, reason: Reason, message: str, *, ok: bool) -> None:
        """The condition is so now. Unchanged is no news; the time of transition moves only when the status turns."""
        before = self._by_type.get(kind)
        status = "True" if ok else "False"
        if before is not None and (before.status, before.reason, before.message) == (status, reason.value, message):
            return
        kept = before is not None and before.status == status
        moment = before.last_transition_time if kept and before is not None else stamp(self._now())
        self._by_type[kind] = Condition(
            type=kind, status=status, reason=reason.value, message=message, last_transition_time=moment
        )
        self._gauge(kind, before.reason if before else "", reason.value, ok=ok)
        if not ok and (before is None or before.reason != reason.value):
            _log.warning("operator condition", condition=kind, reason=reason, why=message)
            self._events.record(self._lease, reason, message, action=kind, event_type="Warning")
        self.write()

    def write(self) -> None:
        """A term has begun: what the Lease says may be another process's."""
        self._changed.set()

    async def run(self) -> None:
        """Keeps the Lease's annotation as it should be; a failed write is tried again."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._leading():
                continue
            try:
                await self._put()
            except KubeError as error:
                _log.warning("conditions not written", reason=error.reason, why=str(error))
                await asyncio.sleep(AGAIN_S)
                self._changed.set()

    async def _put(self) -> None:
        text = msgspec.json.encode(self.all).decode()
        patch = {"metadata": {"annotations": {ANNOTATION: text}}}
        await self._kube.patch(LEASE, self._lease.name, patch, namespace=self._lease.namespace)


def read_annotation(annotations: dict[str, str]) -> tuple[Condition, ...]:
    """The conditions on a Lease; none where there are none, or where another version wrote what we cannot read."""
    try:
        return msgspec.json.decode(annotations.get(ANNOTATION, "[]"), type=tuple[Condition, ...])
    except msgspec.DecodeError:
        return ()
