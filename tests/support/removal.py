"""A node whose idle ENIs are to go, and how far that is."""

from __future__ import annotations

from enitide_ipam.model import TAG_CLUSTER
from support.operator_sim import Scene
from support.pool_agents import NodeAgent

QUICK = {"delay": "30s", "idleInterfaceDelay": "2m"}


async def full(scene: Scene, provisioned: int = 24) -> bool:
    status = (await scene.eninode("n")).status
    return status.capacity.provisioned >= provisioned and not status.pending


async def alone(scene: Scene, enis: int = 1) -> bool:
    """Down to so many ENIs, everything settled; all but another cluster's are published."""
    status = (await scene.eninode("n")).status
    settled = not (status.releasing or status.removing or status.reclaim)
    attached = scene.attached("n")
    ours = [each for each in attached if each.tags.get(TAG_CLUSTER) != "other"]
    return len(attached) == enis and len(ours) == len(status.interfaces) and settled and not scene.detached()


async def holds(agent: NodeAgent, count: int) -> bool:
    return len(agent.held()) == count


async def begin(scene: Scene, **class_spec: object) -> NodeAgent:
    """A node with three ENIs and 20 pods on them."""
    await scene.install(**({"release": QUICK} | class_spec))
    await scene.node("n")
    agent = NodeAgent(scene, "n")
    await agent.use(20)
    return agent
