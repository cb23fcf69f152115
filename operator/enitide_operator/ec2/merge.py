"""Reads of many askers in one call: whoever asks for an instance's ENIs within 250 ms shares the listing.

A read is given only to those who asked before it was sent, so that no asker gets facts older than its question.
EC2's filter takes 200 values; more askers make more calls, never one unpaged one. A call that fails is halved while
one half works, so that what fails for one asker keeps no other waiting. Where both halves fail it may be EC2 that
fails: the window grows until something is answered, so that an outage costs few calls. Whoever shared such a call asks
apart from the others from then on, and ever less often in small groups (at most `FEW`), so that several sick askers are
found out too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from enitide_api.errors import EC2Unavailable, EnitideError, Retry
from enitide_ipam.model import EniView
from enitide_operator.ec2.port import InterfaceQuery, Read

WINDOW_S = 0.25
MOST_WINDOW_S = 8.0
MOST_VALUES = 200
FEW = 10

ReadInterfaces = Callable[[InterfaceQuery], Awaitable[Read[EniView]]]
Askers = dict[str, asyncio.Future[Read[EniView]]]
# This says nothing of what was asked: the same would come for any part of it. Every other error may be one asker's own
# fault, throttling and missing rights too, whatever EC2 documents: a half that works tells.
_ALL_ALIKE = EC2Unavailable


@dataclass(frozen=True, slots=True)
class _Form:
    """How askers of one kind are put into a query, and which of them an ENI is for."""

    query: Callable[[tuple[str, ...]], InterfaceQuery]
    key: Callable[[EniView], str]


@dataclass(slots=True)
class _Batch:
    """What the next call will ask for, and who waits for it."""

    instances: Askers = field(default_factory=dict)
    tokens: Askers = field(default_factory=dict)
    interfaces: Askers = field(default_factory=dict)


class InterfaceReader:
    """`of_instance`, `of_token` and `of_interface` from any number of tasks; few calls come out."""

    def __init__(self, read: ReadInterfaces, *, window_s: float = WINDOW_S) -> None:
        self._read = read
        self._window_s = window_s
        self._failures = 0  # calls for several that failed as a whole, in a row
        self._batch = _Batch()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ill: set[str] = set()  # keys whose last call failed for what may be their own fault
        self._ill_rounds = 0  # since one of them was last answered

    async def of_instance(self, instance_id: str) -> Read[EniView]:
        """All ENIs attached to it now. Errors as the call's; they reach every asker."""
        return await self._ask(self._batch.instances, instance_id)

    async def of_token(self, token: str) -> Read[EniView]:
        """The ENI made for that intent, or none."""
        return await self._ask(self._batch.tokens, token)

    async def of_interface(self, eni_id: str) -> Read[EniView]:
        """The ENI of that id, wherever it is, or none."""
        return await self._ask(self._batch.interfaces, eni_id)

    def close(self) -> None:
        """Nothing more is sent; whoever waits is cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = self._batch
        for future in (*batch.instances.values(), *batch.tokens.values(), *batch.interfaces.values()):
            future.cancel()
        self._batch = _Batch()
        for task in self._tasks:
            task.cancel()

    async def _ask(self, batch: Askers, key: str) -> Read[EniView]:
        loop = asyncio.get_running_loop()
        future = batch.get(key)
        if future is None:
            future = batch[key] = loop.create_future()
        if self._timer is None:
            self._timer = loop.call_later(self._wait_s(), self._send)
        # shielded: one asker that is cancelled does not take the answer from the others
        return await asyncio.shield(future)

    def _wait_s(self) -> float:
        return min(MOST_WINDOW_S, self._window_s * 2.0 ** min(self._failures, 10))

    def _send(self) -> None:
        self._timer = None
        batch, self._batch = self._batch, _Batch()
        for chunk in self._chunks(batch.instances):
            self._start(chunk, _Form(lambda keys: InterfaceQuery(instance_ids=keys), lambda eni: eni.instance_id))
        for chunk in self._chunks(batch.tokens):
            self._start(chunk, _Form(lambda keys: InterfaceQuery(tokens=keys), lambda eni: eni.token))
        for chunk in self._chunks(batch.interfaces):
            self._start(chunk, _Form(lambda keys: InterfaceQuery(interface_ids=keys), lambda eni: eni.id))

    def _chunks(self, batch: Askers) -> list[Askers]:
        """The askers of each call: as many as EC2 takes; those whose last call failed apart, at times in few."""
        keys = sorted(batch)
        ill = [key for key in keys if key in self._ill]
        few = MOST_VALUES
        if ill:
            self._ill_rounds += 1
            if self._ill_rounds & (self._ill_rounds - 1) == 0:  # 1, 2, 4, 8, …
                few = max(1, min(MOST_VALUES, -(-len(ill) // FEW)))
        groups = _groups([key for key in keys if key not in self._ill], MOST_VALUES) + _groups(ill, few)
        return [{key: batch[key] for key in group} for group in groups]

    def _start(self, askers: Askers, form: _Form) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(askers, form))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, askers: Askers, form: _Form) -> None:
        suspected = not self._ill.isdisjoint(askers)  # taken apart by groups, not by halves
        try:
            error = await self._ask_ec2(askers, form)
            while error is not None and len(askers) > 1 and not suspected and not isinstance(error, _ALL_ALIKE):
                halves = _halves(askers)
                errors = await asyncio.gather(*(self._ask_ec2(half, form) for half in halves))
                failed = [(half, each) for half, each in zip(halves, errors, strict=True) if each is not None]
                if len(failed) != 1:
                    break
                askers, error = failed[0]
        except asyncio.CancelledError:
            for future in askers.values():
                future.cancel()
            raise
        if error is None:
            return
        if len(askers) > 1:
            self._failures += 1
        if not isinstance(error, _ALL_ALIKE):
            self._ill |= askers.keys()
            if len(askers) > 1 and error.retry is Retry.NEVER:
                # whose fault it is is not known: for those without any it is not for ever
                error = EC2Unavailable(f"a reading shared by {len(askers)} failed: {error}")
        for future in askers.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # an asker may be gone: that is no unretrieved exception

    async def _ask_ec2(self, askers: Askers, form: _Form) -> EnitideError | None:
        """One call; its error, if it failed, is for the caller to pass on."""
        try:
            read = await self._read(form.query(tuple(askers)))
        except EnitideError as error:
            return error
        self._failures = 0
        if not self._ill.isdisjoint(askers):
            self._ill -= askers.keys()
            self._ill_rounds = 0
        found: dict[str, list[EniView]] = {key: [] for key in askers}
        for eni in read.items:
            if form.key(eni) in found:
                found[form.key(eni)].append(eni)
        for key, future in askers.items():
            if not future.done():
                future.set_result(Read(tuple(found[key]), read.asked_at))
        return None


def _halves(askers: Askers) -> tuple[Askers, Askers]:
    keys = list(askers)
    middle = len(keys) // 2
    return {k: askers[k] for k in keys[:middle]}, {k: askers[k] for k in keys[middle:]}


def _groups(keys: list[str], size: int) -> list[list[str]]:
    return [keys[i : i + size] for i in range(0, len(keys), size)]
