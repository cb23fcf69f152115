"""The agents of a scenario: the real agent's pool, memory and reporting, told how many addresses are in use.

A scenario speaks in absolute numbers. The agent makes them true in its pool (reservations for what is in use, claims
for what cools), as far as there are addresses, and reports them as they were told. It yields, takes back and waits for
its interval by the agent's own code. Nothing here moves by itself: no pod starts or ends, nothing stops cooling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from random import Random

import msgspec

from enitide_api.resources import Demand, ENINode, ENINodeSpec, InstanceFacts
from enitide_enidp.journal import Journal, Replay
from enitide_enidp.memory import Memory
from enitide_enidp.report import Reporter
from enitide_enidp.waits import Waits
from enitide_ipam.addresses import text
from enitide_ipam.pool import Grant, Pool
from enitide_ipam.records import PodRef, Record, Released
from enitide_kube.port import KubePort

_COOLING = "cooling/"
_START_S = 5.0
_JITTER = 1.1  # the reporter's own is at most this


class NoJournal(Journal):
    """Keeps nothing: a simulated agent never restarts."""

    def __init__(self) -> None:
        self.found = Replay((), 0, 0)

    def append(self, records: Sequence[Record]) -> None:
        """Forgotten."""

    def rewrite(self, records: Iterable[Record]) -> None:
        """Forgotten."""

    @property
    def is_long(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Nothing is open."""


class ToldPool(Pool):
    """The agent's pool, with demand as it was told. `pods` ends the newest first, so that use stays dense."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(instance_id, remember=0)  # nobody asks a simulated agent who was there before
        self.told = Demand()
        self._pods: list[str] = []
        self._cooling: list[str] = []
        self._made = 0

    def demand(self, now: float) -> Demand:
        """As told, whatever the pool could make true of it."""
        del now
        return self.told

    def demand_changes_at(self) -> float | None:
        """Never by itself."""
        return None

    def fulfil(self, now: float) -> tuple[Record, ...]:
        """Hold as many addresses as are told to be in use or cooling, or as many as there are."""
        records: list[Record] = []
        while len(self._cooling) > self.told.cooling:
            records += self._drop(self._cooling.pop(), now)
        while len(self._pods) > self.told.in_use:
            records += self.unreserve(self._pods.pop(), now)
        for mine, wanted in ((self._pods, self.told.in_use), (self._cooling, self.told.cooling)):
            while len(mine) < wanted:
                grant = self._hold(mine, now)
                if grant is None:
                    return tuple(records)
                records += grant.records
        return tuple(records)

    def forget_vanished(self) -> None:
        """Pods whose reservation went with its address: they are to get another."""
        if len(self.ledger.held) < len(self._pods) + len(self._cooling):
            self._pods = [uid for uid in self._pods if self.ledger.of_pod(PodRef(uid=uid))]

    def _hold(self, mine: list[str], now: float) -> Grant | None:
        if self.stock.pick() is None:
            return None  # asking would make it a waiting pod
        self._made += 1
        name = f"{self._made:06d}"
        if mine is self._pods:
            answer = self.reserve(PodRef(uid=f"{self._instance_id}-{name}"), now)
        else:
            name = f"{_COOLING}{name}"
            answer = self.allocate(name, PodRef(), now)
        if not isinstance(answer, Grant):
            return None
        mine.append(f"{self._instance_id}-{name}" if mine is self._pods else name)
        return answer

    def _drop(self, owner: str, now: float) -> tuple[Record, ...]:
        """What cools has cooled."""
        held = self.allocation(owner)
        if held is None:
            return ()
        return (self._apply(Released(owner, held.address, now, cool=False, tombstone=False)),)


class ToldReporter(Reporter):
    """The agent's reporter; `yielded` not None is reported in place of what the agent would yield."""

    def __init__(
        self, kube: KubePort, node: str, facts: InstanceFacts, memory: Memory, *, waits: Waits, rng: Random
    ) -> None:
        super().__init__(kube, node, facts, memory, waits=waits, rng=rng)
        self.override: tuple[str, ...] | None = None

    def wanted(self) -> ENINodeSpec:
        """What spec should say now."""
        wanted = super().wanted()
        return wanted if self.override is None else msgspec.structs.replace(wanted, yielded=self.override)

    def due_s(self) -> float | None:
        """When it will have written what it has to say, at the latest; None for nothing to say."""
        if self._written == self.wanted():
            return None
        return self._written_at + self._interval_s() * _JITTER


class SimAgent:
    """One node's agent: made at its announcement. `tell` and `observe` may come at any time."""

    def __init__(self, kube: KubePort, node: str, facts: InstanceFacts, rng: Random) -> None:
        loop = asyncio.get_running_loop()
        self.node = node
        self.silent = False
        self.gone = False
        self.pool = ToldPool(facts.id)
        self._memory = Memory(self.pool, NoJournal(), loop.time)
        self.reporter = ToldReporter(kube, node, facts, self._memory, waits=Waits(loop.time), rng=rng)
        self._latest: ENINode | None = None
        self._seen_any = False
        self._task: asyncio.Task[None] | None = None
        self._announced = False
        self._ready: frozenset[str] = frozenset()

    @property
    def addresses(self) -> tuple[str, ...]:
        """What its pods hold, of what is told and there."""
        return tuple(text(address) for address in sorted(self.pool.ledger.held))

    def start(self) -> None:
        """The node is announced: the agent's process begins, unless it is silent or its instance has gone."""
        self._announced = True
        if self._task is None and not self.silent and not self.gone:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"{self.node}: agent")

    async def _run(self) -> None:
        await self.reporter.start(_START_S)
        self._fulfil()
        await self.reporter.run()

    def tell(self, demand: Demand) -> None:
        """From now on this is what its pods do."""
        self.pool.told = demand
        self._fulfil()
        self.reporter.wake()

    def yields(self, cidrs: tuple[str, ...] | None) -> None:
        """Report these as yielded; None: as it really would."""
        self.reporter.override = cidrs
        self.reporter.wake()

    def silence(self, *, silent: bool) -> None:
        """It hangs, or hangs no more; what came meanwhile it learns then."""
        if silent == self.silent:
            return
        self.silent = silent
        if silent:
            self._stop()
        elif not self.gone:
            if self._seen_any:
                self._take(self._latest)
            if self._announced:
                self.start()

    def end(self) -> None:
        """Its instance has gone."""
        self.gone = True
        self._stop()

    def observe(self, node: ENINode | None) -> None:
        """A version from the watch."""
        self._latest, self._seen_any = node, True
        if not self.silent and not self.gone and self._task is not None:
            self._take(node)

    def due_s(self) -> float | None:
        """When it will have written what it has to say; None for nothing, or for one that will not."""
        return None if self._task is None else self.reporter.due_s()

    def _take(self, node: ENINode | None) -> None:
        self.reporter.observe(node)
        self._fulfil()

    def _fulfil(self) -> None:
        """A simulated node's devices are configured at once."""
        published = frozenset(each.id for each in self.pool.interfaces())
        if published != self._ready:
            self._ready = published
            self.pool.set_ready(published)
        self.pool.forget_vanished()
        self._memory.keep(self.pool.fulfil(self._memory.now()))

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None


def facts_of(instance_id: str, instance_type: str, zone: str, vpc: str, subnet: str) -> InstanceFacts:
    """What instance metadata says."""
    return InstanceFacts(id=instance_id, type=instance_type, availability_zone=zone, vpc_id=vpc, subnet_id=subnet)
