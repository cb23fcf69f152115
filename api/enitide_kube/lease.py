"""Leader election by a Lease such that two leaders' terms of mutation never overlap.

The rule (DESIGN §4): the Lease lasts 45 s and is renewed at least every 20 s; a mutating call may be sent only while
`now + 15 s < last renewal + 40 s`, 15 s being the longest a call may take and the renewal counted from before its
request was sent. Another program takes the Lease only after it has itself seen it unchanged for its whole duration.
So whoever was paused (SIGSTOP, a frozen VM) wakes up outside its term and knows it by its own clock alone.

No remote wall clock is ever compared with ours: `renewTime` is written for people and never read. The clock is one
that keeps counting while the process is stopped and while the machine is suspended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec

from enitide_api.errors import KubeConflict, KubeError, KubeExists, KubeNotFound, NotLeading
from enitide_api.reasons import Reason
from enitide_kube.port import LEASE, KubePort

CALL_MAX_S = 15.0  # no mutating call may be under way longer than this
TERM_AFTER_RENEWAL_S = 40.0  # 5 s less than the Lease: room for the difference between two machines' clock rates
REQUEST_TIMEOUT_S = 5.0
RETRY_S = 2.0


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    lease_transitions: int | None = None
    renew_time: str | None = None
    acquire_time: str | None = None


class _Meta(msgspec.Struct, rename="camel"):
    uid: str = ""
    resource_version: str = ""


class _Lease(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


_DECODER = msgspec.json.Decoder(_Lease)


@dataclass(frozen=True, slots=True)
class Observed:
    """The Lease as we last read or wrote it, and since when (our clock) we know that version."""

    uid: str
    version: str
    holder: str
    duration_s: float
    transitions: int
    since_s: float


def boot_clock() -> float:
    """Seconds of CLOCK_BOOTTIME: monotonic, and unlike CLOCK_MONOTONIC it counts on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_clock() -> datetime:
    """UTC now, for `renewTime` and `acquireTime` alone."""
    return datetime.now(UTC)


def _quiet(_reason: Reason | None, _detail: str) -> None:
    return None


