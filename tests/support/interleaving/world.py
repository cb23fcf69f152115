"""Operators, two nodes, one tiny subnet; what must never happen, and what must have come about once all is calm.

In use: wired in a node's kernel. What must hold is asked after every effect in EC2 and every wired pod, not only
between steps: an address that is away for an instant is found.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from enitide_api.resources import ENINode, ENINodeStatus, InstanceFacts, decode
from enitide_ipam.addresses import expand, text
from enitide_ipam.model import TAG_INSTANCE
from enitide_ipam.tide import excess, levels
from enitide_kube.port import ENICLASS, ENINODE
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.apistore.port import StoreKube
from enitide_lab.apistore.table import Stored, Watcher
from enitide_lab.ec2model.state import InterfaceRecord
from support.interleaving.kernel import Kernel
from support.interleaving.node import Agent, Kubelet
from support.interleaving.weather import Sky, Weather, WeatherKube
from support.operator_sim import ZONE, Scene, SimOperator

NODES = ("a", "b")
FULL = ("AtCapacity", "SubnetExhausted")  # reasons for which a node may stay short for good
CALM_WITHIN_S = 1500.0  # take-over of the Lease, one drift reading, one sweep, and the back-offs before them
FULL_S = 20
LIMIT_MEMORY_S = 120.0  # a call that was planned under a higher maxAllocate has long been sent or dropped by then


@dataclass(frozen=True, slots=True)
class Setup:
    """What one run begins with.

    `pods` come to each node and only `stay` of them stay; once `began` has happened, one after the other, `rush` more
    come at once.
    """

    prefixes: bool
    pre: int
    above: int
    maximum: int | None
    visible_after_s: float
    attach_delay_s: float
    scattered: bool
    pods: int
    stay: int
    began: tuple[str, ...]
    rush: int
    instance_type: str = "t3.small"

    @property
    def burst(self) -> int:
        """How many pods come at once: enough of them that whole /28s come free."""
        return self.pods * (6 if self.prefixes else 1)


class WeatherScene(Scene):
    """Operators here live under a sky."""

    def __init__(self, weather: Weather, **options: Any) -> None:
        super().__init__(**options)
        self.weather = weather

    def kube_of(self, client: str) -> StoreKube:
        """As the scene's."""
        return WeatherKube(self.store, client, self.weather)


