"""Kubernetes Events (events.k8s.io/v1) for people: what happened to an object, why, and what we did.

Recording never blocks and never raises; writing happens in `run()`. Repeats of one reason on one object fold into one
Event with a growing series, written after a minute and then every five: 1,000 throttled calls are one
Event, not 1,000 writes. A
trouble of many objects at once is written at a bounded rate, in the order in which it happened.
An Event that cannot be written is logged and counted under its reason, never retried: Events are news, not state.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal

from enitide_api.errors import KubeError, KubeNotFound
from enitide_api.logging import get_logger
from enitide_kube.port import EVENT, Kind, KubePort

SERIES_INTERVAL_S = 60.0  # between the first two writes of one series
SERIES_LATER_S = 300.0  # and between the next ones: what goes on happening is no news
SERIES_END_S = 360.0  # silence after which the next occurrence is a new Event, as the API's own clients do it
MAX_SERIES = 16384  # objects x reasons remembered at once: what 5,000 nodes have to say, at about 1 KB each
PER_S = 20.0  # writes a second in the long run: Events are never the load of a cluster in trouble
BURST = 200  # at once
NOTE_MAX = 1024  # the API refuses longer notes

EventType = Literal["Normal", "Warning"]
_log = get_logger("events")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The object an Event is about. `uid` lets `kubectl describe` find it."""

    kind: Kind
    name: str
    namespace: str = ""
    uid: str = ""


@dataclass(slots=True)
class _Series:
    """One Event: how often it happened, how often the API knows of, and when it may be written next (loop time)."""

    ref: ObjectRef
    type: EventType
    reason: str
    action: str
    note: str
    first: datetime
    last: datetime
    name: str
    count: int = 1
    written: int = 0
    due_s: float = 0.0
    last_s: float = field(default=0.0)


def _wall() -> datetime:
    return datetime.now(UTC)


class EventRecorder:
    """`record` from anywhere in the loop; `run()` as a task writes. `failed` counts by reason what was not written."""

    def __init__(
        self,
        kube: KubePort,
        controller: str,
        instance: str,
        *,
        rng: Random,
        now: Callable[[], datetime] = _wall,
        on_failed: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """`controller` is a qualified name such as `enitide.io/operator`, `instance` this process's identity.

        `on_failed` is told the reason for each Event that could not be written.
        """
        self._kube = kube
        self._controller = controller
        self._instance = instance
        self._rng = rng
        self._now = now
        self._on_failed = on_failed
        self._series: OrderedDict[tuple[object, ...], _Series] = OrderedDict()
        self._wake = asyncio.Event()
        self._tokens, self._tokens_s = float(BURST), 0.0
        self.failed: Counter[str] = Counter()
        self.written = 0
        self.forgotten = 0

    def record(self, ref: ObjectRef, reason: str, note: str, *, action: str, event_type: EventType = "Normal") -> None:
        """It happened. `reason` and `action` are words in CamelCase, `note` a sentence (cut at 1,024 characters)."""
        loop_s = asyncio.get_running_loop().time()
        now = self._now()
        key = (ref.kind.kind, ref.namespace, ref.name, ref.uid, event_type, reason)
        series = self._series.get(key)
        if series is not None and loop_s - series.last_s < SERIES_END_S:
            series.count += 1
            series.last, series.last_s = now, loop_s
        else:
            # a name is unique by time and chance together; time alone repeats under a virtual clock
            name = f"{ref.name}.{int(now.timestamp() * 1e6):x}{self._rng.getrandbits(32):08x}"
            series = _Series(ref, event_type, reason, action, note[:NOTE_MAX], now, now, name, last_s=loop_s)
            self._series[key] = series
        self._series.move_to_end(key)
        while len(self._series) > MAX_SERIES:
            _, old = self._series.popitem(last=False)
            self.forgotten += old.count - old.written
            if old.count > old.written:
                self._on_failed("Forgotten")
        self._wake.set()

    async def run(self) -> None:
        """Writes what is due, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            for series in [s for s in self._series.values() if s.count > s.written and s.due_s <= loop.time()]:
                await self._pace()
                await self._write(series)
            self._expire(loop.time())
            due = [s.due_s for s in self._series.values() if s.count > s.written]
            try:
                async with asyncio.timeout_at(min(due) if due else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _pace(self) -> None:
        """Return when one more write is due by `PER_S` and `BURST`."""
        loop = asyncio.get_running_loop()
        self._tokens = min(BURST, self._tokens + (loop.time() - self._tokens_s) * PER_S)
        self._tokens_s = loop.time()
        self._tokens -= 1.0
        if self._tokens < 0.0:
            await asyncio.sleep(-self._tokens / PER_S)

    def _expire(self, loop_s: float) -> None:
        for key, series in tuple(self._series.items()):
            if loop_s - series.last_s >= SERIES_END_S and series.count == series.written:
                del self._series[key]

    async def _write(self, series: _Series) -> None:
        count = series.count
        wait_s = SERIES_LATER_S if series.written else SERIES_INTERVAL_S
        series.due_s = asyncio.get_running_loop().time() + wait_s
        try:
            await self._send(series, count)
            self.written += 1
        except KubeError as error:
            self.failed[error.reason] += 1
            self._on_failed(error.reason)
            _log.warning("Event not written", about=series.ref.name, reason=series.reason, why=error.sentence())
        series.written = count

    async def _send(self, series: _Series, count: int) -> None:
        namespace = series.ref.namespace or "default"
        if series.written:
            patch = {"series": {"count": count, "lastObservedTime": _micro(series.last)}}
            try:
                await self._kube.patch(EVENT, series.name, patch, namespace=namespace)
            except KubeNotFound:
                pass  # the API server keeps Events for an hour: this one goes in anew below
            else:
                return
        body = self._body(series, namespace)
        if count > 1:
            body["series"] = {"count": count, "lastObservedTime": _micro(series.last)}
        await self._kube.create(EVENT, body, namespace=namespace)

    def _body(self, series: _Series, namespace: str) -> dict[str, Any]:
        ref = series.ref
        regarding = {"apiVersion": ref.kind.api_version, "kind": ref.kind.kind, "name": ref.name}
        regarding |= {k: v for k, v in (("namespace", ref.namespace), ("uid", ref.uid)) if v}
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"name": series.name, "namespace": namespace},
            "eventTime": _micro(series.first),
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            "regarding": regarding,
            "reason": series.reason,
            "action": series.action,
            "note": series.note,
            "type": series.type,
        }


def _micro(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