class LeaderElection:
    """`run()` it as a task; ask `may_mutate()` right before every mutating call.

    `term` grows with each acquisition by anyone: work planned in another term must be planned anew. `on_change(True)`
    comes when we take the Lease, `on_change(False)` when we know or must assume that we have lost it. `on_state` tells
    why the API cannot be asked, None when it can again. Cancelling `run()` releases the Lease, so cancel whatever
    mutates before it. `identity` must be this process's alone (a pod's name and something random): who finds it in the
    Lease takes the Lease for its own.
    """

    def __init__(
        self,
        kube: KubePort,
        namespace: str,
        name: str,
        identity: str,
        *,
        rng: Random,
        duration_s: float = 45.0,
        renew_s: float = 20.0,
        clock: Callable[[], float] = boot_clock,
        now: Callable[[], datetime] = wall_clock,
        on_change: Callable[[bool], None] = lambda _leading: None,
        on_state: Callable[[Reason | None, str], None] = _quiet,
    ) -> None:
        if duration_s < TERM_AFTER_RENEWAL_S + 5.0 or renew_s > TERM_AFTER_RENEWAL_S - CALL_MAX_S:
            raise ValueError(
                f"a lease of {duration_s:g} s renewed every {renew_s:g} s does not keep terms apart: "
                "write at least 45 and at most 25"
            )
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._duration_s = duration_s
        self._renew_s = renew_s
        self._clock = clock
        self._now = now
        self._rng = rng
        self._on_change = on_change
        self._on_state = on_state
        self._seen: Observed | None = None
        self._renewed_s: float | None = None
        self._foreign_until_s = float("-inf")
        self._told = False
        self._troubled = False

    def may_mutate(self) -> bool:
        """Whether a call that takes at most 15 s may be sent now: by the clock, not by what a task has noticed."""
        return self._renewed_s is not None and self._clock() + CALL_MAX_S < self._renewed_s + TERM_AFTER_RENEWAL_S

    def require(self) -> None:
        """`NotLeading` unless `may_mutate()`."""
        if not self.may_mutate():
            raise NotLeading(f"{self.identity} does not lead ({self.holder or 'nobody'} holds {self._name}); not sent")

    @property
    def holder(self) -> str:
        """Who held the Lease when we last looked; '' for nobody."""
        return self._seen.holder if self._seen else ""

    @property
    def term(self) -> int:
        """Transitions of the Lease as last seen."""
        return self._seen.transitions if self._seen else 0

    async def run(self) -> None:
        """Acquires, renews, follows; until cancelled, then releases."""
        try:
            while True:
                delay_s = await self._round()
                self._tell()
                await asyncio.sleep(delay_s)
        finally:
            await self._release()

    async def _round(self) -> float:
        """One look or renewal. Returns the delay to the next, in seconds."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                held = await self._advance()
        except (KubeConflict, KubeExists, KubeNotFound) as error:
            # Someone wrote between our read and our write: what we knew is stale, so it is read before anything else.
            self._seen = None if isinstance(error, KubeNotFound) else self._seen
            await self._look_quietly()
            return self._jitter(RETRY_S / 4)
        except (KubeError, TimeoutError) as error:
            reason = error.reason if isinstance(error, KubeError) else Reason.API_UNAVAILABLE
            self._report(reason, str(error) or f"no answer within {REQUEST_TIMEOUT_S:g} s")
            return self._jitter(RETRY_S)
        self._report(None, "")
        # A follower looks often, so that a released Lease is taken in seconds. A leader renews at half of `renew_s`,
        # so that one lost renewal still leaves its term unbroken.
        return self._jitter(self._renew_s / 2 if held else RETRY_S)

    async def _advance(self) -> bool:
        """Renews what is ours, takes what is free or expired, else looks. Whether we hold it now."""
        seen = self._seen
        if seen is None:
            await self._look()
            seen = self._seen
        if seen is None:
            # A Lease deleted under its holder ends nobody's term: the holder has not noticed yet.
            return await self._create() if self._clock() >= self._foreign_until_s else False
        if seen.holder == self.identity:
            return await self._write(seen, transitions=seen.transitions, acquiring=False)
        if seen.holder and self._clock() < seen.since_s + seen.duration_s:
            await self._look()
            seen = self._seen
            if seen is None or (seen.holder and self._clock() < seen.since_s + seen.duration_s):
                return False
        return await self._write(seen, transitions=seen.transitions + 1, acquiring=True)

    async def _look_quietly(self) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._look()
        except (KubeError, TimeoutError) as error:
            reason = error.reason if isinstance(error, KubeError) else Reason.API_UNAVAILABLE
            self._report(reason, str(error))

    async def _look(self) -> None:
        try:
            raw = await self._kube.get(LEASE, self._name, namespace=self._namespace)
        except KubeNotFound:
            self._seen = None
            self._lose()
            return
        self._observe(_DECODER.decode(raw))

    def _observe(self, lease: _Lease) -> None:
        """Notes the Lease. Its age counts from when we first saw this version, which is later than its writing."""
        seen, version = self._seen, lease.metadata.resource_version
        same = seen is not None and (seen.uid, seen.version) == (lease.metadata.uid, version)
        spec = lease.spec
        self._seen = Observed(
            uid=lease.metadata.uid,
            version=version,
            holder=spec.holder_identity or "",
            duration_s=float(spec.lease_duration_seconds or self._duration_s),
            transitions=spec.lease_transitions or 0,
            since_s=seen.since_s if seen is not None and same else self._clock(),
        )
        if self._seen.holder != self.identity:
            self._lose()
            held = self._seen.since_s + self._seen.duration_s
            self._foreign_until_s = held if self._seen.holder else float("-inf")

    async def _create(self) -> bool:
        sent_s = self._clock()
        body = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec(transitions=0, acquiring=True),
        }
        raw = await self._kube.create(LEASE, body, namespace=self._namespace)
        return self._renewed(raw, sent_s)

    async def _write(self, seen: Observed, *, transitions: int, acquiring: bool) -> bool:
        sent_s = self._clock()
        patch = {
            # with the uid too: a Lease that was deleted and made anew is another one
            "metadata": {"resourceVersion": seen.version, "uid": seen.uid},
            "spec": self._spec(transitions=transitions, acquiring=acquiring),
        }
        raw = await self._kube.patch(LEASE, self._name, patch, namespace=self._namespace)
        return self._renewed(raw, sent_s)

    def _spec(self, *, transitions: int, acquiring: bool) -> dict[str, Any]:
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": round(self._duration_s),
            "leaseTransitions": transitions,
            "renewTime": stamp,
        }
        if acquiring:
            spec["acquireTime"] = stamp
        return spec

    def _renewed(self, raw: bytes, sent_s: float) -> bool:
        self._observe(_DECODER.decode(raw))
        self._renewed_s = sent_s
        return True

    async def _release(self) -> None:
        """Gives the Lease back, if it is ours: the next leader need not wait for it to expire."""
        held, seen = self._renewed_s is not None, self._seen
        self._lose()
        self._tell()
        if not held or seen is None:
            return
        patch = {
            "metadata": {"resourceVersion": seen.version, "uid": seen.uid},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1},
        }
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                await self._kube.patch(LEASE, self._name, patch, namespace=self._namespace)
        except (KubeError, TimeoutError) as error:
            reason = error.reason if isinstance(error, KubeError) else Reason.API_UNAVAILABLE
            self._on_state(reason, f"the lease could not be released and will expire by itself: {error}")

    def _lose(self) -> None:
        self._renewed_s = None

    def _tell(self) -> None:
        leading = self._renewed_s is not None and self._clock() < self._renewed_s + TERM_AFTER_RENEWAL_S
        if leading != self._told:
            self._told = leading
            self._on_change(leading)

    def _report(self, reason: Reason | None, detail: str) -> None:
        if reason is not None or self._troubled:
            self._troubled = reason is not None
            self._on_state(reason, detail)

    def _jitter(self, delay_s: float) -> float:
        return delay_s * self._rng.uniform(0.8, 1.2)
