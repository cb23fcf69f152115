"""`python -m enitide_lab.fabric`, started inside the fabric's namespace: keeps the router as EC2 has it."""

from __future__ import annotations

from pathlib import Path

import click

from enitide_api.logging import configure
from enitide_lab.fabric.daemon import Daemon
from enitide_lab.fabric.feed import ServerFeed


@click.command()
@click.option("--endpoint", required=True, help="URL of the lab's EC2 server, as seen from the fabric.")
@click.option("--namespaces", type=click.Path(exists=True, path_type=Path), required=True, help="Nodes' namespaces.")
@click.option("--appear-delay", type=float, default=0.0, help="Seconds until an attached ENI appears on its node.")
def main(endpoint: str, namespaces: Path, appear_delay: float) -> None:
    """Run until ended."""
    configure("info", component="fabric")
    Daemon(ServerFeed(endpoint), namespaces, appear_delay_s=appear_delay).run()


if __name__ == "__main__":
    main()
