"""Runs a scenario's events in order, lets time pass where they say so, and gathers the snapshots.

`run(scenario)` is the entry for programs: it makes a virtual loop of its own. `events` may replace those of the
scenario, also by a generator that looks at the simulation as it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from enitide_lab.simulate.acts import Acts
from enitide_lab.simulate.events import Advance, Event, Settle, Snapshot
from enitide_lab.simulate.scenario import Scenario
from enitide_lab.simulate.settling import settle
from enitide_lab.simulate.simulation import Simulation
from enitide_lab.virtual_time import run_virtual

Events = Callable[[Simulation], Iterable[Event]]
OnStep = Callable[[Simulation, int], None]


def _nothing(_sim: Simulation, _number: int) -> None:
    return None


def run(scenario: Scenario, events: Events | None = None, on_step: OnStep = _nothing) -> dict[str, Any]:
    """The whole output. `on_step(simulation, n)` is called before event n and now and then while time passes.

    The first call comes before time begins: the place for a `Recorder`.
    """
    return run_virtual(_run(scenario, events or (lambda _sim: scenario.events), on_step))


async def _run(scenario: Scenario, events: Events, on_step: OnStep) -> dict[str, Any]:
    sim = Simulation(scenario)
    acts = Acts(sim)
    snapshots: dict[str, Any] = {}
    number = 0
    for number, event in enumerate(events(sim)):
        on_step(sim, number)
        if isinstance(event, Snapshot):
            snapshots[event.name] = sim.view.snapshot()
        elif isinstance(event, Advance):
            await sim.advance(event.seconds, lambda: on_step(sim, number))  # noqa: B023  called within this turn
        elif isinstance(event, Settle):
            await settle(sim, lambda: on_step(sim, number))  # noqa: B023  as above
        else:
            acts.do(event)
    on_step(sim, number + 1)
    end = sim.view.snapshot()
    await sim.close()
    return {"snapshots": snapshots, "end": end}
