"""`settle`: run until 5 virtual minutes pass with no mutating call tried and nothing due within release.delay.

What is due is seen from outside: an excess that will have lasted its delay, an idle ENI, an agent that still has to
report. A scenario whose faults never end may never settle; after `MOST_S` it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from enitide_api.durations import seconds
from enitide_api.resources import ENIClassSpec
from enitide_ipam import tide
from enitide_lab.simulate.simulation import Simulation

QUIET_S = 300.0
MOST_S = 6 * 3600.0
_A_HAIR_S = 1.0


async def settle(sim: Simulation, on_step: Callable[[], None]) -> None:
    """Return when the world has come to rest."""
    began = sim.loop.time()
    while sim.loop.time() < began + MOST_S:
        quiet_at = max(began, sim.physics.mutated_at_s) + QUIET_S
        wait_s = quiet_at - sim.loop.time()
        if wait_s <= 0:
            due = next_due(sim)
            if due is None:
                return
            wait_s = due - sim.loop.time() + _A_HAIR_S
        await sim.advance(wait_s, on_step)
    sim.warn(f"not at rest after {MOST_S:.0f} s of settle: going on")


def next_due(sim: Simulation) -> float | None:
    """The earliest moment at which something is due, of those within release.delay of the node's class."""
    now = sim.loop.time()
    found = [moment for node in sim.demands.nodes for moment in _due(sim, node, now)]
    if sim.operator is None:
        found.append(now + _A_HAIR_S)  # it will be back
    return min(found, default=None)


def _due(sim: Simulation, node: str, now: float) -> Iterator[float]:
    asked, spec = sim.demands.nodes[node], sim.demands.governing(node).spec
    reports = sim.agents[node].due_s()
    delay_s = seconds(spec.release.delay)
    moments = [reports] if reports is not None else []
    if spec.release.enabled:
        if _has_excess(sim, node, spec):
            moments.append(asked.touched_s + delay_s)
        moments += sim.idle_enis_due(node, seconds(spec.release.idle_interface_delay))
    yield from (moment for moment in moments if now < moment + _A_HAIR_S and moment - now <= delay_s)


def _has_excess(sim: Simulation, node: str, spec: ENIClassSpec) -> bool:
    asked = sim.demands.nodes[node]
    marks = tide.levels(asked.demand, asked.bound, spec.pool, prefix_delegation=spec.prefix_delegation)
    return tide.excess(marks, asked.provisioned) > 0
