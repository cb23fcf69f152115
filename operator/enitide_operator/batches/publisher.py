"""Writes EndpointBatches as the layout says, while this process leads: news first, cleaning with what is left.

How many writes a second the API server is asked to pass on to every node falls with the number of nodes. What comes
within a quarter of a second is one write. A write whose outcome is unknown is answered by a read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from prometheus_client import Counter

from enitide_api.errors import KubeError, KubeNotFound, NotLeading
from enitide_api.logging import get_logger
from enitide_api.resources import BATCH_SIZE, KEYS_BATCH, BatchEndpoint, EndpointBatch, Metadata, builtins, decode
from enitide_kube.backoff import Backoff
from enitide_kube.port import ENDPOINTBATCH, KubePort
from enitide_operator.batches.layout import Layout, Verb, Wanted, Write
from enitide_operator.context import FIELD_MANAGER
from enitide_operator.term import Term

QUICK_S = 0.05  # after a quiet time, so long news waits for company
GATHER_S = 0.25  # between two writes of news
UNDER_WAY = 8  # writes at once
# What an API server passes on without trouble: watch events a second over all nodes (facts: about 100,000).
EVENTS_PER_S = 100_000.0
SLOWEST_PER_S, FASTEST_PER_S = 10.0, 100.0
_CRUMB = 1e-6  # of a write: sums of floats must not make anyone wait for nothing, again and again
_BACKOFF = Backoff(base_s=0.1, cap_s=15.0)
_KIND = ENDPOINTBATCH

_log = get_logger(__name__)


def writes_per_s(nodes: int) -> float:
    """How many writes a second every node can be told of."""
    return min(FASTEST_PER_S, max(SLOWEST_PER_S, EVENTS_PER_S / max(1, nodes)))


class Tokens:
    """A bucket of two seconds' writes, whose rate may change at any time."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._held = self.burst
        self._at = now

    @property
    def burst(self) -> float:
        """Writes it holds at most."""
        return 2 * self.rate

    def wait_s(self, wanted: float, now: float) -> float:
        """Seconds until it holds so many; 0: it does."""
        self._held = min(self.burst, self._held + (now - self._at) * self.rate)
        self._at = now
        missing = wanted - self._held
        return missing / self.rate if missing > _CRUMB else 0.0

    def take(self) -> None:
        """One write was sent."""
        self._held -= 1


