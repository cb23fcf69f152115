"""`python -m enitide_lab.realkube build|prepare|run|down`: build programs, run a control plane, clean up."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from enitide_api.errors import EnitideError
from enitide_lab.realkube import start_real, stop_leftovers, why_unavailable
from enitide_lab.realkube.build import CNITOOL, HELM, PROGRAMS, built, ensure_built, why_not_buildable
from enitide_lab.realkube.programs import find_programs


@click.group()
def main() -> None:
    """The real Kubernetes control plane, for tests and for a look around."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PROGRAMS)))
def build(names: tuple[str, ...]) -> None:
    """Build NAMES (default: all) into the cache and print where they are."""
    for name in names or tuple(PROGRAMS):
        print(ensure_built(PROGRAMS[name]))


@main.command()
def prepare() -> None:
    """Build what the tests need and say what they will run on; exit code 4 with the reason if there can be none."""
    reason = why_unavailable(os.environ, may_build=True) or (built(HELM) is None and why_not_buildable())
    if reason:
        print(reason)
        sys.exit(4)
    for program in (HELM, CNITOOL):
        ensure_built(program)
    existing = os.environ.get("KUBECONFIG", "")
    print(f"the cluster of KUBECONFIG={existing}" if existing else find_programs(os.environ).origin)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--listen", default="127.0.0.1", show_default=True, help="Address of the API server.")
@click.option("--port", default=0, help="Its port; 0 chooses a free one.")
@click.option("--chart/--no-chart", default=False, help="Install what charts/enitide grants and defines.")
def run(directory: Path, listen: str, port: int, chart: bool) -> None:
    """Run a control plane with its files in DIRECTORY until SIGINT or SIGTERM; the first line says that it is ready."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with start_real(directory, listen_address=listen, port=port) as cluster:
        if chart:
            cluster.install_chart()
        print(f"export KUBECONFIG={cluster.kubeconfig}  # {cluster.server}, {cluster.origin}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("ending", file=sys.stderr)


@main.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True))
def down(directory: Path) -> None:
    """End what a killed `run` left running in DIRECTORY."""
    print(" ".join(stop_leftovers(directory)) or "nothing was left")


if __name__ == "__main__":
    try:
        main()
    except EnitideError as error:
        print(error.sentence(), file=sys.stderr)
        sys.exit(error.exit_code)
