"""The real operator as one process of the simulation: started, stopped, or dead between two steps.

A crash is real as far as an operator can tell: from that moment none of its calls is sent or answered, and none of its
clean-up runs against the world. Whoever starts the next one gives it the same name, so that it finds its own Lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from enitide_api.errors import KubeUnavailable
from enitide_api.settings import OperatorSettings
from enitide_ipam.limits import InstanceLimits
from enitide_kube.lease import LeaderElection
from enitide_kube.port import KubePort
from enitide_lab.virtual_time import virtual_loop
from enitide_operator.ec2.port import Ec2Port
from enitide_operator.engine import Engine
from enitide_operator.metrics import Metrics
from enitide_operator.term import TermGate

NAME = "operator"


class Leash:
    """The Kubernetes port of a process that may die: `dead` cuts it off in both directions."""

    def __init__(self, port: KubePort) -> None:
        self._port = port
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if name == "watch":
            return method

        async def call(*args: Any, **options: Any) -> Any:
            self._check()
            reply = await method(*args, **options)
            self._check()
            return reply

        return call

    def _check(self) -> None:
        if self.dead:
            raise KubeUnavailable("this operator is dead")


class OperatorProcess:
    """One run of the operator. `failure` is what ended it, if it was a bug."""

    def __init__(
        self,
        kube: KubePort,
        ec2: Ec2Port,
        settings: OperatorSettings,
        rng: Random,
        limits: Callable[[str], InstanceLimits | None],
    ) -> None:
        loop = virtual_loop()
        gate = TermGate()
        self.metrics = Metrics()
        self._leash = Leash(kube)
        self.engine = Engine(
            self._leash,
            ec2,
            settings,
            gate=gate,
            metrics=self.metrics,
            now=lambda: loop.wall().timestamp(),
            rng=rng,
            identity=NAME,
            limits=limits,
        )
        self._election = LeaderElection(
            self._leash,
            settings.lease_namespace,
            settings.lease_name,
            NAME,
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