@dataclass(slots=True)
class Publisher:
    """`run(term, replay)` as a task for the length of a term; `put` what is to be told.

    `wrote(kind, outcome)` counts; `published(seconds)` is told for each record how long it took from `put` to answer.
    """

    kube: KubePort
    rng: Random
    node_count: Callable[[], int]
    on_use: Callable[[int, int], None]
    wrote: Callable[[str, str], None]
    published: Callable[[float], None]
    foreign: Counter
    layout: Layout | None = None
    _versions: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _news_at: float | None = None  # when the oldest news that no write carries came
    _said_at: dict[int, float] = field(default_factory=dict)  # by revision
    _under_way: int = 0
    _appended_at: float = -GATHER_S
    _is_clean: bool = False

    # --- what is heard ---------------------------------------------------------------------------------------------

    def put(self, owner: str, wanted: Wanted | None) -> None:
        """Tell this from now on. Between terms nothing is noted: a term begins with a replay."""
        layout = self.layout
        if layout is None:
            return
        before = layout.want.get(owner)
        if layout.put(owner, wanted):
            now = asyncio.get_running_loop().time()
            if before is not None:
                self._said_at.pop(before.revision, None)
            if wanted is not None:
                self._said_at[layout.want[owner].revision] = now
            self._news_at = now if self._news_at is None else self._news_at
            self._wake.set()

    def on_object(self, name: str, new: EndpointBatch | None) -> None:
        """What the mirror shows: of interest only where somebody else wrote."""
        layout = self.layout
        if layout is None:
            return
        if layout.is_under_way(name):
            return  # the answer to that write says it better
        batch = layout.batches.get(name)
        known, uid, _ = self._versions.get(name, (0, "", ""))
        if new is None:
            if batch is None or not batch.exists:
                return
        elif _version(new) <= known and (not uid or new.metadata.uid == uid):
            return
        self._take(name, new)

    def _take(self, name: str, found: EndpointBatch | None) -> None:
        assert self.layout is not None
        records = found.spec.endpoints if found is not None else None
        self._note(name, found)
        if self.layout.found(name, records):
            self.foreign.labels(_KIND.kind).inc()
            _log.warning("endpoint batch is not as it was written", batch=name, exists=found is not None)
        self._look_again()

    def _look_again(self) -> None:
        """Something else stands there than was thought."""
        self._is_clean = False
        self._news_at = self._news_at or 0.0
        self._wake.set()

    def _note(self, name: str, found: EndpointBatch | None) -> None:
        if found is None:
            self._versions.pop(name, None)
        else:
            self._versions[name] = _version(found), found.metadata.uid, found.metadata.resource_version

    # --- the loop --------------------------------------------------------------------------------------------------

    async def run(self, term: Term, replay: Callable[[], set[str]]) -> None:
        """Until cancelled. `replay` puts everything once more and says who there is; others are taken back."""
        self._versions.clear()
        self._said_at.clear()
        found = await self._read_all()
        layout = Layout(self.on_use)
        layout.load(found)
        self.layout = layout
        try:
            owners = replay()
            for owner in [owner for owner in layout.want if owner not in owners]:
                self.put(owner, None)
            async with asyncio.TaskGroup() as group:
                await self._loop(layout, term, group)
        finally:
            self.layout = None
            for record in layout.want.values():
                self.on_use(record.identity, -1)

    async def _read_all(self) -> dict[str, tuple[BatchEndpoint, ...]]:
        """Straight from the API server: a mirror may lag behind the last leader's writes."""
        failures = 0
        while True:
            found: dict[str, tuple[BatchEndpoint, ...]] = {}
            token = ""
            try:
                while True:
                    page = await self.kube.list(_KIND, continue_token=token)
                    for raw in page.items:
                        batch = decode(raw, EndpointBatch)
                        if batch.metadata.name == KEYS_BATCH:
                            continue
                        found[batch.metadata.name] = batch.spec.endpoints
                        self._note(batch.metadata.name, batch)
                    token = page.continue_token
                    if not token:
                        return found
            except KubeError as error:
                failures += 1
                _log.warning("endpoint batches not read yet", reason=error.reason, why=str(error))
                await asyncio.sleep(_BACKOFF.delay_s(failures, self.rng))

    async def _loop(self, layout: Layout, term: Term, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        tokens = Tokens(writes_per_s(self.node_count()), loop.time())
        while True:
            self._wake.clear()
            tokens.rate = writes_per_s(self.node_count())
            delay_s = self._delay_s(layout, tokens, loop.time())
            if delay_s is None or delay_s > 0:
                await self._rest(delay_s)
                continue
            write = self._next(layout, tokens, loop.time())
            if write is None:
                await self._rest(None if self._under_way or not layout.news else GATHER_S)
                continue
            tokens.take()
            self._under_way += 1
            group.create_task(self._send(layout, write, term))

    async def _rest(self, delay_s: float | None) -> None:
        try:
            async with asyncio.timeout(delay_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _delay_s(self, layout: Layout, tokens: Tokens, now: float) -> float | None:
        """Until the next write may go; None: nobody knows, someone will wake us."""
        if self._under_way >= UNDER_WAY:
            return None
        if layout.news:
            return max(self._news_due(layout) - now, tokens.wait_s(1.0, now))
        if self._is_clean:
            return None
        return tokens.wait_s(tokens.burst / 2, now)

    def _news_due(self, layout: Layout) -> float:
        """When news has gathered: soon after a quiet time, and never later than a gathering after its first record."""
        if layout.news >= BATCH_SIZE or self._news_at is None:
            return 0.0
        return max(self._news_at + QUICK_S, self._appended_at + GATHER_S)

    def _next(self, layout: Layout, tokens: Tokens, now: float) -> Write | None:
        if layout.news:
            write = layout.append_write()
            if write is not None:
                self._appended_at = now
            if not layout.news:
                self._news_at = None
            return write
        write = layout.clean_write() if not tokens.wait_s(tokens.burst / 2, now) else None
        self._is_clean = write is None
        return write

    # --- one write -------------------------------------------------------------------------------------------------

    async def _send(self, layout: Layout, write: Write, term: Term) -> None:
        try:
            if await self._try(write, term):
                layout.accepted(write)
                self._is_clean = False
                self._measure(write)
            else:
                await self._ask(layout, write, term)
        finally:
            self._under_way -= 1
            self._wake.set()

    async def _try(self, write: Write, term: Term) -> bool:
        """Whether the API server has taken it; False: the outcome is unknown, or another write came first."""
        try:
            term.require()
            self._note(write.batch, await self._call(write))
        except NotLeading:
            return False
        except KubeError as error:
            self.wrote(_KIND.kind, error.reason)
            _log.warning("endpoint batch not written", batch=write.batch, reason=error.reason, why=str(error))
            return False
        self.wrote(_KIND.kind, "ok")
        return True

    async def _call(self, write: Write) -> EndpointBatch | None:
        name = write.batch
        endpoints = [builtins(each) for each in write.records]
        if write.verb is Verb.DELETE:
            with suppress(KubeNotFound):
                await self.kube.delete(_KIND, name, uid=self._versions.get(name, (0, "", ""))[1])
            return None
        if write.verb is Verb.CREATE:
            head = {"apiVersion": _KIND.api_version, "kind": _KIND.kind, "metadata": builtins(Metadata(name=name))}
            body: dict[str, Any] = {**head, "spec": {"endpoints": endpoints}}
            return decode(await self.kube.create(_KIND, body, field_manager=FIELD_MANAGER), EndpointBatch)
        version = self._versions[name][2]
        patch = {"metadata": {"resourceVersion": version}, "spec": {"endpoints": endpoints}}
        return decode(await self.kube.patch(_KIND, name, patch, field_manager=FIELD_MANAGER), EndpointBatch)

    async def _ask(self, layout: Layout, write: Write, term: Term) -> None:
        """What stands there now, however long it takes to learn it: until then nothing else is written there."""
        failures = 0
        while True:
            failures += 1
            await asyncio.sleep(_BACKOFF.delay_s(failures, self.rng))
            if not term.holds:
                continue
            try:
                found = decode(await self.kube.get(_KIND, write.batch), EndpointBatch)
            except KubeNotFound:
                found = None
            except KubeError as error:
                _log.warning("endpoint batch not read", batch=write.batch, reason=error.reason, why=str(error))
                continue
            self._note(write.batch, found)
            layout.found(write.batch, found.spec.endpoints if found is not None else None)
            self._look_again()
            return

    def _measure(self, write: Write) -> None:
        now = asyncio.get_running_loop().time()
        for record in write.records:
            said_at = self._said_at.pop(record.revision, None)
            if said_at is not None:
                self.published(now - said_at)


def _version(obj: EndpointBatch) -> int:
    text = obj.metadata.resource_version
    return int(text) if text.isdigit() else 0
