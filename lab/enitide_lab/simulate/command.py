"""`enitide simulate FILE`: the scenario in, pools, calls and reasons out. JSON alone on standard output."""

from __future__ import annotations

import json
from pathlib import Path

import click

from enitide_api.logging import configure


@click.command(name="simulate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="All snapshots as one JSON object, and nothing else.")
@click.option("--log", is_flag=True, help="The operator's own log on standard error, too.")
def main(file: Path, as_json: bool, log: bool) -> None:
    """Run the real allocation engine on a scenario, under virtual time.

    FILE is YAML: a world, nodes, and what happens to them. docs/simulate.md has every key. Exit 0, or 2 for a scenario
    that means nothing, with the line and what to write instead.
    """
    from enitide_lab.simulate.progress import Progress
    from enitide_lab.simulate.reading import read_file
    from enitide_lab.simulate.run import run
    from enitide_lab.simulate.summary import summary

    configure("info" if log else "critical")
    scenario = read_file(file)
    with Progress(len(scenario.events)) as progress:
        output = run(scenario, on_step=progress.step)
    for line in progress.warnings:
        click.echo(f"simulate: {line}", err=True)
    click.echo(json.dumps(output, indent=2) if as_json else summary(output))
