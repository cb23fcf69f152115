"""One node with its pods, on which a class changes: for tests of what then happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from enitide_kube.port import ENICLASS
from enitide_lab.ec2model.types import NetworkInterface
from support.operator_sim import Scene, SimOperator
from support.pool_agents import NodeAgent

QUICK = {"delay": "30s", "idleInterfaceDelay": "2m"}
EXACT = {"preAllocate": 0, "maxAboveWatermark": 0}


class Stage:
    """One node with its pods."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.agent: NodeAgent
        self.operator: SimOperator

    async def begin(self, pods: int, instance_type: str = "m5.large", **class_spec: object) -> None:
        """The pods run, all is at rest."""
        scene = self.scene
        await scene.install(**({"release": QUICK, "pool": EXACT} | class_spec))
        await scene.node("n", instance_type)
        await self.go_on(pods)
        await scene.until(self.holding(pods), "the pods run", 90)
        await asyncio.sleep(90)

    async def go_on(self, pods: int) -> None:
        """Agent and operator, where class and node are there already."""
        self.agent = NodeAgent(self.scene, "n")
        self.operator = self.scene.operator()
        await self.agent.use(pods)

    def holding(self, pods: int) -> Callable[[], Awaitable[bool]]:
        async def holds() -> bool:
            return len(self.agent.held()) == pods

        return holds

    async def change(self, **spec: object) -> None:
        await self.scene.kube.patch(ENICLASS, "default", {"spec": spec})

    async def published(self) -> dict[int, int]:
        """Addresses by device index."""
        return {each.index: len(each.addresses) for each in (await self.scene.eninode("n")).status.interfaces}

    async def draining(self) -> set[int]:
        return {each.index for each in (await self.scene.eninode("n")).status.interfaces if each.draining}

    def eni(self, index: int, card: int = 0) -> NetworkInterface | None:
        found = {(e.attachment.card, e.attachment.index): e for e in self.scene.attached("n") if e.attachment}
        return found.get((card, index))

    async def unhurt(self, seconds: float, pods: set[str]) -> None:
        """The same pods still hold the same addresses, and EC2 has them."""
        await asyncio.sleep(seconds)
        assert pods <= set(self.agent.held())
        assert self.agent.lost == []
