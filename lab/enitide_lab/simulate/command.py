"""`enitide simulate FILE`: the scenario in, pools, calls and reasons out. JSON alone on standard output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from enitide_api.collector import collect_seldom
from enitide_api.logging import configure

if TYPE_CHECKING:
    from enitide_lab.simulate.series import Recorder
    from enitide_lab.simulate.simulation import Simulation


@click.command(name="simulate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="All snapshots as one JSON object, and nothing else.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw pools, deficits and calls: a PNG.")
@click.option("--log", is_flag=True, help="The operator's own log on standard error, too.")
def main(file: Path, as_json: bool, plot: Path | None, log: bool) -> None:
    """Run the real allocation engine on a scenario, under virtual time.

    FILE is YAML: a world, nodes, and what happens to them. docs/simulate.md has every key. Exit 0, or 2 for a scenario
    that means nothing, with the line and what to write instead.
    """
    from enitide_lab.simulate.progress import Progress
    from enitide_lab.simulate.reading import read_file
    from enitide_lab.simulate.run import run
    from enitide_lab.simulate.series import Recorder
    from enitide_lab.simulate.summary import summary

    configure("info" if log else "critical")
    collect_seldom()
    scenario = read_file(file)
    recorders: list[Recorder] = []

    def on_step(sim: Simulation, number: int) -> None:
        if plot is not None and not recorders:
            recorders.append(Recorder(sim))
        progress.step(sim, number)

    with Progress(len(scenario.events)) as progress:
        output = run(scenario, on_step=on_step)
    if plot is not None:
        _draw(recorders[0], output, file.name, plot)
    for line in progress.warnings:
        click.echo(f"simulate: {line}", err=True)
    click.echo(json.dumps(output, indent=2) if as_json else summary(output))


def _draw(recorder: Recorder, output: dict[str, Any], title: str, path: Path) -> None:
    recorder.close()
    shots = [(name, shot["time_s"]) for name, shot in output["snapshots"].items()]
    try:
        from enitide_lab.simulate.plot import draw

        draw(recorder.samples, shots, title, path)
    except ModuleNotFoundError as error:
        raise click.ClickException("--plot needs the extra: pip install 'enitide[lab]'") from error
    except OSError as error:
        raise click.ClickException(f"--plot {path}: {error.strerror or error}") from error
