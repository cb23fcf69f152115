"""Draws what a `Recorder` took: pools, deficits and calls over virtual time, as one PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from enitide_lab.simulate.series import Sample

BLUE, ORANGE, RED, GREY, GREEN = "#1f77b4", "#ff7f0e", "#d62728", "#7f7f7f", "#2ca02c"
_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
_BINS = 120


def draw(samples: Sequence[Sample], snapshots: Sequence[tuple[str, float]], title: str, path: Path) -> None:
    """`snapshots`: name and second of each, marked by a line. `OSError` where the file cannot be written."""
    from matplotlib.figure import Figure

    end_s = samples[-1].time_s
    unit_s, unit = next(each for each in _UNITS if end_s >= 2 * each[0] or each[0] == 1.0)
    figure = Figure(figsize=(10, 8), layout="constrained")
    pools, lacking, calls = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    times = [each.time_s / unit_s for each in samples]

    pools.plot(times, [each.provisioned for each in samples], color=BLUE, drawstyle="steps-post", label="provisioned")
    pools.plot(times, [each.in_use for each in samples], color=GREEN, drawstyle="steps-post", label="in use")
    lacking.fill_between(times, [each.lacking for each in samples], step="post", color=RED, alpha=0.6, label="needed")
    _bars(calls, samples, unit_s)
    for axes, words in ((pools, "addresses"), (lacking, "addresses below low"), (calls, "EC2 calls per bar")):
        axes.set_ylabel(words)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="upper left", fontsize="small")
        for _, at_s in snapshots:
            axes.axvline(at_s / unit_s, color=GREY, linewidth=0.8, linestyle=":")
    for name, at_s in snapshots:
        pools.annotate(
            name, (at_s / unit_s, 1.0), xycoords=("data", "axes fraction"), rotation=90, va="top", ha="right"
        )
    calls.set_xlabel(f"virtual time ({unit})")
    calls.set_xlim(0, max(end_s / unit_s, 1e-3))
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=100)


def _bars(axes: Any, samples: Sequence[Sample], unit_s: float) -> None:
    """Calls in even bins, stacked: what was refused on top."""
    end_s = max(samples[-1].time_s, 1e-3)
    width_s = end_s / _BINS
    kinds: tuple[tuple[str, str, Callable[[Sample], int]], ...] = (
        ("mutating", BLUE, lambda each: each.mutations),
        ("reads", ORANGE, lambda each: each.reads),
    )
    below = [0] * _BINS
    for label, colour, value in kinds:
        heights = [0] * _BINS
        for before, after in pairwise(samples):
            heights[min(_BINS - 1, int(after.time_s / width_s))] += value(after) - value(before)
        lefts = [number * width_s / unit_s for number in range(_BINS)]
        axes.bar(lefts, heights, width_s / unit_s, bottom=below, align="edge", color=colour, label=label)
        below = [a + b for a, b in zip(below, heights, strict=True)]
    refused = [each.refused for each in samples]
    if refused[-1]:
        late = axes.twinx()
        late.plot([each.time_s / unit_s for each in samples], refused, color=RED, linewidth=1, label="refused so far")
        late.set_ylim(bottom=0)
        late.legend(loc="upper right", fontsize="small")
