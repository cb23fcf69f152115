"""A progress bar on standard error while a scenario runs: only at a terminal, never in a file or a pipe."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from enitide_lab.simulate.simulation import Simulation


class Progress:
    """A context manager; `step` is called by the run. `warnings`: what the reader of the result should know."""

    def __init__(self, events: int) -> None:
        self.warnings: list[str] = []
        self._bar: Any = None
        self._task: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("simulate"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=events)

    def step(self, simulation: Simulation, number: int) -> None:
        """Event `number` is next or under way."""
        self.warnings = simulation.warnings
        if self._bar is not None:
            minutes, seconds = divmod(int(simulation.loop.time()), 60)
            text = f"virtual {minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
            self._bar.update(self._task, completed=number, description=text)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        if self._bar is not None:
            self._bar.stop()
