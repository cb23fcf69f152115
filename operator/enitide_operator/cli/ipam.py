"""`enitide ipam show`: every address of every node, or of one."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import click

from enitide_api.errors import AgentUnreachable
from enitide_api.output import Column, emit, output_option
from enitide_kube.objects import Pod
from enitide_operator.cli.collect import cluster_options, read
from enitide_operator.cli.rows import Row, address_rows

DEFAULT_RUN_DIR = Path("/run/enitide")
STATES = ("free", "reserved", "claimed", "in-use", "cooling", "not-ready", "vanished", "yielded", "releasing")
_COLUMNS = (
    Column("address", "address"),
    Column("node", "node"),
    Column("eni", "eni"),
    Column("state", "state"),
    Column("owner", "owner"),
    Column("since", "since"),
)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(5)
        self.sock.connect(str(self._path))


def ask_agent(run_dir: Path, path: str) -> Any:
    """GET a path of this node's agent. `AgentUnreachable` when nobody answers."""
    connection = _UnixConnection(run_dir / "agent.sock")
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise AgentUnreachable(f"the agent answered {path} with {answer.status}: {body[:200]!r}")
        return json.loads(body)
    except (OSError, http.client.HTTPException) as error:
        raise AgentUnreachable(f"no agent answers at {run_dir / 'agent.sock'} ({error})") from error
    finally:
        connection.close()


@click.group()
def main() -> None:
    """Every address: owner, ENI, state, since."""


@main.command()
@click.argument("node", required=False)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    help="Ask this node's agent too: adds since and cooling. [ENITIDE_RUN_DIR]",
)
@click.option("--state", type=click.Choice(STATES), default=None, help="Only addresses in this state.")
@cluster_options
@output_option
def show(node: str | None, run_dir: Path | None, state: str | None, form: str, **where: Any) -> None:
    """Show every address: from the resources and pods anywhere; `since` from the agent's socket on the node.

    Without --run-dir the socket in ENITIDE_RUN_DIR or the default folder is asked if an agent answers there.
    """
    cluster = read(where["kubeconfig"], where["lease_namespace"], where["lease_name"], pods=True)
    chosen = [cluster.node(node)] if node else sorted(cluster.nodes, key=lambda n: n.metadata.name)
    live = _live(run_dir)
    pods: dict[str, list[Pod]] = {}
    for pod in cluster.pods:
        pods.setdefault(pod.spec.node_name, []).append(pod)
    rows: list[Row] = []
    for eninode in chosen:
        rows += address_rows(eninode, pods.get(eninode.metadata.name, ()), live)
    if state:
        rows = [r for r in rows if r["state"] == state]
    emit(rows, form, _COLUMNS)
    if form in ("table", "wide"):
        counts = Counter(r["state"] for r in rows)
        parts = ", ".join(f"{n} {s}" for s, n in sorted(counts.items()))
        click.echo(f"\n{len(rows)} addresses" + (f": {parts}" if rows else f" {state or ''}".rstrip()))


def _live(run_dir: Path | None) -> dict[str, Row]:
    """What the agent of this node says. Unasked-for it is an extra: without it the resources still answer."""
    folder = run_dir or Path(os.environ.get("ENITIDE_RUN_DIR") or DEFAULT_RUN_DIR)
    try:
        return {row["address"]: row for row in ask_agent(folder, "/v1/addresses")["addresses"]}
    except AgentUnreachable as error:
        if run_dir is not None:
            raise
        if (folder / "agent.sock").exists():
            click.echo(f"without since: {error}", err=True)
        return {}
