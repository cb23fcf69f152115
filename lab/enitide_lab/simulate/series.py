"""Pools, deficits and calls over virtual time, for a picture: samples that thin out as time goes on.

Whatever the length of a run, at most `MOST` samples are kept, evenly spaced. Taking them changes nothing in the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enitide_lab.ec2model.faults import READS
from enitide_lab.simulate.view import NO_ERROR

if TYPE_CHECKING:
    from enitide_lab.simulate.simulation import Simulation

MOST = 1200
FIRST_STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """Sums over all announced nodes, in addresses; calls since the start. `lacking`: below low, and not full."""

    time_s: float
    provisioned: int
    in_use: int
    lacking: int
    mutations: int
    reads: int
    refused: int


class Recorder:
    """Takes samples of a simulation from its making to `close`."""

    def __init__(self, sim: Simulation) -> None:
        self.samples: list[Sample] = []
        self._sim = sim
        self._step_s = FIRST_STEP_S
        self._timer = sim.loop.call_later(0.0, self._take)

    def close(self) -> None:
        """The last sample."""
        self._timer.cancel()
        self.samples.append(self._now())

    def _take(self) -> None:
        self.samples.append(self._now())
        if len(self.samples) >= MOST:
            self.samples = self.samples[::2]
            self._step_s *= 2
        self._timer = self._sim.loop.call_later(self._step_s, self._take)

    def _now(self) -> Sample:
        demands, counts = self._sim.demands, self._sim.physics.counts
        nodes = demands.nodes
        reads = sum(times for (verb, _), times in counts.items() if verb.startswith(READS))
        return Sample(
            time_s=self._sim.loop.time(),
            provisioned=sum(asked.provisioned for asked in nodes.values()),
            in_use=sum(asked.demand.in_use for asked in nodes.values()),
            lacking=sum(demands.lacks(name) for name, asked in nodes.items() if not asked.full),
            mutations=sum(counts.values()) - reads,
            reads=reads,
            refused=sum(times for (_, outcome), times in counts.items() if outcome not in NO_ERROR),
        )