class World:
    """Make it inside a virtual loop, `begin` it, then command it."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        self.setup = setup
        self.weather = Weather()
        self.scene = WeatherScene(self.weather, subnet_cidr="10.0.0.0/25" if setup.prefixes else "10.0.0.0/27")
        self.scene.model.choice = "scatter" if setup.scattered else "worst"
        self.scene.model.visible_after_s = setup.visible_after_s
        self.scene.model.attach_delay_s = setup.attach_delay_s
        self.scene.on_event = self._on_event
        self.broken: list[str] = []
        self.kernels = {name: Kernel(lambda _device, _address: self.check()) for name in NODES}
        self.agents: dict[str, Agent] = {}
        self.kubelets: dict[str, Kubelet] = {}
        self.operators: list[SimOperator] = []
        self.seen: Counter[str] = Counter()
        self._folder = folder
        self._born = 0
        self._limits: list[tuple[float, int | None]] = [(0.0, setup.maximum)]
        self._hurry: tuple[str, asyncio.Event] | None = None

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
            self.kubelets[name] = Kubelet(scene.kube, name, lambda name=name: self.agents[name])  # type: ignore[misc]
            self.start_agent(name)
            for _ in range(setup.burst):
                self.kubelets[name].start()
        self._watch()
        self.start_operator()
        await self._wired()
        for kubelet in self.kubelets.values():
            for name in tuple(kubelet.pods)[setup.stay :]:
                kubelet.end(name, object_first=False)
        for each in setup.began:
            await self.until(each, 15.0)
        self.burst(setup.rush)

    async def _wired(self) -> None:
        """Until the first pods have what they can get."""
        counts: list[int] = []
        while len(counts) < FULL_S and (len(counts) < 3 or len(set(counts[-3:])) > 1 or not counts[-1]):
            await asyncio.sleep(1.0)
            counts.append(sum(len(each.addresses) for each in self.kernels.values()))

    def _watch(self) -> None:
        """Note when a hand-over goes on, by what is stored."""
        store = self.scene.store
        rtype = store.type_of(ENINODE)
        before = {name: self.eninode(name) for name in NODES}

        def on_event(_type: str, stored: Stored) -> None:
            new = decode(stored.raw(rtype), ENINode)
            old, before[new.metadata.name] = before[new.metadata.name], new
            for what in handed_over(old, new):
                self._happened(what)

        store.watch(Watcher(rtype, store.selector(rtype, "", "", ""), on_event, lambda _status: None), store.version)

    def start_operator(self, **crash: Any) -> SimOperator:
        """One more."""
        self._born += 1
        operator = self.scene.operator(f"op-{self._born}", drift_interval=60, report_interval=2, **crash)
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
            kube, name, facts, self.kernels[name], journal=journal, attached=lambda: self._device_ids(instance)
        )

    async def end(self) -> None:
        """Nothing runs any more; files are let go of."""
        for operator in self.operators:
            operator.crash()
        for agent in self.agents.values():
            agent.die()
            agent.journal.close()

    # --- what is so ----------------------------------------------------------------------------------------------

    def _devices(self, instance: str) -> list[InterfaceRecord]:
        return list(self.scene.model.instances[instance].devices.values())

    def _device_ids(self, instance: str) -> set[str]:
        # what is so, not what a read shows: reads lag, devices do not
        return {each.id for each in self._devices(instance) if each.attachment and each.attachment.status == "attached"}

    def eninode(self, name: str) -> ENINode:
        """The resource, without a request."""
        store = self.scene.store
        rtype = store.type_of(ENINODE)
        return decode(store.get(rtype, "", name).raw(rtype), ENINode)

    def leader(self) -> SimOperator | None:
        """Who leads now."""
        return next((each for each in self.operators if each.engine.leading), None)

    # --- what must never happen ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Every wired address is on its node in EC2, and wired once."""
        seen: set[str] = set()
        for name, kernel in self.kernels.items():
            wired = list(kernel.addresses.values())
            here = {address for each in self._devices(self.scene.instances[name]) for address in _held(each)}
            for address in wired:
                if address in seen:
                    self._say(f"two pods have {address}")
                if address not in here:
                    self._say(f"{name}: {address} is in use and not on the node in EC2")
                seen.add(address)

    def _check_limit(self) -> None:
        """No more on a node than maxAllocate allows, what is releasing apart."""
        now = self.scene.loop.time()
        recent = [limit for until, limit in self._limits if until == 0.0 or until + LIMIT_MEMORY_S > now]
        if None in recent:
            return
        most = max(limit for limit in recent if limit is not None)
        for name, instance in self.scene.instances.items():
            releasing = {text(each) for cidr in self.eninode(name).status.releasing for each in expand(cidr)}
            ours = [each for each in self.scene.model.interfaces.values() if self._is_of(each, instance)]
            count = len({address for each in ours for address in _held(each)} - releasing)
            if count > most:
                self._say(f"{name}: {count} addresses, maxAllocate is {most}")

    def _is_of(self, record: InterfaceRecord, instance: str) -> bool:
        if record.attachment is not None:
            return record.attachment.instance.id == instance
        return self.scene.model.tags[record.id].get(TAG_INSTANCE) == instance

    def limit(self, maximum: int | None) -> None:
        """Another maxAllocate from now on."""
        self._limits[-1] = (self.scene.loop.time(), self._limits[-1][1])
        self._limits.append((0.0, maximum))

    def _say(self, what: str) -> None:
        self.broken.append(f"at {self.scene.loop.time():.3f}: {what}")

    def _on_event(self, operator: str, verb: str, moment: str) -> None:
        if moment == "after":
            self.check()
            if verb in ("AssignPrivateIpAddresses", "CreateNetworkInterface"):
                self._check_limit()
        self._happened(f"{verb} {moment}")

    def _happened(self, what: str) -> None:
        self.seen[what] += 1
        if self._hurry is not None and self._hurry[0] == what:
            self._hurry[1].set()

    def burst(self, count: int) -> None:
        """So many pods on each node."""
        for kubelet in self.kubelets.values():
            for _ in range(count):
                kubelet.start()

    # --- commands ------------------------------------------------------------------------------------------------

    async def until(self, what: str, within_s: float) -> None:
        """Until that happens next (`VERB before`, `VERB after`, or a word of `handed_over`), or that long."""
        self._hurry = (what, asyncio.Event())
        await within(self._hurry[1].wait(), within_s)
        self._hurry = None

    async def levels(self, **pool: int | None) -> None:
        """Another class."""
        self.limit(pool["maxAllocate"])
        await self.scene.kube.patch(ENICLASS, "default", {"spec": {"pool": pool}})

    async def kill_leader(self, calls: int, moment: str, *, wait: bool) -> None:
        """It dies now, or so many mutating calls or status writes from now, before or after it took effect.

        Another one starts, and is waited for or not.
        """
        leader = self.leader() or self.operators[0]
        if calls:
            leader.crash_at = (len(leader.events) + calls, moment)
            await within(leader.crashed.wait(), 20.0)
        leader.crash()
        self.operators.remove(leader)
        self.start_operator()
        if wait:
            await self._led()

    async def kill_leader_writing(self, moment: str, delay_s: float) -> None:
        """It dies while its next write of an ENINode after that moment is on its way, and will be for a while."""
        leader = self.leader() or self.operators[0]
        await self.until(moment, 20.0)
        fault = KubeFault(kind="ENINode", delay_s=delay_s, client=leader.name)
        self.scene.store.faults.add(fault)
        await self.until("PATCH before", 5.0)
        await asyncio.sleep(0.01)
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
        agent.die()
        agent.journal.close()
        await asyncio.sleep(down_s)
        self.start_agent(name)

    def sky(self, client: str, kind: str) -> Sky:
        """Of an agent, or of the operator that leads or will."""
        if client == "operator":
            client = (self.leader() or self.operators[0]).name
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
            if self.broken:
                return
            missing = self.missing()
            if not missing:
                return
        self._say("not whole again: " + "; ".join(missing))

    def missing(self) -> list[str]:
        """What is not yet as it should be."""
        found = [f"{each.id} hangs on nothing" for each in self.scene.model.interfaces.values() if not each.attachment]
        for name in NODES:
            found += [f"{name}: {each}" for each in self._missing_at(name)]
        return found

    def _missing_at(self, name: str) -> list[str]:
        eninode, agent = self.eninode(name), self.agents[name]
        status, pool = eninode.status, agent.memory.pool
        published = {each.id: {*each.addresses, *each.prefixes} for each in status.interfaces}
        there = {each.id: {*each.secondaries, *each.prefixes} for each in self._devices(self.scene.instances[name])}
        found = [] if published == there else [f"published {published}, EC2 has {there}"]
        if status.pending or status.releasing or eninode.spec.yielded or pool.out_of_use():
            found.append(f"half done: {msgspec.to_builtins(status)} {eninode.spec.yielded} {pool.out_of_use()}")
        if {each.id: {*each.addresses, *each.prefixes} for each in pool.interfaces()} != published:
            found.append("the agent knows other addresses")
        held = {each.address for each in pool.ledger.held.values() if each.owner}
        if held != set(self.kernels[name].addresses.values()):
            found.append(f"held {held}, wired {self.kernels[name].addresses}")
        found += _off_tide(eninode, len(self.kubelets[name].pods))
        wanted, wired = len(self.kubelets[name].pods), len(self.kernels[name].addresses)
        for task in (*self.kubelets[name].pods.values(), *self.kubelets[name].gone, *agent.failed):
            if task.done() and not task.cancelled() and task.exception() is not None:
                found.append(f"{task.get_name()} failed: {task.exception()!r}")
        if wired > wanted or (wired < wanted and _why(status) not in FULL):
            found.append(f"{wired} of {wanted} pods have an address, {_why(status)}, agent serves: {agent.serving}")
        return found


