"""The real agent's pool and reporting for a node of a `Scene`: told how many addresses its pods use."""

from __future__ import annotations

import asyncio
from random import Random

from enitide_api.errors import KubeError
from enitide_api.resources import Demand
from enitide_lab.simulate.agent import SimAgent
from support.operator_sim import Scene

LOOK_S = 0.5


class NodeAgent:
    """`use` says what pods do. A pod keeps its address until `use` says less; the newest end first."""

    def __init__(self, scene: Scene, node: str) -> None:
        self._scene = scene
        self._node = node
        self.agent: SimAgent | None = None
        self.lost: list[str] = []
        self._made = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        scene, node = self._scene, self._node
        facts = (await scene.eninode(node)).spec.instance
        self.agent = SimAgent(scene.kube, node, facts, Random(node))
        self.agent.start()
        self._made.set()
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.agent.observe(await scene.eninode(node))
            except KubeError:
                continue
            self._check()

    def _check(self) -> None:
        """Every address of a pod is the instance's, as EC2 really has it (reads may lag)."""
        assert self.agent is not None
        devices = self._scene.model.instances[self._scene.instances[self._node]].devices.values()
        there = {address for each in devices for address in (each.primary, *each.secondaries)}
        blocks = {prefix.rpartition(".")[0] for each in devices for prefix in each.prefixes}
        for address in self.agent.addresses:
            if address not in there and address.rpartition(".")[0] not in blocks:
                self.lost.append(f"{self._node} lost {address} at {self._scene.loop.time():.1f}")

    async def use(self, in_use: int, *, cooling: int = 0, waiting: int = 0) -> None:
        """Absolute numbers, from now on."""
        await self._made.wait()
        assert self.agent is not None
        self.agent.tell(Demand(in_use=in_use, cooling=cooling, waiting=waiting))

    def held(self) -> tuple[str, ...]:
        """Addresses of its pods."""
        return self.agent.addresses if self.agent is not None else ()

    def silence(self, *, silent: bool) -> None:
        """It hangs, or hangs no more."""
        assert self.agent is not None
        self.agent.silence(silent=silent)

    def crash(self) -> None:
        """For good."""
        self._task.cancel()
