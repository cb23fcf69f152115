"""Operators, two nodes, one tiny subnet: what can be commanded of them. What must hold is `checks`'."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from enitide_api.resources import InstanceFacts
from enitide_kube.port import ENICLASS
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_operator.ec2.port import Verb
from support.interleaving.checks import Checks
from support.interleaving.compound import strangers_come
from support.interleaving.ground import NODES, Ground, Setup
from support.interleaving.moments import SOON_S, Moments, within
from support.interleaving.node import Agent, Kubelet
from support.interleaving.tally import count_the_rest
from support.interleaving.weather import Sky, WeatherKube
from support.operator_sim import ZONE, SimOperator

CALM_WITHIN_S = 1500.0  # take-over of the Lease, one drift reading, one sweep, and the back-offs before them
FULL_S = 20


class World(Ground):
    """Make it inside a virtual loop, `begin` it, then command it."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        super().__init__("10.0.0.0/25" if setup.prefixes else "10.0.0.0/27", self._on_wired)
        self.setup = setup
        self.scene.model.choice = "scatter" if setup.scattered else "worst"
        self.scene.model.visible_after_s = setup.visible_after_s
        self.scene.model.attach_delay_s = setup.attach_delay_s
        self.scene.on_event = self._on_event
        self.checks = Checks(self, setup.maximum)
        self.operators: list[SimOperator] = []
        self.leaks: set[str] = set()
        self._folder = folder
        self._born = 0

    async def begin(self) -> None:
        """Both nodes have pods; then some end, so that soon there are addresses to give back."""
        scene, setup = self.scene, self.setup
        pool = {"preAllocate": setup.pre, "maxAboveWatermark": setup.above, "maxAllocate": setup.maximum}
        await scene.install(
            pool={key: value for key, value in pool.items() if value is not None},
            release={"delay": "2s", "idleInterfaceDelay": "5s"},
            cooldown="2s",
            prefixDelegation=setup.prefixes,
        )
        for name in NODES:
            await scene.node(name, setup.instance_type)
            whose = partial(self.agents.__getitem__, name)
            self.kubelets[name] = Kubelet(scene.kube, name, whose, most=setup.most)
            self.start_agent(name)
            self.kubelets[name].start(setup.burst)
        strangers_come(self, setup.strangers, 1)
        self.moments = Moments(self)
        self.start_operator()
        await self._wired()
        for kubelet in self.kubelets.values():
            for name in tuple(kubelet.pods)[setup.stay :]:
                kubelet.end(name, object_first=False)
        for each in setup.began:
            await self.moments.until(each)
        self.burst(setup.rush)

    async def _wired(self) -> None:
        """Until the first pods have what they can get."""
        counts: list[int] = []
        while len(counts) < FULL_S and (len(counts) < 3 or len(set(counts[-3:])) > 1 or not counts[-1]):
            await asyncio.sleep(1.0)
            counts.append(sum(len(each.addresses) for each in self.kernels.values()))

    def start_operator(self, **crash: Any) -> SimOperator:
        """One more."""
        self._born += 1
        settings = {"drift_interval": 60, "report_interval": 2, "policy": "off", "subnet_reports": False}
        operator = self.scene.operator(f"op-{self._born}", **settings, **crash)
        self.operators.append(operator)
        return operator

    def start_agent(self, name: str) -> None:
        """A new process on what the last one left."""
        scene = self.scene
        instance = scene.instances[name]
        facts = InstanceFacts(
            id=instance,
            type=self.setup.instance_type,
            availability_zone=ZONE,
            vpc_id=scene.vpc,
            subnet_id=scene.subnet,
        )
        kube = WeatherKube(scene.store, f"agent-{name}", self.weather)
        journal = self._folder / name
        self.agents[name] = Agent(
            kube, name, facts, self.kernels[name], journal=journal, attached=lambda: self.device_ids(name)
        )

    async def end(self) -> None:
        """Nothing runs any more; files are let go of."""
        count_the_rest(self)
        for operator in self.operators:
            operator.crash()
        for agent in self.agents.values():
            agent.die()
            agent.journal.close()

    # --- what is so ----------------------------------------------------------------------------------------------

    def leader(self) -> SimOperator | None:
        """Who leads now."""
        return next((each for each in self.operators if each.engine.leading), None)

    def _on_event(self, operator: str, verb: str, moment: str) -> None:
        if moment == "after":
            self.checks.check()
            self.checks.check_limit()
        if verb == Verb.ATTACH:
            self._devices_come()
        self.moments.happened(f"{verb} {moment}")

    def _on_wired(self) -> None:
        self.tally["pod wired"] += 1
        self.checks.check()

    def _devices_come(self) -> None:
        """A kernel tells its agent of a new device as soon as it is there."""
        for agent in self.agents.values():
            self.scene.loop.call_later(self.setup.attach_delay_s + 0.05, agent.look)

    def burst(self, count: int) -> None:
        """So many pods on each node."""
        for kubelet in self.kubelets.values():
            kubelet.start(count)

    # --- commands ------------------------------------------------------------------------------------------------

    async def levels(self, **pool: int | None) -> None:
        """Another class."""
        self.checks.limit(pool["maxAllocate"])
        await self.scene.kube.patch(ENICLASS, "default", {"spec": {"pool": pool}})

    async def kill_leader(self, calls: int, moment: str, *, wait: bool) -> None:
        """It dies now, or so many mutating calls or status writes from now, before or after it took effect.

        Another one starts, and is waited for or not.
        """
        leader = self.leader() or self.operators[0]
        if calls:
            leader.crash_at = (len(leader.events) + calls, moment)
            await within(leader.crashed.wait(), SOON_S)
        where = f"{moment} {leader.events[-1]}" if leader.crashed.is_set() else "between calls"
        self.tally[f"operator dies {where}"] += 1
        leader.crash()
        self.operators.remove(leader)
        self.start_operator()
        if wait:
            await self._led()

    async def kill_leader_writing(self, moment: str, delay_s: float) -> None:
        """It dies while its next write of an ENINode after that moment is on its way, and will be for a while."""
        leader = self.leader() or self.operators[0]
        await self.moments.until(moment)
        fault = KubeFault(kind="ENINode", delay_s=delay_s, client=leader.name)
        self.scene.store.faults.add(fault)
        await self.moments.until("PATCH before", 5.0)
        await asyncio.sleep(0.01)
        self.tally["operator dies with a write on its way"] += 1
        leader.crash()
        self.operators.remove(leader)
        self.start_operator()

    async def _led(self) -> None:
        """Until somebody leads."""
        for _ in range(60):
            if self.leader() is not None:
                return
            await asyncio.sleep(1.0)

    async def replace_operator(self) -> None:
        """As at a rolling update: the old one drains and gives the Lease back, the new one stands ready."""
        old = self.operators.pop(0)
        self.start_operator()
        await within(old.stop(), 40.0)
        old.crash()

    async def change_leader(self, *, wait: bool) -> None:
        """The leader cannot renew its Lease for a minute; another one stands ready, and is waited for or not."""
        leader = self.leader()
        if leader is not None:
            fault = KubeFault(kind="Lease", code=503, times=12, client=leader.name)
            self.scene.store.faults.add(fault)
        if len(self.operators) < 2:
            self.start_operator()
        if wait:
            await asyncio.sleep(40.0)
            await self._led()

    async def kill_agent(self, name: str, at: str, down_s: float) -> None:
        """It dies now, or at its next record (`before` it is written, with it `torn`, `after`), and comes back."""
        agent = self.agents[name]
        if at and agent.serving:
            agent.journal.dies_at = at
            await within(agent.died.wait(), 5.0)
        self.tally[f"agent dies {f'at a record, {at}' if agent.died.is_set() else 'between records'}"] += 1
        agent.die()
        agent.journal.close()
        await asyncio.sleep(down_s)
        self.start_agent(name)

    def sky(self, client: str, kind: str) -> Sky:
        """Of an agent, of the operator that leads or will, or of one that stands ready."""
        leader = self.leader() or self.operators[0]
        if client == "standby":
            client = next((each for each in self.operators if each is not leader), leader).name
        elif client == "operator":
            client = leader.name
        return self.weather.over(client, kind)

    # --- the end -------------------------------------------------------------------------------------------------

    async def calm(self) -> None:
        """The weather is good, everybody is back; all must be whole within a sweep."""
        scene = self.scene
        scene.physics.remove()
        scene.store.faults.clear()
        self.weather.clear()
        scene.model.visible_after_s = 0.0
        for name, agent in self.agents.items():
            agent.journal.dies_at = ""
            if agent.died.is_set():
                agent.journal.close()
                self.start_agent(name)
        if not self.operators:
            self.start_operator()
        scene.store.expire_watches()  # what was lost on a watch is told by the next list
        began, missing = scene.loop.time(), [""]
        while scene.loop.time() - began < CALM_WITHIN_S:
            await asyncio.sleep(3.0)
            if self.checks.broken:
                return
            missing = self.checks.missing()
            if not missing:
                return
        self.checks.say("not whole again: " + "; ".join(missing))