def handed_over(old: ENINode, new: ENINode) -> Iterator[str]:
    """What the change of an ENINode means for the release of addresses."""
    asked, asks = (each.status.reclaim.count if each.status.reclaim else 0 for each in (old, new))
    if asks > asked:
        yield "reclaimed"
    if asks < asked and old.status.releasing == new.status.releasing:
        yield "withdrawn"
    if set(new.spec.yielded) - set(old.spec.yielded):
        yield "yielded"
    if set(new.status.releasing) - set(old.status.releasing):
        yield "moved"


async def within(work: Coroutine[Any, Any, Any], seconds: float) -> None:
    """Await it for so long at most."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return


def _why(status: ENINodeStatus) -> str:
    """What the node says of itself."""
    return next((each.reason for each in status.conditions if each.type == "Ready"), "")


def _off_tide(eninode: ENINode, bound: int) -> list[str]:
    """Too few addresses, or too many; with /28s too many may be right, where each holds a pod."""
    status = eninode.status
    if status.class_ is None:
        return ["no class yet"]
    marks = levels(eninode.spec.demand, bound, status.class_.pool, prefix_delegation=status.class_.prefix_delegation)
    have = status.capacity.provisioned
    short = _why(status)
    found = [f"{have} addresses, low tide {marks.low}, {short}"] if have < marks.low and short not in FULL else []
    if excess(marks, have) and not status.class_.prefix_delegation:
        found.append(f"{have} addresses, high tide {marks.high}")
    return found


def _held(record: InterfaceRecord) -> set[str]:
    """Addresses for pods on an ENI."""
    return {*record.secondaries, *(text(each) for cidr in record.prefixes for each in expand(cidr))}
