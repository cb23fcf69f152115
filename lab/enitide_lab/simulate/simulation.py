"""A scenario that runs: EC2, API server, agents and operator in one process under virtual time.

Make a `Simulation` inside a virtual loop, `apply` events in order, take a `snapshot` at any moment. Only `Settle` and
`Advance` let time pass. It knows nothing of files and prints nothing. A bench may hold on to `agents`, `model` and
`store` and do more than events can say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from enitide_api.crds import definitions
from enitide_api.resources import Demand, ENINode, decode
from enitide_kube.port import CRD, ENICLASS, ENINODE, NODE, Kind
from enitide_kube.reflector import Reflector
from enitide_lab.apistore.lifecycle import Request
from enitide_lab.apistore.patches import merge
from enitide_lab.apistore.port import StoreKube
from enitide_lab.apistore.store import Store
from enitide_lab.ec2model import EC2Model, Physics
from enitide_lab.ec2model.port import ModelEc2
from enitide_lab.simulate import ground
from enitide_lab.simulate.agent import SimAgent, facts_of
from enitide_lab.simulate.classes import class_body
from enitide_lab.simulate.demands import Demands
from enitide_lab.simulate.idle import IdleEnis
from enitide_lab.simulate.operator import NAME, OperatorProcess
from enitide_lab.simulate.pods import PodSet
from enitide_lab.simulate.scenario import NodeGroup, Scenario
from enitide_lab.simulate.view import View
from enitide_lab.virtual_time import virtual_loop

EC2_LATENCY_S = 0.2
KUBE_LATENCY_S = 0.005
BACK_AFTER_CRASH_S = 5.0
AGENTS = "agents"
STEP_S = 60.0
NO_ADDRESS = "192.0.2.1"  # of a pod that the scenario has hold an address which its node has not
_HISTORY = 1024  # versions that the API server remembers for watches


class Simulation:
    """See the module. `scenario.events` are not applied by themselves."""

    def __init__(self, scenario: Scenario) -> None:
        loop = virtual_loop()
        self.loop = loop
        self.scenario = scenario
        uids = count(1)
        self.store = Store(
            clock=loop.wall,
            monotonic=loop.time,
            uid_source=lambda: f"00000000-0000-0000-0000-{next(uids):012d}",
            rng=self.chance("names"),
            ring=_HISTORY,
        )
        self.model: EC2Model = ground.build(scenario, loop.time)
        self.physics = Physics(loop.time, latency_s=EC2_LATENCY_S)
        self.groups: dict[str, NodeGroup] = {name: group for group in scenario.nodes for name in group.members}
        self.agents: dict[str, SimAgent] = {}
        self.told: dict[str, Demand] = {}
        self.pods: dict[str, PodSet] = {}
        self.warnings: list[str] = []
        self._runs = count(1)
        self._limits = ground.shipped_limits(scenario)
        self._agent_kube = StoreKube(self.store, AGENTS, latency_s=KUBE_LATENCY_S)
        self._mirror: Reflector[ENINode] = Reflector(
            self._agent_kube,
            ENINODE,
            lambda raw: decode(raw, ENINode),
            rng=self.chance(AGENTS),
            on_change=self._on_eninode,
        )
        self._install()
        self.view = View(self)
        self.demands = Demands(self.store, loop.time, self.view.is_full)
        self._idle = IdleEnis(self.model)
        self._mirroring = loop.create_task(self._mirror.run(), name="the agents' watch")
        self._restarting: asyncio.Task[None] | None = None
        self.operator: OperatorProcess | None = None
        self.start_operator()

    def chance(self, whose: str) -> Random:
        """A source of chance that gives the same each time."""
        return Random(f"{self.scenario.seed}/{whose}")  # noqa: S311 - chance here must repeat, not be secret

    # --- time --------------------------------------------------------------------------------------------------------

    async def advance(self, seconds: float, on_step: Callable[[], None]) -> None:
        """Let time pass, with a look up now and then. A bug that ended the operator is raised."""
        end = self.loop.time() + seconds
        while (left := end - self.loop.time()) > 0:
            await asyncio.sleep(min(left, STEP_S))
            on_step()
            if self.operator is not None:
                self.operator.check()

    def warn(self, text: str) -> None:
        """Something that the reader of the result should know; told on standard error by the command."""
        self.warnings.append(f"at {self.loop.time():.0f} s: {text}")

    async def close(self) -> None:
        """Nothing runs any more."""
        self._note_bugs()
        for agent in self.agents.values():
            agent.end()
        if self.operator is not None:
            self.operator.crash()
        self._mirroring.cancel()
        await asyncio.sleep(0)

    def _note_bugs(self) -> None:
        bugs = int(self.operator.bugs) if self.operator is not None else 0
        if bugs:
            self.warn(f"the operator met {bugs} bugs of its own; run again with --log to see them")

    def idle_enis_due(self, node: str, delay_s: float) -> list[float]:
        """When each ENI of the node that holds nothing will have been idle for so long."""
        instance = self.view.instance(node)
        return [] if instance is None else self._idle.due(instance, delay_s)

    # --- the world ---------------------------------------------------------------------------------------------------

    def _install(self) -> None:
        for crd in definitions().values():
            self.create(CRD, crd)
        for each in self.scenario.classes:
            self.create(ENICLASS, class_body(each.name, each.spec))

    def create(self, kind: Kind, body: dict[str, Any], namespace: str = "") -> None:
        """An object, as someone other than operator and agents makes it: at once, and not counted."""
        self.store.create(self.store.type_of(kind), namespace, body)

    def change(self, kind: Kind, name: str, patch: dict[str, Any], namespace: str = "", subresource: str = "") -> None:
        """A merge patch of theirs."""
        rtype = self.store.type_of(kind)
        self.store.patch(
            rtype, namespace, name, lambda obj: merge(obj, patch), Request("Strict", subresource=subresource)
        )

    # --- the operator ------------------------------------------------------------------------------------------------

    def start_operator(self) -> None:
        """A new process, by the old one's name."""
        number = next(self._runs)
        ec2 = ModelEc2(self.model, self.physics, NAME, on_crash=lambda _verb: self.crash_operator())
        self.operator = OperatorProcess(
            StoreKube(self.store, NAME, latency_s=KUBE_LATENCY_S),
            ec2,
            self.scenario.settings,
            self.chance(f"{NAME}/{number}"),
            limits=self._limits,
        )

    def crash_operator(self) -> None:
        """It is dead, and back in 5 s."""
        if self.operator is not None:
            self._note_bugs()
            self.operator.crash()
            self.operator = None
            self.loop.call_later(BACK_AFTER_CRASH_S, self.start_operator)

    def restart_operator(self) -> None:
        """Stopped as at SIGTERM, then started."""
        operator, self.operator = self.operator, None
        if operator is not None:
            self._restarting = self.loop.create_task(self._restart(operator))

    async def _restart(self, operator: OperatorProcess) -> None:
        await operator.stop()
        self.start_operator()

    # --- the agents --------------------------------------------------------------------------------------------------

    def announce(self, node: str) -> None:
        """Its Node is there, and its agent starts."""
        if node in self.demands.nodes:
            return
        group = self.groups[node]
        record = self.model.subnets[group.subnet]
        instance = ground.instance_id(node)
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node, "labels": dict(group.labels)},
            "spec": {"providerID": f"aws:///{record.zone}/{instance}"},
        }
        self.create(NODE, body)
        agent = self.agent(node)
        demand = self.told.get(node, Demand())
        agent.tell(demand)
        bound = self.pods[node].bound if node in self.pods else 0
        self.demands.announce(node, group.labels, instance, demand, bound)
        agent.start()

    def agent(self, node: str) -> SimAgent:
        """The node's agent, running or not."""
        if node not in self.agents:
            group = self.groups[node]
            home = self.model.subnets[group.subnet]
            facts = facts_of(ground.instance_id(node), group.type, home.zone, home.vpc.id, home.id)
            self.agents[node] = SimAgent(self._agent_kube, node, facts, self.chance(node))
        return self.agents[node]

    def use(self, node: str, demand: Demand) -> None:
        """What its agent reports from now on."""
        self.told[node] = demand
        self.demands.demand(node, demand)
        self.agent(node).tell(demand)

    def bind(self, node: str, *, pending: int, holding: int, host_network: int) -> None:
        """The pods bound to it from now on."""
        pods = self.pod_set(node)
        held = self.agent(node).addresses
        pods.set(
            pending=pending,
            holding=holding,
            host_network=host_network,
            address=lambda place: held[place] if place < len(held) else NO_ADDRESS,
        )
        self.demands.bound(node, pods.bound)

    def pod_set(self, node: str) -> PodSet:
        """The node's pods."""
        if node not in self.pods:
            self.pods[node] = PodSet(self.store, node)
        return self.pods[node]

    def _on_eninode(self, name: str, _old: ENINode | None, new: ENINode | None) -> None:
        if name in self.agents:
            self.agents[name].observe(new)
