"""Workloads that need more than events can say: a fleet of any size, and pods that come and go by chance.

For benches: `fleet(nodes)` gives a scenario, `churn(...)` a generator of events for `run.run`. Pods are real objects of
the API server, and the agents' numbers follow: in use while they are there, then cooling for the class's cool-down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Any

from enitide_api.resources import Demand
from enitide_api.settings import OperatorSettings
from enitide_lab.ec2model import limits
from enitide_lab.simulate.events import Advance, Announce, Event, Settle
from enitide_lab.simulate.scenario import ClassObject, Group, InstanceType, NodeGroup, Scenario, Subnet, Vpc, World
from enitide_lab.simulate.simulation import Simulation

TYPE = "fleet.test"
_PER_SUBNET = 65_000


def fleet(
    nodes: int,
    *,
    interfaces: int = 3,
    addresses: int = 30,
    class_: dict[str, Any] | None = None,
    settings: OperatorSettings | None = None,
    seed: int = 0,
) -> Scenario:
    """So many nodes of a type with so many ENIs of so many addresses for pods, spread over as many /16s as it needs."""
    per_node = interfaces * (addresses + 1)
    per_subnet = _PER_SUBNET // per_node
    count = -(-nodes // per_subnet)
    cidrs = tuple(f"10.{number}.0.0/16" for number in range(count))
    document = limits.make_type(TYPE, cards=[interfaces], ipv4=addresses + 1)
    world = World(
        cluster="fleet",
        vpc=Vpc(cidrs=cidrs),
        types={TYPE: InstanceType(TYPE, document)},
        subnets=tuple(
            Subnet(f"s-{n}", cidr, zone=f"us-west-1{chr(97 + n)}", vpc="vpc-1") for n, cidr in enumerate(cidrs)
        ),
        groups=(Group("sg-1"),),
    )
    groups = tuple(
        NodeGroup(f"g{n}", min(per_subnet, nodes - n * per_subnet), TYPE, f"s-{n}", ("sg-1",)) for n in range(count)
    )
    given = settings or OperatorSettings()
    return Scenario(
        world,
        groups,
        classes=(ClassObject("default", class_ or {}),),
        settings=given.model_copy(update={"cluster_name": "fleet"}),
        seed=seed,
    )


class Churn:
    """Pods that come and go on a simulation's nodes. `changes`: how many did."""

    def __init__(self, sim: Simulation, rng: Random, *, most: int, cooldown_s: float = 30.0) -> None:
        """`most` pods on a node; `cooldown_s` as the class has it."""
        self._sim = sim
        self._rng = rng
        self._most = most
        self._cooldown_s = cooldown_s
        self._cools: deque[tuple[float, str]] = deque()
        self._nodes = list(sim.groups)
        self.changes = 0

    def fill(self, pods: int) -> None:
        """So many pods on each node."""
        for node in self._nodes:
            self._sim.bind(node, pending=pods, holding=0, host_network=0)
            self._sim.use(node, Demand(in_use=pods))

    def step(self, changes: int) -> None:
        """So many pods start or end, each with equal chance, on nodes taken by chance."""
        self._cool_down()
        for _ in range(changes):
            self._change(self._rng.choice(self._nodes))
        self.changes += changes

    def _change(self, node: str) -> None:
        told, pods = self._sim.told[node], self._sim.pod_set(node)
        starts = not told.in_use or (told.in_use < self._most and self._rng.random() < 0.5)
        if starts:
            pods.add()
            self._sim.use(node, Demand(in_use=told.in_use + 1, cooling=told.cooling))
        else:
            pods.remove_oldest()
            self._cools.append((self._sim.loop.time() + self._cooldown_s, node))
            self._sim.use(node, Demand(in_use=told.in_use - 1, cooling=told.cooling + 1))
        self._sim.demands.bound(node, pods.bound)

    def _cool_down(self) -> None:
        while self._cools and self._cools[0][0] <= self._sim.loop.time():
            node = self._cools.popleft()[1]
            told = self._sim.told[node]
            self._sim.use(node, Demand(in_use=told.in_use, cooling=told.cooling - 1))


def churn(
    sim: Simulation, *, pods: int, most: int, per_s: float, seconds: float, step_s: float = 0.1
) -> Iterator[Event]:
    """All nodes announced with `pods` pods each and settled, then `per_s` pod changes a second for so long."""
    workload = Churn(sim, sim.chance("churn"), most=most)
    workload.fill(pods)
    yield Announce(nodes=tuple(sim.groups))
    yield Settle()
    owed = 0.0
    for _ in range(round(seconds / step_s)):
        owed += per_s * step_s
        workload.step(int(owed))
        owed -= int(owed)
        yield Advance(seconds=step_s)
