"""`enitide who IP`: whose an address is, since when, and who had it last."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from enitide_api.errors import AgentUnreachable, KubeForbidden, KubeNotFound
from enitide_api.output import emit, output_option
from enitide_api.resources import ENINode
from enitide_kube.objects import Pod
from enitide_kube.port import ENINODE, POD, SUBNETREPORT, KubePort
from enitide_operator.cli.collect import cluster_options, list_all, with_kube
from enitide_operator.cli.holders import Row, Seen, parse, who
from enitide_operator.cli.ipam import DEFAULT_RUN_DIR, ask_agent

_LINES = (
    ("state", "state"),
    ("owner", "owner"),
    ("node", "node"),
    ("eni", "eni"),
    ("on the eni", "on"),
    ("subnet", "subnet"),
    ("since", "since"),
)


@click.command(epilog="Example: enitide who 10.0.1.23")
@click.argument("ip")
@click.option(
    "--run-dir",
    "run_dirs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Ask the agent with this folder too; may be given often. Default: this node's. [ENITIDE_RUN_DIR]",
)
@cluster_options
@output_option
def main(ip: str, run_dirs: tuple[Path, ...], form: str, **where: Any) -> None:
    """Whose IP is: pod, ENI, node, since when, and who had it last. IPv4 or IPv6, also an ENI's own.

    Since when, what cools and who had it last are known to the node's agent alone: run this on the node for those.
    """
    try:
        address = parse(ip)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    agents, silent = ask_agents(run_dirs)
    seen, forbidden = with_kube(where["kubeconfig"], lambda kube: _read(kube, agents))
    found = who(address, seen)
    found["unseen"] += [*silent, *forbidden]
    if form in ("json", "yaml"):
        emit(found, form)
        return
    click.echo(f"{found['address']}")
    for title, key in _LINES:
        click.echo(f"  {title:<12}{found[key] or '-'}" + (_from(found) if key == "since" else ""))
    click.echo(f"  {'last holder':<12}{_last(found['lastHolder'])}")
    if found["hostPods"]:
        click.echo(f"  {'host pods':<12}{', '.join(found['hostPods'])}")
    for sentence in found["unseen"]:
        click.echo(f"  not seen: {sentence}")


def _from(found: dict[str, Any]) -> str:
    return f"  ({found['sinceFrom']})" if found["sinceFrom"] not in (None, "agent") else ""


def _last(last: dict[str, Any] | None) -> str:
    if last is None:
        return "not known"
    owner = last["owner"] or f"pod with UID {last['podUID']}"
    until = f", until {last['until']}" if last["until"] else ""
    return f"{owner} on {last['node']}{until}"


def ask_agents(run_dirs: Iterable[Path]) -> tuple[dict[str, tuple[tuple[Row, ...], tuple[Row, ...]]], list[str]]:
    """What each agent says, by its node; and a sentence for each asked-for one that does not answer."""
    asked = tuple(run_dirs)
    default = Path(os.environ.get("ENITIDE_RUN_DIR") or DEFAULT_RUN_DIR)
    folders = asked or ((default,) if (default / "agent.sock").exists() else ())
    agents: dict[str, tuple[tuple[Row, ...], tuple[Row, ...]]] = {}
    silent: list[str] = []
    for folder in folders:
        try:
            node = str(ask_agent(folder, "/v1/status")["node"])
            rows = tuple(ask_agent(folder, "/v1/addresses")["addresses"])
            agents[node] = (rows, tuple(ask_agent(folder, "/v1/history")["history"]))
        except AgentUnreachable as error:
            if asked:
                raise
            silent.append(str(error))
    return agents, silent


async def _read(kube: KubePort, agents: dict[str, tuple[tuple[Row, ...], tuple[Row, ...]]]) -> tuple[Seen, list[str]]:
    """ENINodes must be readable; pods and reports say more where they are."""
    from enitide_api.subnetreport import SubnetReport

    nodes = await list_all(kube, ENINODE, ENINode)
    unseen: list[str] = []
    pods: tuple[Pod, ...] = ()
    reports: tuple[SubnetReport, ...] = ()
    try:
        pods = await list_all(kube, POD, Pod)
    except KubeForbidden as error:
        unseen.append(f"pods: {error}")
    try:
        reports = await list_all(kube, SUBNETREPORT, SubnetReport)
    except (KubeForbidden, KubeNotFound) as error:
        unseen.append(f"SubnetReports: {error}")
    return Seen(nodes, pods, reports, agents), unseen
