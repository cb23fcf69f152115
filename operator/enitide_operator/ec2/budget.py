"""Who may call EC2 next: a token bucket per verb, one shared bucket if set, biggest gain first.

Sizes are AWS's documented ones (EC2 developer guide, API request throttling: tokens, refill per second), of which an
account's other programs want their share too: on throttling a verb's rate is cut at once and grows back slowly.
It decides only when a call may go out. It never sends one, and it never drops one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from enitide_api.errors import SettingsInvalid
from enitide_operator.ec2.port import MUTATIONS, Verb

ALL = "all"  # the shared bucket's name in settings and metrics
CUT = 0.7  # of the rate that throttling leaves
CUT_INTERVAL_S = 1.0  # replies to calls that were under way together cut once
FLOOR = 0.1  # of the configured rate
HAIR_S = 0.001
REGROW_S = 60.0  # from the floor back to the whole rate, with steady success


class Size(NamedTuple):
    """`rate`: tokens a second that flow in; `burst`: most tokens held."""

    rate: float
    burst: float


READ_SIZE = Size(20.0, 100.0)  # filtered or paged reads: every one of ours is
MUTATION_SIZE = Size(5.0, 50.0)
DOCUMENTED: Mapping[str, Size] = {
    Verb.CREATE: Size(5.0, 100.0),
    Verb.DELETE: Size(5.0, 100.0),
    Verb.ASSIGN: Size(5.0, 100.0),
    Verb.ASSIGN_IPV6: Size(5.0, 100.0),
    Verb.UNASSIGN: Size(5.0, 100.0),
    Verb.MODIFY: Size(5.0, 100.0),
}


class Order(NamedTuple):
    """A caller's place in the queue: lower goes first.

    `rank`: 0 reads and started work, 1 new work, 2 releases, 3 the leak sweep.

    `gain`: within a rank the biggest goes first; for new work see `new_work`.
    """

    rank: int
    gain: int = 0


_MOST = 1000  # more addresses than one call can bring


def new_work(gain: int, lack: int, *, calls: int = 1) -> Order:
    """The place of a call that brings `gain` addresses to a node that lacks `lack` below its low tide.

    Biggest deficit per call first: what counts is how much of the deficit it ends, shared by all the calls it takes
    (`calls`), and only then what it brings beyond.
    """
    ends = min(gain, max(0, lack), _MOST)
    return Order(1, ends * _MOST // calls + min(gain, _MOST - 1))


READ = Order(0, 1 << 30)
RELEASE = Order(2)
SWEEP = Order(3)


@dataclass(frozen=True, slots=True)
class BucketState:
    """For metrics: tokens now, rate now, callers waiting."""

    tokens: float
    rate: float
    waiting: int


class Bucket:
    """One token bucket with its queue, on the running loop's clock."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._rate = size.rate
        self._tokens = size.burst
        self._at_s: float | None = None
        self._cut_at_s = float("-inf")
        self._queue: list[tuple[int, int, int, asyncio.Future[None]]] = []
        self._turn = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, order: Order) -> None:
        """Return when a token is ours. A caller that is cancelled gives its token back."""
        self._refill()
        if not self._queue and self._tokens >= 1.0:
            self._tokens -= 1.0
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (order.rank, -order.gain, next(self._turn), turn))
        self._pump()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.refund()
            raise

    def refund(self) -> None:
        """A token that was taken and not used."""
        self._tokens = min(self._size.burst, self._tokens + 1.0)
        self._pump()

    def throttled(self) -> None:
        """EC2 refused for rate: what we believed to hold is not there, and the rate was too high."""
        self._refill()
        self._tokens = min(self._tokens, 0.0)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._cut_at_s >= CUT_INTERVAL_S:
            self._cut_at_s = now_s
            self._rate = max(self._size.rate * FLOOR, self._rate * CUT)
        self._pump()

    def succeeded(self) -> None:
        """EC2 let one pass: the rate grows by what makes it whole again in `REGROW_S` of calls at that rate."""
        if self._rate < self._size.rate:
            self._refill()
            self._rate = min(self._size.rate, self._rate + self._size.rate / (REGROW_S * self._rate))

    def state(self) -> BucketState:
        """As of now."""
        self._refill()
        waiting = sum(not turn.done() for *_, turn in self._queue)
        return BucketState(self._tokens, self._rate, waiting)

    def _refill(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._at_s is not None:
            self._tokens = min(self._size.burst, self._tokens + (now_s - self._at_s) * self._rate)
        self._at_s = now_s

    def _pump(self) -> None:
        """Hand tokens to the head of the queue; set a timer for the next one."""
        self._refill()
        while self._queue and self._tokens >= 1.0:
            turn = heapq.heappop(self._queue)[-1]
            if not turn.done():
                self._tokens -= 1.0
                turn.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue:
            # a hair late: EC2 counts on its own clock, and to come too early costs a throttling
            delay_s = (1.0 - self._tokens) / self._rate + HAIR_S
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)


class Budget:
    """All buckets. `take` before every attempt, then tell how it ended."""

    def __init__(self, sizes: Mapping[str, Size] | None = None) -> None:
        """`sizes` by verb replaces documented ones; `all` adds the shared bucket. `SettingsInvalid`: another key."""
        self._given = dict(sizes or {})
        unknown = sorted(set(self._given) - {ALL, *Verb})
        if unknown:
            raise SettingsInvalid(f"budget: {unknown[0]!r} is no verb of ours: write {ALL} or one of {', '.join(Verb)}")
        self._buckets: dict[str, Bucket] = {}
        self._shared = Bucket(self._given[ALL]) if ALL in self._given else None

    def _bucket(self, verb: Verb) -> Bucket:
        if verb not in self._buckets:
            default = MUTATION_SIZE if verb in MUTATIONS else READ_SIZE
            self._buckets[verb] = Bucket(self._given.get(verb) or DOCUMENTED.get(verb, default))
        return self._buckets[verb]

    async def take(self, verb: Verb, order: Order) -> None:
        """Return when the call may be sent now."""
        bucket = self._bucket(verb)
        await bucket.take(order)
        if self._shared is None:
            return
        try:
            await self._shared.take(order)
        except asyncio.CancelledError:
            bucket.refund()
            raise

    def throttled(self, verb: Verb) -> None:
        """EC2 answered with a throttling code. Its buckets are per verb, so the shared one is not cut."""
        self._bucket(verb).throttled()

    def succeeded(self, verb: Verb) -> None:
        """EC2 answered anything else."""
        self._bucket(verb).succeeded()

    def states(self) -> dict[str, BucketState]:
        """Every bucket in use, by verb or `all`."""
        named: dict[str, Bucket] = dict(self._buckets)
        if self._shared is not None:
            named[ALL] = self._shared
        return {name: bucket.state() for name, bucket in named.items()}
