"""A queue of keys to reconcile: never one key twice at once, repeats folded, failures spaced out per key.

It says when a key's turn is; it never knows what the work is. A failing key backs off alone, so one broken node
does not slow another. It must never lose a key that was added while it was being worked on: that is the race in which
a level-triggered loop goes blind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from random import Random
from typing import Generic, TypeVar

from enitide_kube.backoff import Backoff

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """For one event loop. The worker's contract: `key = await get()`, then `done(key)` or `failed(key)`, always."""

    def __init__(self, rng: Random, backoff: Backoff | None = None) -> None:
        self._rng = rng
        self._backoff = backoff or Backoff(base_s=0.2, cap_s=60.0)
        self._ready: deque[K] = deque()
        self._queued: set[K] = set()  # stands in _ready, or will when its present run is done
        self._running: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """Keys whose turn it is, without those being worked on or waiting for a timer."""
        return len(self._ready)

    @property
    def running(self) -> frozenset[K]:
        """Keys being worked on now."""
        return frozenset(self._running)

    @property
    def waiting(self) -> frozenset[K]:
        """Keys that a timer will add."""
        return frozenset(self._timers)

    def failures(self, key: K) -> int:
        """How often in a row the key has failed."""
        return self._failures.get(key, 0)

    def add(self, key: K) -> None:
        """It is this key's turn. While it is being worked on, it gets one more turn afterwards, however often added."""
        if key in self._queued:
            return
        self._queued.add(key)
        if key not in self._running:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, delay_s: float) -> None:
        """`add` in `delay_s` seconds. A key has one timer: the earlier of two deadlines stands."""
        if delay_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay_s
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._fire, key)

    def _fire(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    async def get(self) -> K:
        """The next key, in the order of their adding. It is this caller's until `done` or `failed`."""
        while not self._ready:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # a wake-up that reached a cancelled waiter must go on to the next, or a key waits for nothing
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise
        key = self._ready.popleft()
        self._queued.discard(key)
        self._running.add(key)
        if self._ready:
            self._wake()
        return key

    def done(self, key: K) -> None:
        """The work on `key` has ended. Its failures stand until `forget`."""
        self._running.remove(key)
        if key in self._queued:
            self._ready.append(key)
            self._wake()

    def failed(self, key: K, *, at_least_s: float = 0.0) -> float:
        """The work on `key` has failed: it gets its next turn after its back-off. Returns that delay in seconds.

        `at_least_s` is what the other side asked for (Retry-After). An `add` meanwhile gives an earlier turn.
        """
        count = self._failures.get(key, 0) + 1
        self._failures[key] = count
        delay_s = max(at_least_s, self._backoff.delay_s(count, self._rng))
        self.done(key)
        self.add_after(key, delay_s)
        return delay_s

    def forget(self, key: K) -> None:
        """The key works again (or is gone): its next failure is its first."""
        self._failures.pop(key, None)

    def cancel_timer(self, key: K) -> None:
        """A turn that was set for later will not come (the object is gone)."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """No timer fires any more. Workers are ended by cancelling them."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
