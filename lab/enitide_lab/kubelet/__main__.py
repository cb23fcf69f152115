"""`python -m enitide_lab.kubelet --lab NAME`: the kubelets of all nodes of a lab, and its scheduler, in one process."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from random import Random

import click

from enitide_api.logging import configure
from enitide_kube.client import HttpKube
from enitide_lab.house import record
from enitide_lab.house.layout import lab_paths
from enitide_lab.kubelet.node import NodeKubelet
from enitide_lab.kubelet.scheduler import Scheduler


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _run(name: str) -> None:
    paths = lab_paths(name)
    lab = record.read(paths)
    rng = Random()  # noqa: S311 - jitter
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:

        async def connect(role: str, node: str = "") -> HttpKube:
            return await stack.enter_async_context(HttpKube.connect(str(paths.credentials(role, node)), f"lab-{role}"))

        for node in lab.nodes:
            kubelet = NodeKubelet(await connect("kubelet", node.name), lab, node, rng=rng, wall=_now)
            tasks.create_task(kubelet.run())
        if lab.kubernetes == "embedded":
            tasks.create_task(Scheduler(await connect("scheduler"), rng=rng).run())


@click.command()
@click.option("--lab", "name", required=True, help="Name of the lab.")
@click.option("--log-level", default="info", help="Least severity that is logged.")
def main(name: str, log_level: str) -> None:
    """Run until ended."""
    configure(log_level, component="kubelet")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # pods live on, as they do when a kubelet stops
    asyncio.run(_run(name))


if __name__ == "__main__":
    main()
