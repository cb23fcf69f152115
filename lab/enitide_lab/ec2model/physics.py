"""What happens to calls on their way: throttling, latency, faults on command, and the log of what was called.

`Physics.rule` decides the fate of one call before it is made (wait, refuse, do it but lose the answer, …) and
`Physics.record` notes how it ended. Both are pure bookkeeping on an injected clock: the face that carries the call
(Python or HTTP) does the waiting and the losing, so that every face obeys the same faults.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from enitide_lab.ec2model.errors import ModelError, throttled
from enitide_lab.ec2model.faults import (
    AWS_BUCKETS,
    AWS_MUTATING,
    AWS_READING,
    AWS_READING_ALL,
    READS,
    Bucket,
    Effect,
    Fault,
)

T = TypeVar("T")
LOG_LENGTH = 100_000


@dataclass(frozen=True, slots=True)
class Ruling:
    """The fate of one call: wait `delay_s`, then refuse, or do it and answer as `effect` says."""

    delay_s: float = 0.0
    refuse: ModelError | None = None
    effect: Effect | None = None
    after: ModelError | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call in the log. `outcome`: `ok`, EC2's error code, or the effect that took the answer."""

    number: int
    time_s: float
    verb: str
    outcome: str
    caller: str
    items: int = 0


class AnswerLost(Exception):
    """The call took effect (or may have), and no usable answer came back. `effect` says how."""

    def __init__(self, verb: str, effect: Effect) -> None:
        super().__init__(f"{verb}: the answer is {effect}")
        self.verb = verb
        self.effect = effect


@dataclass(slots=True)
class Physics:
    """Faults, latency, throttling and the call log of one EC2 endpoint. `mutated_at_s`: last mutating call tried."""

    clock: Callable[[], float]
    latency_s: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    buckets: dict[str, Bucket] | None = None
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))
    largest_reply: int = 0
    mutated_at_s: float = float("-inf")
    _numbers: int = 0

    def add(self, fault: Fault) -> int:
        """Put a fault in force; its number, for `remove`."""
        self._numbers += 1
        fault.id = self._numbers
        fault.until_s = None if fault.for_s is None else self.clock() + fault.for_s
        self.faults.append(fault)
        return fault.id

    def remove(self, number: int | None = None) -> None:
        """End one fault, or all."""
        self.faults = [] if number is None else [fault for fault in self.faults if fault.id != number]

    def throttle(self, *, on: bool) -> None:
        """Turn AWS's documented token buckets on (full) or off."""
        self.buckets = {} if on else None

    def rule(self, verb: str, subjects: Collection[str] = (), *, unfiltered: bool = False) -> Ruling:
        """Decide what happens to a call that arrives now. `unfiltered`: a read of everything in one page."""
        now_s = self.clock()
        if not verb.startswith(READS):
            self.mutated_at_s = now_s
        self.faults = [fault for fault in self.faults if not fault.over(now_s)]
        delay_s = self.latency_s
        struck: Fault | None = None
        for fault in self.faults:
            if fault.matches(verb, subjects) and fault.strikes(now_s):
                delay_s += fault.delay_s
                struck = struck or (fault if fault.effect is not Effect.DELAY else None)
        if not self._pays(verb, now_s, unfiltered=unfiltered):
            return Ruling(delay_s, throttled())
        if struck is None:
            return Ruling(delay_s)
        if struck.effect is Effect.REFUSE:
            return Ruling(delay_s, struck.error())
        after = struck.error() if struck.effect is Effect.REFUSE_AFTER else None
        return Ruling(delay_s, None, struck.effect, after)

    def _pays(self, verb: str, now_s: float, *, unfiltered: bool) -> bool:
        if self.buckets is None:
            return True
        if verb.startswith(READS):
            name, size = (f"{verb}/all", AWS_READING_ALL) if unfiltered else (verb, AWS_READING)
        else:
            name, size = verb, AWS_BUCKETS.get(verb, AWS_MUTATING)
        bucket = self.buckets.setdefault(name, Bucket(*size, tokens=size[0], at_s=now_s))
        return bucket.take(now_s)

    def record(self, verb: str, outcome: str, *, caller: str = "", items: int = 0) -> None:
        """Note how a call ended; `items`: how many a read's reply holds."""
        self._numbers += 1
        self.counts[verb, outcome] += 1
        self.calls.append(Call(self._numbers, self.clock(), verb, outcome, caller, items))
        if verb.startswith(READS):
            self.largest_reply = max(self.largest_reply, items)

    def summary(self) -> dict[str, dict[str, int]]:
        """Calls by verb and outcome since the start."""
        table: dict[str, dict[str, int]] = {}
        for (verb, outcome), times in sorted(self.counts.items()):
            table.setdefault(verb, {})[outcome] = times
        return table

    async def carry(
        self,
        verb: str,
        act: Callable[[], T],
        *,
        sleep: Callable[[float], Awaitable[None]],
        subjects: Collection[str] = (),
        caller: str = "",
        empty: Callable[[], T] | None = None,
        size: Callable[[T], int] | None = None,
        unfiltered: bool = False,
        crashed: Callable[[str], None] | None = None,
    ) -> T:
        """The Python face of one call: wait, act, answer, as the faults in force have it.

        Half of the delay passes before EC2 acts and half after, so that a caller that gives up waiting finds either.
        `ModelError`: refused. `AnswerLost`: took effect, no answer; for a crash `crashed(verb)` is called first.
        """
        ruling = self.rule(verb, subjects, unfiltered=unfiltered)
        await sleep(ruling.delay_s / 2)
        outcome, items = "ok", 0
        try:
            if ruling.refuse is not None:
                raise ruling.refuse
            answer = empty() if ruling.effect is Effect.EMPTY and empty is not None else act()
            items = size(answer) if size is not None else 0
            if ruling.effect in (Effect.LOST, Effect.GARBAGE, Effect.CRASH):
                outcome = str(ruling.effect)
        except ModelError as exc:
            outcome = exc.code
            await sleep(ruling.delay_s / 2)
            raise
        finally:
            self.record(verb, outcome, caller=caller, items=items)
        if ruling.effect is Effect.CRASH and crashed is not None:
            crashed(verb)
        await sleep(ruling.delay_s / 2)
        if ruling.after is not None:
            raise ruling.after
        if outcome != "ok":
            raise AnswerLost(verb, Effect(outcome))
        return answer
