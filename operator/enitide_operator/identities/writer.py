"""Makes, retires and deletes SecurityIdentities as `decide` says, while this process leads.

Making has its own workers, so that no pod waits behind a collection. Collection is paced, looks once more right before
each write, and stands still while a mirror is not fresh: what is not seen is not therefore unused. Every write
asks the term first. An object whose name is taken is adopted, never doubled: its name follows from its labels.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from prometheus_client import Counter as Metric

from enitide_api.errors import KubeError, KubeExists, KubeNotFound, KubeThrottled, NotLeading
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.resources import Metadata, SecurityIdentity, builtins, decode
from enitide_ipam.stamps import stamp
from enitide_kube.backoff import Backoff
from enitide_kube.port import SECURITYIDENTITY, KubePort
from enitide_kube.queue import WorkQueue
from enitide_operator.context import FIELD_MANAGER
from enitide_operator.identities.decide import Act, Step, decide
from enitide_operator.identities.ledger import Ledger
from enitide_operator.term import Term
from enitide_policy.identities import spec_of

MAKERS = 16
COLLECTORS = 16
COLLECT_PER_S = 600.0  # writes; collecting one identity takes two
EXHAUSTED_AGAIN_S = 30.0
_COLLECTING = frozenset({Act.RETIRE, Act.DELETE})
_KIND = SECURITYIDENTITY

_log = get_logger(__name__)


@dataclass(slots=True)
class Writer:
    """`run(term)` as a task for the length of a term; `add(name)` when an identity may need a write.

    `is_fresh`: whether what is not seen may be believed to be gone. `wrote(kind, outcome)` counts.
    """

    kube: KubePort
    ledger: Ledger
    rng: Random
    is_fresh: Callable[[], bool]
    wrote: Callable[[str, str], None]
    foreign: Metric
    acts: Counter[str] = field(default_factory=Counter)
    exhausted: bool = False
    _make: WorkQueue[str] | None = None
    _collect: WorkQueue[str] | None = None
    _turn_at: float = 0.0

    def add(self, name: str) -> None:
        """This identity may need a write."""
        if self._make is not None:
            self._make.add(name)

    async def run(self, term: Term) -> None:
        """Until cancelled, or until the term is over."""
        backoff = Backoff(base_s=0.2, cap_s=30.0)
        make = self._make = WorkQueue(self.rng, backoff)
        collect = self._collect = WorkQueue(self.rng, backoff)
        try:
            await self._read_all(term)
            for name in tuple(self.ledger.entries):
                make.add(name)
            async with asyncio.TaskGroup() as group:
                for _ in range(MAKERS):
                    group.create_task(self._work(make, term, collecting=False))
                for _ in range(COLLECTORS):
                    group.create_task(self._work(collect, term, collecting=True))
        finally:
            self._make = self._collect = None
            make.close()
            collect.close()

    async def _read_all(self, term: Term) -> None:
        """A list straight from the API server: a mirror may lag behind the last leader, whose numbers are taken."""
        failures = 0
        while True:
            try:
                term.require()
                await self._read_pages()
            except KubeError as error:
                failures += 1
                _log.warning("identities not read yet", reason=error.reason, why=str(error))
                await asyncio.sleep(Backoff().delay_s(failures, self.rng))
            else:
                return

    async def _read_pages(self) -> None:
        token = ""
        while True:
            page = await self.kube.list(_KIND, continue_token=token)
            for raw in page.items:
                self._saw(decode(raw, SecurityIdentity))
            token = page.continue_token
            if not token:
                return

    def _saw(self, new: SecurityIdentity) -> None:
        """What the API server said, to us or through the mirror: the newer of the two counts."""
        entry = self.ledger.entries.get(new.metadata.name)
        known = entry.stored if entry is not None else None
        if known is None or known.metadata.uid != new.metadata.uid or _version(known) < _version(new):
            self.ledger.on_object(new.metadata.name, new)

    def on_object(self, name: str, _old: SecurityIdentity | None, new: SecurityIdentity | None) -> None:
        """A reflector's callback, also while following."""
        if new is not None:
            self._saw(new)
        else:
            self.ledger.on_object(name, None)

    async def _work(self, queue: WorkQueue[str], term: Term, *, collecting: bool) -> None:
        while True:
            name = await queue.get()
            try:
                step = await self._once(name, term, collecting=collecting)
            except NotLeading:
                queue.failed(name)  # the term may hold again; if it is over this task is cancelled
                continue
            except KubeError as error:
                self.wrote(_KIND.kind, error.reason)
                _log.warning("identity not written", identity=name, reason=error.reason, why=str(error))
                queue.failed(name, at_least_s=error.retry_after_s if isinstance(error, KubeThrottled) else 0.0)
                continue
            queue.forget(name)
            queue.done(name)
            if step.after_s is not None:
                queue.add_after(name, step.after_s)

    async def _once(self, name: str, term: Term, *, collecting: bool) -> Step:
        view = self.ledger.view(name, collecting=self.is_fresh())
        if view is None:
            return Step(Act.NOTHING)
        step = decide(view)
        if step.act in _COLLECTING and not collecting:
            assert self._collect is not None
            self._collect.add(name)
            return Step(Act.NOTHING)
        if step.act is Act.NOTHING:
            return step
        if step.act in _COLLECTING:
            await self._pace()
            again = self.ledger.view(name, collecting=self.is_fresh())
            if again is None or decide(again).act is not step.act:
                self.add(name)
                return Step(Act.NOTHING)
        term.require()
        return await self._do(name, step)

    async def _pace(self) -> None:
        """This collection's turn: evenly spaced, whoever asks."""
        loop = asyncio.get_running_loop()
        self._turn_at = max(self._turn_at + 1 / COLLECT_PER_S, loop.time())
        await asyncio.sleep(self._turn_at - loop.time())

    async def _do(self, name: str, step: Step) -> Step:
        entry = self.ledger.entries[name]
        if step.act is Act.CREATE:
            return await self._create(name)
        assert entry.stored is not None
        meta = entry.stored.metadata
        if step.act in (Act.RETIRE, Act.REVIVE):
            when = stamp(self.ledger.now()) if step.act is Act.RETIRE else None
            patch = {"metadata": {"resourceVersion": meta.resource_version}, "status": {"retired": when}}
            raw = await self.kube.patch(_KIND, name, patch, subresource="status", field_manager=FIELD_MANAGER)
            self._done(step.act)
            self._saw(decode(raw, SecurityIdentity))
            return Step(Act.NOTHING)
        with suppress(KubeNotFound):
            await self.kube.delete(_KIND, name, uid=meta.uid)
        self._done(step.act)
        if step.act is Act.REVERT:
            self.foreign.labels(_KIND.kind).inc()
            _log.warning("foreign identity undone", identity=name, number=entry.stored.spec.id, uid=meta.uid)
        if entry.stored is not None and entry.stored.metadata.uid == meta.uid:
            self.ledger.on_object(name, None)
        return Step(Act.NOTHING)

    async def _create(self, name: str) -> Step:
        number = self.ledger.number_of(name)
        self.exhausted = number is None
        if number is None:
            _log.error("no identity number is left", reason=Reason.IDENTITIES_EXHAUSTED, identity=name)
            return Step(Act.NOTHING, EXHAUSTED_AGAIN_S)
        labels = self.ledger.entries[name].labels
        assert labels is not None
        head = {"apiVersion": _KIND.api_version, "kind": _KIND.kind}
        body = head | builtins(SecurityIdentity(metadata=Metadata(name=name), spec=spec_of(labels, number)))
        try:
            raw = await self.kube.create(_KIND, body, field_manager=FIELD_MANAGER)
        except KubeExists:
            raw = await self.kube.get(_KIND, name)
            if decode(raw, SecurityIdentity).spec.id != number:
                self.ledger.conflicted(name)
            self._saw(decode(raw, SecurityIdentity))
            self.acts["adopt"] += 1
            return Step(Act.NOTHING)
        self._done(Act.CREATE)
        self._saw(decode(raw, SecurityIdentity))
        return Step(Act.NOTHING)

    def _done(self, act: Act) -> None:
        self.acts[act.value] += 1
        self.wrote(_KIND.kind, "ok")


def _version(obj: SecurityIdentity) -> int:
    """Versions of one kind are ordered (Kubernetes says so since 1.35; etcd has always done it); 0: not a number."""
    text = obj.metadata.resource_version
    return int(text) if text.isdigit() else 0
