"""`enitide monitor`: follow what this node's datapath drops, one line a packet, as it happens."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from enitide_api.errors import UsageError
from enitide_api.reasons import Drop
from enitide_enidp.cli.agent import Names, run_dir_option
from enitide_enidp.cli.bpfpolicy import pin_dir_option
from enitide_enidp.datapath import events, loader, views

_POLL_S = 0.5


class Stop:
    """SIGTERM and SIGINT end the command in order, with what it has read printed."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


def _wanted(reasons: tuple[str, ...]) -> frozenset[int]:
    """Numbers of the reasons named; `UsageError` lists what there is."""
    known = {events.reason_word(reason): int(reason) for reason in Drop}
    unknown = [word for word in reasons if word not in known]
    if unknown:
        raise UsageError(f"there is no drop reason {', '.join(map(repr, unknown))}: write one of {', '.join(known)}")
    return frozenset(known[word] for word in reasons)


def _follow(reader: events.EventReader, stop: Stop) -> Iterator[events.DropEvent]:
    while not stop.asked:
        yield from reader.poll(_POLL_S)


@click.command()
@click.option("-o", "--output", "form", type=click.Choice(("human", "json")), default="human", show_default=True)
@click.option("--count", type=click.IntRange(min=1), default=None, help="End after this many events.")
@click.option("--reason", "reasons", multiple=True, help="Only this drop reason, e.g. SpoofedSource; repeatable.")
@pin_dir_option
@run_dir_option
def main(*, form: str, count: int | None, reasons: tuple[str, ...], pin_dir: Path, run_dir: Path) -> None:
    """Follow what this node's datapath drops, and why; `audit`: what a pod's policy only would have dropped.

    Pods are named if the agent answers. Events of one reason are limited per second and CPU; `(and N more before)`
    counts those left out.
    """
    wanted = _wanted(reasons)
    with views.opened(pin_dir):  # says plainly if nothing is loaded or the user may not
        reader = events.EventReader(loader.schema_dir(pin_dir))
    stop, shown, offset_ns, known = Stop(), 0, events.wall_clock_offset_ns(), Names(run_dir)
    try:
        for event in _follow(reader, stop):
            if wanted and event.reason not in wanted:
                continue
            moment_ns = event.time_ns + offset_ns
            pods = known.now()
            told = events.as_json(event, moment_ns, pods) if form == "json" else events.human(event, moment_ns, pods)
            click.echo(json.dumps(told) if form == "json" else told)
            shown += 1
            if count is not None and shown >= count:
                return
    finally:
        reader.close()
