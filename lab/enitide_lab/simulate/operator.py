"""The real operator as one process under virtual time: started, stopped, or dead between two steps.

A crash is real as far as anybody can tell: what the process had sent arrives and takes effect, here as in EC2, but
nobody hears the answer; nothing is sent any more, and none of its clean-up runs against the world.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from enitide_api.errors import KubeUnavailable
from enitide_api.settings import OperatorSettings
from enitide_ipam.limits import InstanceLimits, limits_for
from enitide_kube.lease import LeaderElection
from enitide_kube.port import ENINODE, KubePort
from enitide_lab.virtual_time import virtual_loop
from enitide_operator.ec2.port import Ec2Port
from enitide_operator.engine import Engine
from enitide_operator.metrics import Metrics
from enitide_operator.term import TermGate

NAME = "operator"
_WRITES = ("create", "patch", "delete")

# called before a write of an ENINode is sent; what it gives is called once the answer is there
OnStatusWrite = Callable[[], Callable[[], None]]


def _not_watched() -> Callable[[], None]:
    return lambda: None


class Leash:
    """The Kubernetes port of a process that may die: `dead` cuts it off, but for writes that are on their way."""

    def __init__(self, port: KubePort, on_status_write: OnStatusWrite) -> None:
        self._port = port
        self._on_status_write = on_status_write
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name == "watch":
            return method

        async def call(*args: Any, **options: Any) -> Any:
            watched = name == "patch" and args[0] is ENINODE
            took_effect = self._on_status_write() if watched else None
            self._check()
            request = method(*args, **options)
            reply = await (_sent(request) if name in _WRITES else request)
            if took_effect is not None:
                took_effect()
            self._check()
            return reply

        return call

    def _check(self) -> None:
        if self.dead:
            raise KubeUnavailable("this operator is dead")


def _sent(request: Any) -> asyncio.Future[Any]:
    """A request that goes on without its sender: the API server does not hear that a process died."""
    sent = asyncio.ensure_future(request)
    sent.add_done_callback(lambda done: done.cancelled() or done.exception())
    return asyncio.shield(sent)


class OperatorProcess:
    """One run of the operator. Who starts the next one by the same `name` lets it find its own Lease at once.

    `on_status_write`: told of each write of an ENINode, as `ModelEc2` tells of each mutating call; a test may let the
    process die there.
    """

    def __init__(
        self,
        kube: KubePort,
        ec2: Ec2Port,
        settings: OperatorSettings,
        rng: Random,
        *,
        name: str = NAME,
        limits: Callable[[str], InstanceLimits | None] = limits_for,
        on_status_write: OnStatusWrite = _not_watched,
    ) -> None:
        loop = virtual_loop()
        self.name = name
        self.metrics = Metrics()
        self._leash = Leash(kube, on_status_write)
        self.engine = Engine(
            self._leash,
            ec2,
            settings,
            gate=TermGate(),
            metrics=self.metrics,
            now=loop.unix,
            rng=rng,
            identity=name,
            limits=limits,
        )
        self._election = LeaderElection(
            self._leash,
            settings.lease_namespace,
            settings.lease_name,
            name,
            rng=rng,
            duration_s=settings.lease_duration,
            renew_s=settings.lease_renew,
            clock=loop.time,
            now=loop.wall,
            on_change=self._on_change,
        )
        self._tasks = [loop.create_task(self.engine.run()), loop.create_task(self._elect())]

    async def _elect(self) -> None:
        await self.engine.synced()
        await self._election.run()

    def _on_change(self, leading: bool) -> None:
        if leading:
            self.engine.lead(self._election.may_mutate)
        else:
            self.engine.follow()

    @property
    def alive(self) -> bool:
        """Whether it runs: neither dead nor stopped."""
        return not self._leash.dead and not any(task.done() for task in self._tasks)

    @property
    def bugs(self) -> float:
        """How often it met an error of its own making."""
        return float(self.metrics.internal_errors._value.get())  # noqa: SLF001  prometheus has no other way

    def check(self) -> None:
        """Raise the bug that ended it, if one did."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and not self._leash.dead and task.exception() is not None:
                raise task.exception() or SystemError

    def crash(self) -> None:
        """Dead from now on."""
        self._leash.dead = True
        for task in self._tasks:
            task.cancel()
        self.engine.follow()

    async def stop(self) -> None:
        """As at SIGTERM."""
        await self.engine.drain()
        for task in reversed(self._tasks):
            task.cancel()
            await asyncio.wait({task})
