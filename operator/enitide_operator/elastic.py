"""Elastic IPs by tags, read once for all nodes of a class, and claimed by one node each before any call is sent.

Read at first want, again after a refusal (another cluster was faster) and every minute while a node finds none free.
EC2's listing of Elastic IPs has no pages; the tags filter it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from enitide_api.errors import EC2Error
from enitide_api.logging import get_logger
from enitide_ipam.model import ElasticView
from enitide_kube.backoff import Backoff
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.tasks import Tasks

_log = get_logger(__name__)

STARVING_S = 60.0
SETTLE_S = 10.0  # how long EC2's reads may lag behind an association of ours

Tags = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Pool:
    """`read_at_s`: the loop's time of the last reading; `due_s`: of the next one, if one is wanted."""

    addresses: dict[str, ElasticView] | None = None
    waiting: asyncio.Task[None] | None = None
    asking: bool = False
    due_s: float = float("inf")
    read_at_s: float = float("-inf")


@dataclass(slots=True)
class ElasticBook:
    """For one event loop. `on_read` tells that there is news for who wants these tags."""

    gateway: Gateway
    tasks: Tasks
    rng: Random
    on_read: Callable[[Mapping[str, str]], None]
    _pools: dict[Tags, _Pool] = field(default_factory=dict)
    _claims: dict[str, float] = field(default_factory=dict)
    _backoff: Backoff = field(default_factory=lambda: Backoff(base_s=2.0, cap_s=120.0))

    def want(self, tags: Mapping[str, str]) -> tuple[ElasticView, ...] | None:
        """All with these tags, claimed ones marked as associated; None while they are being read for the first time."""
        pool = self._pools.setdefault(tuple(sorted(tags.items())), _Pool())
        if pool.addresses is None:
            self._read(tags, pool, asyncio.get_running_loop().time())
            return None
        claims = self._claims
        return tuple(replace(each, associated=each.associated or each.id in claims) for each in pool.addresses.values())

    def known(self, tags: Mapping[str, str]) -> tuple[ElasticView, ...] | None:
        """As `want`, but begins no reading."""
        pool = self._pools.get(tuple(sorted(tags.items())))
        return self.want(tags) if pool is not None and pool.addresses is not None else None

    def starving(self, tags: Mapping[str, str]) -> None:
        """A node finds none free: read again, a minute after the last reading."""
        pool = self._pools.get(tuple(sorted(tags.items())))
        if pool is not None:
            self._read(tags, pool, pool.read_at_s + STARVING_S)

    def claim(self, allocation_id: str) -> None:
        """One node is about to associate it."""
        self._claims[allocation_id] = float("inf")

    def settled(self, allocation_id: str) -> None:
        """It is associated: no reading that was asked for earlier, or shortly after, says otherwise."""
        self._claims[allocation_id] = asyncio.get_running_loop().time() + SETTLE_S

    def refused(self, allocation_id: str) -> None:
        """EC2 did not associate it: somebody has it, or it is gone. It is nobody's choice until it was read anew."""
        now_s = asyncio.get_running_loop().time()
        self._claims[allocation_id] = now_s
        for tags, pool in self._pools.items():
            if pool.addresses is not None and allocation_id in pool.addresses:
                self._read(dict(tags), pool, now_s)

    def _read(self, tags: Mapping[str, str], pool: _Pool, due_s: float) -> None:
        """Read at that moment, or earlier if that is wanted already."""
        if due_s >= pool.due_s:
            return
        pool.due_s = due_s
        if pool.asking:
            return  # the one under way may be too old: another follows it
        if pool.waiting is not None:
            pool.waiting.cancel()
        pool.waiting = self.tasks.spawn(self._ask(dict(tags), pool), name="read Elastic IPs")

    async def _ask(self, tags: Mapping[str, str], pool: _Pool) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        await asyncio.sleep(max(0.0, pool.due_s - loop.time()))
        pool.due_s, pool.asking = float("inf"), True
        while True:
            asked_s = loop.time()
            try:
                read = await self.gateway.elastic_ips(tags)
            except EC2Error as error:
                failures += 1
                _log.warning("Elastic IPs not read", reason=error.reason, why=str(error))
                await asyncio.sleep(self._backoff.delay_s(failures, self.rng))
                continue
            break
        pool.addresses = {each.id: each for each in read.items}
        self._claims = {name: until for name, until in self._claims.items() if until > asked_s}
        pool.read_at_s, pool.asking, pool.waiting = loop.time(), False, None
        due_s, pool.due_s = pool.due_s, float("inf")
        self._read(tags, pool, due_s)
        self.on_read(tags)
