"""Pods that come and go at random over a simulated cluster, as its scheduler and kubelets would have it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from random import Random

from enitide_api.resources import Demand
from enitide_kube.port import POD
from enitide_lab.simulate.events import Advance, Announce, Event
from enitide_lab.simulate.simulation import AGENTS, Simulation
from enitide_operator.ec2.port import Verb

COOLDOWN_S = 30.0
FIRST_PODS = 30
TICK_S = 0.1


class Churn:
    """`changes_per_s`: half of them pods that begin, half pods that end, each on a random node."""

    def __init__(self, sim: Simulation, changes_per_s: float) -> None:
        self._sim = sim
        self._rate = changes_per_s
        self._rng = Random("churn")
        self._nodes = list(sim.groups)
        self._pods = dict.fromkeys(self._nodes, FIRST_PODS)
        self._cooling = dict.fromkeys(self._nodes, 0)
        self._cooled: list[tuple[float, str]] = []
        self._samples_before = 0
        self.changes = 0

    def bring_up(self) -> Iterator[Event]:
        """All nodes, each with its first pods."""
        sim = self._sim
        for place, node in enumerate(self._nodes):
            yield Announce(nodes=(node,))
            for _ in range(FIRST_PODS):
                sim.pod_set(node).add()
            self._tell(node)
            if place % 100 == 99:
                yield Advance(seconds=1.0)
        yield Advance(seconds=900.0)

    def live(self, seconds: float) -> Iterator[Event]:
        """So long."""
        self._samples_before = len(self._sim.demands.samples)
        loop = self._sim.loop
        end, owed = loop.time() + seconds, 0.0
        while loop.time() < end:
            owed += self._rate * TICK_S
            while owed >= 1.0:
                owed -= 1.0
                self._change()
            self._cool(loop.time())
            yield Advance(seconds=TICK_S)

    def _change(self) -> None:
        node = self._rng.choice(self._nodes)
        self.changes += 1
        if self.changes % 2:
            self._pods[node] += 1
            self._sim.pod_set(node).add()
        elif self._pods[node]:
            self._pods[node] -= 1
            self._sim.pod_set(node).remove_oldest()
            self._cooling[node] += 1
            heapq.heappush(self._cooled, (self._sim.loop.time() + COOLDOWN_S, node))
        self._tell(node)

    def _cool(self, now: float) -> None:
        while self._cooled and self._cooled[0][0] <= now:
            node = heapq.heappop(self._cooled)[1]
            self._cooling[node] -= 1
            self._tell(node)

    def _tell(self, node: str) -> None:
        """As many as have addresses are in use, the rest wait for one: what the agent sees of its pods."""
        wanted, cooling = self._pods[node], self._cooling[node]
        asked = self._sim.demands.nodes.get(node)
        have = asked.provisioned if asked is not None else 0
        held = min(wanted, max(0, have - cooling))
        self._sim.use(node, Demand(in_use=held, cooling=cooling, waiting=wanted - held))
        self._sim.demands.bound(node, wanted)

    # --- figures -------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """So far: Assign calls, writes of operator and agents to the API server, passes of single nodes."""
        sim = self._sim
        assigns = sum(count for (verb, _), count in sim.physics.counts.items() if verb == Verb.ASSIGN)
        writes = sum(
            count
            for (client, verb, kind, _), count in sim.store.requests.items()
            if client in (AGENTS, "operator") and verb in ("create", "patch", "update") and kind != POD.kind
        )
        assert sim.operator is not None
        passes = sim.operator.metrics.pass_seconds.collect()[0].samples
        return {
            "assigns": assigns,
            "writes": writes,
            "passes": int(next(each.value for each in passes if each.name.endswith("_count"))),
        }

    def publish_s(self, part: float) -> float:
        """That part of all changes of demand since the bring-up was met by a write within this."""
        samples = sorted(self._sim.demands.samples[self._samples_before :])
        return samples[min(len(samples) - 1, int(part * len(samples)))] if samples else 0.0
