"""`python -m enitide_lab.realkube build|prepare|run|down`: build programs, run a control plane, clean up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click

from enitide_api.errors import EnitideError
from enitide_lab.realkube import RealCluster, start_real, stop_leftovers, why_unavailable
from enitide_lab.realkube.build import CNITOOL, HELM, PROGRAMS, built, ensure_built, why_not_buildable
from enitide_lab.realkube.programs import find_programs
from enitide_lab.realkube.relay import Door, serve


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
@click.option("--name", "names", multiple=True, help="Another name or address that its certificate holds for.")
@click.option("--door", "doors", multiple=True, help="NETNS-PATH,ADDRESS:PORT where it is to be reached as well.")
def run(
    *, directory: Path, listen: str, port: int, chart: bool, names: tuple[str, ...], doors: tuple[str, ...]
) -> None:
    """Run a control plane with its files in DIRECTORY until SIGINT or SIGTERM; the first line says that it is ready."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    openings = [Door.parse(text) for text in doors]
    names = (*names, *(door.address for door in openings))
    with start_real(directory, listen_address=listen, port=port, server_names=names) as cluster:
        if chart:
            cluster.install_chart()
        try:
            asyncio.run(_serve(cluster, openings))
        except KeyboardInterrupt:
            print("ending", file=sys.stderr)


async def _serve(cluster: RealCluster, openings: Sequence[Door]) -> None:
    url = urlsplit(cluster.server)
    target = (url.hostname or "", url.port or 443)
    servers = [await serve(door.listen(), target) for door in openings]
    print(f"export KUBECONFIG={cluster.kubeconfig}  # {cluster.server}, {cluster.origin}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        for server in servers:
            server.close()


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
