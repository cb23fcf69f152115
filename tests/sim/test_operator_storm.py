"""Hours of bad weather in seconds: random demand, faults of every kind, crashes and changes of leader.

Two things must hold. At every moment: an address that a pod holds is attached to its node in EC2. At the end, when
the weather is good again: EC2 holds exactly what is published, no ENI is left over, and every pool stands between its
tides.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from support.operator_sim import Scene, SimOperator
from support.virtual_loop import run_virtual

from enitide_api.errors import KubeError
from enitide_kube.port import ENINODE
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Effect, Fault

pytestmark = pytest.mark.sim

PRE, ABOVE = 2, 2
VERBS = (
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "DeleteNetworkInterface",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
    "DescribeNetworkInterfaces",
    "mutations",
    "*",
)


class Agent:
    """A node's agent as far as the hand-over goes: idle addresses are yielded, and rightly taken back."""

    def __init__(self, scene: Scene, node: str, rng: Random) -> None:
        self.scene = scene
        self.node = node
        self.rng = rng
        self.wanted = 0
        self.held: set[str] = set()
        self.yielded: tuple[str, ...] = ()
        self.broken = ""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 2.0))
            try:
                await self._turn()
            except KubeError:
                continue  # the API server is away: pods live on
            self.check()

    async def _turn(self) -> None:
        eninode = await self.scene.eninode(self.node)
        published = {a for each in eninode.status.interfaces for a in each.addresses}
        idle = sorted(published - self.held - set(self.yielded))
        while len(self.held) > self.wanted:
            self.held.discard(self.rng.choice(sorted(self.held)))
        while len(self.held) < self.wanted and idle:
            self.held.add(idle.pop(self.rng.randrange(len(idle))))
        count = eninode.status.reclaim.count if eninode.status.reclaim else 0
        kept = tuple(each for each in self.yielded if each in published)[:count]
        wished = (*kept, *idle[: max(0, count - len(kept))])
        demand = {"inUse": len(self.held), "cooling": 0, "waiting": max(0, self.wanted - len(self.held))}
        before = eninode.spec
        said = (before.demand.in_use, before.demand.waiting)
        if tuple(before.yielded) == wished and said == (demand["inUse"], demand["waiting"]):
            self.yielded = wished
            return
        # out of use before it is said, back in use only after the server has agreed
        self.yielded = tuple(dict.fromkeys((*self.yielded, *wished)))
        version = eninode.metadata.resource_version
        patch = {"metadata": {"resourceVersion": version}, "spec": {"yielded": list(wished), "demand": demand}}
        await self.scene.kube.patch(ENINODE, self.node, patch)
        self.yielded = wished

    def check(self) -> None:
        """No address of a pod has gone."""
        # what is so, not what a read shows: reads lag
        devices = self.scene.model.instances[self.scene.instances[self.node]].devices.values()
        in_ec2 = {address for record in devices for address in record.secondaries}
        if self.held - in_ec2 and not self.broken:
            self.broken = f"{self.node} lost {sorted(self.held - in_ec2)} at {self.scene.loop.time():.1f}"


def _strike(scene: Scene, rng: Random) -> None:
    """One more fault."""
    verb, for_s = rng.choice(VERBS), rng.uniform(5, 60)
    kind = rng.randrange(7)
    if kind == 0:
        scene.physics.add(Fault(verb, code="RequestLimitExceeded", http_status=503, for_s=for_s))
    elif kind == 1:
        scene.physics.add(Fault(verb, effect=Effect.LOST, times=rng.randint(1, 3)))
    elif kind == 2:
        scene.physics.add(Fault(verb, effect=Effect.DELAY, delay_s=rng.uniform(1, 25), for_s=for_s))
    elif kind == 3:
        scene.physics.add(Fault(verb, code="InternalError", http_status=500, effect=Effect.REFUSE_AFTER, times=2))
    elif kind == 4:
        scene.store.faults.add(KubeFault(kind="ENINode", code=409, times=rng.randint(1, 5), client="op"))
    elif kind == 5:
        scene.store.faults.add(KubeFault(kind="ENINode", code=504, lost=True, times=rng.randint(1, 3), client="op"))
    else:
        scene.store.faults.add(KubeFault(kind="ENINode", delay_s=rng.uniform(0.5, 20), times=3, client="op"))


@pytest.mark.parametrize("seed", range(10))
def test_no_weather_takes_an_address_from_a_pod_and_all_is_sound_afterwards(seed: int) -> None:
    async def scenario() -> None:
        rng = Random(seed)
        scene = Scene()
        scene.model.visible_after_s = rng.choice([0.0, 2.0])
        pool = {"preAllocate": PRE, "maxAboveWatermark": ABOVE}
        await scene.install(pool=pool, release={"delay": "5s"})
        agents = []
        for name in ("a", "b", "c"):
            await scene.node(name)
            agents.append(Agent(scene, name, rng))
        tasks = [asyncio.create_task(agent.run()) for agent in agents]
        operators = [scene.operator("op-0"), scene.operator("op-1")]
        for number in range(40):
            await asyncio.sleep(rng.uniform(5, 40))
            for agent in rng.sample(agents, rng.randint(0, 3)):
                agent.wanted = rng.randint(0, 24)
            if rng.random() < 0.6:
                _strike(scene, rng)
            if rng.random() < 0.15:
                operators = _replace_one(scene, operators, number, rng)
        scene.physics.remove()
        scene.store.faults.clear()
        for agent in agents:
            agent.wanted = rng.randint(0, 20)
        await asyncio.sleep(900)
        assert [agent.broken for agent in agents if agent.broken] == []
        for agent in agents:
            assert len(agent.held) == agent.wanted
            low = agent.wanted + PRE
            assert low <= await scene.provisioned(agent.node) <= low + ABOVE
        await scene.check_sound()
        assert not operators[0].metrics.internal_errors._value.get()
        for task in tasks:
            task.cancel()

    run_virtual(scenario())


def _replace_one(scene: Scene, operators: list[SimOperator], number: int, rng: Random) -> list[SimOperator]:
    """One operator dies, whichever; another one starts."""
    dying = rng.choice(operators)
    dying.crash()
    return [each for each in operators if each is not dying] + [scene.operator(f"op-{number + 2}")]
