"""`enitide endpoint`: this node's pods as policy sees them, asked from the agent."""

from __future__ import annotations

from pathlib import Path

import click

from enitide_api.output import Column, emit, output_option
from enitide_enidp.cli.agent import ask, run_dir_option

_COLUMNS = (
    Column("owner", "owner"),
    Column("addresses", "addresses"),
    Column("identity", "identity"),
    Column("state", "state"),
    Column("rule set", "ruleSet"),
    Column("revision", "revision"),
    Column("labels", "labels"),
    Column("container", "containerID", wide=True),
    Column("device", "device", wide=True),
)


@click.group()
def main() -> None:
    """This node's pods: identity, labels, rule set, state."""


@main.command("list")
@run_dir_option
@output_option
def list_(run_dir: Path, form: str) -> None:
    """One line a pod. State: enforced, audit, pending (its identity is not here yet), closed, or open (no pod)."""
    emit(ask(run_dir, "/v1/endpoints")["endpoints"], form, _COLUMNS)


@main.command()
@click.argument("pod")
@run_dir_option
@output_option
def get(pod: str, run_dir: Path, form: str) -> None:
    """One pod, by namespace/name, address or container id."""
    found = [
        row
        for row in ask(run_dir, "/v1/endpoints")["endpoints"]
        if pod in (row["owner"], row["containerID"], row["podUID"], *row["addresses"])
    ]
    if not found:
        raise click.UsageError(f"no pod {pod!r} on this node: `enitide endpoint list` shows those there are")
    emit(found[0], form, _COLUMNS, found)
