"""Collects ENINodes of nodes that are gone: an owner reference does it normally, this does it where that failed.

Two proofs, neither of them a single empty answer: the API server itself says that there is no such Node, and EC2, asked
twice a minute apart, does not know the instance or calls it terminated. Where the instance lives, its ENINode stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from enitide_api.errors import EnitideError, KubeConflict, KubeNotFound, NotLeading
from enitide_api.logging import get_logger
from enitide_api.resources import ENINode
from enitide_kube.port import ENINODE, NODE
from enitide_operator.context import Context
from enitide_operator.ec2.merge import MOST_VALUES

_log = get_logger(__name__)

WITHOUT_NODE_S = 60.0  # a node may register late, or be made anew under its name
APART_S = 60.0  # between the two answers of EC2
GONE = frozenset({"shutting-down", "terminated"})


@dataclass(slots=True)
class _Orphan:
    """`since`: without a Node. `gone_at`: when EC2 first said that the instance is gone. `ask_at`: not before."""

    since: float
    ask_at: float
    gone_at: float | None = None


class Leftovers:
    """`orphaned` and `adopted` as Nodes and ENINodes come and go; `run()` as a task of a term."""

    def __init__(self, ctx: Context, resource: Callable[[str], ENINode | None]) -> None:
        """`resource`: the ENINode of that name as last seen."""
        self._ctx = ctx
        self._resource = resource
        self._orphans: dict[str, _Orphan] = {}
        self._changed = asyncio.Event()

    def orphaned(self, name: str) -> None:
        """There is an ENINode of this name, and no Node."""
        now = self._ctx.now()
        if name not in self._orphans:
            self._orphans[name] = _Orphan(now, now + WITHOUT_NODE_S)
            self._changed.set()

    def adopted(self, name: str) -> None:
        """The Node is there again, or the ENINode is gone too."""
        self._orphans.pop(name, None)

    async def run(self) -> None:
        """Until the term ends."""
        ctx = self._ctx
        while not ctx.term.ended:
            await self._rest()
            due = sorted(name for name, each in self._orphans.items() if each.ask_at <= ctx.now())
            for chunk in (due[i : i + MOST_VALUES] for i in range(0, len(due), MOST_VALUES)):
                try:
                    await self._ask(chunk)
                except NotLeading:
                    self._again(chunk, APART_S)
                except EnitideError as error:
                    _log.warning("leftover ENINodes not looked at", reason=error.reason, why=str(error))
                    self._again(chunk, APART_S)

    async def _rest(self) -> None:
        self._changed.clear()
        due = min((each.ask_at for each in self._orphans.values()), default=None)
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - self._ctx.now())):
                await self._changed.wait()
        except TimeoutError:
            return

    def _again(self, names: list[str], delay_s: float) -> None:
        for orphan in (self._orphans[each] for each in names if each in self._orphans):
            orphan.ask_at = self._ctx.now() + delay_s * self._ctx.rng.uniform(1.0, 1.1)

    async def _ask(self, names: list[str]) -> None:
        """One call for all of them."""
        resources = {name: found for name in names if (found := self._resource(name)) is not None}
        instances = {name: each.spec.instance.id for name, each in resources.items() if each.spec.instance.id}
        self._again(names, self._ctx.settings.sweep_interval)
        if not instances:
            return
        read = await self._ctx.gateway.instances(tuple(sorted(set(instances.values()))))
        alive = {each.id for each in read.items if each.state not in GONE}
        for name, instance_id in instances.items():
            orphan = self._orphans.get(name)
            if orphan is None:
                continue
            if instance_id in alive:
                orphan.gone_at = None
            elif orphan.gone_at is None:
                orphan.gone_at = read.asked_at
                self._again([name], APART_S)
            elif read.asked_at >= orphan.gone_at + APART_S:
                await self._collect(resources[name])

    async def _collect(self, resource: ENINode) -> None:
        ctx, name = self._ctx, resource.metadata.name
        try:
            await ctx.kube.get(NODE, name)
        except KubeNotFound:
            pass
        else:
            return  # the watch lags: the Node is there
        ctx.term.require()
        try:
            await ctx.kube.delete(ENINODE, name, uid=resource.metadata.uid)
        except KubeNotFound:
            return
        except KubeConflict:
            return  # made anew meanwhile
        ctx.metrics.wrote(ENINODE.kind, "deleted")
        _log.info("leftover ENINode deleted", node=name, instance=resource.spec.instance.id)
