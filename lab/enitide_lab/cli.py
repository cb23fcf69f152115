"""`enitide lab`: a VPC with nodes, Kubernetes and enitide on this machine; up, status, exec, env, down.

Names are chosen with `--name`; without it the only lab there is is meant, else the one called `lab`. Exit codes as
everywhere; `exec` has that of its command.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from typing import Literal

import click

from enitide_api.errors import NotRoot, UsageError
from enitide_lab.house.layout import DEFAULT_NAME, LabPaths, known_labs, lab_paths

_new_name = click.option("--name", default=DEFAULT_NAME, show_default=True, help="Name of the lab.")
_name = click.option("--name", help=f"Name of the lab; default: the only one there is, else {DEFAULT_NAME!r}.")


def chosen(name: str | None, labs: list[LabPaths]) -> LabPaths:
    """The lab that is meant, of those that are there."""
    if name is None and len(labs) == 1:
        return labs[0]
    return lab_paths(DEFAULT_NAME if name is None else name)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A VPC on this machine: nodes, instance metadata, EC2, Kubernetes, and enitide running in it."""
    for number in (signal.SIGTERM, signal.SIGINT):  # the second is ignored by inheritance behind a shell's `&`
        signal.signal(number, signal.default_int_handler)


@main.command()
@_new_name
@click.option("--nodes", type=click.IntRange(1, 32), help="How many nodes; 3 if --type says nothing either.")
@click.option("--type", "types", multiple=True, metavar="TYPE[:COUNT]", help="Instance type of a node; repeatable.")
@click.option(
    "--kubernetes",
    type=click.Choice(["embedded", "real"]),
    default="embedded",
    show_default=True,
    help="The API server built in, or kube-apiserver, controller-manager and scheduler.",
)
@click.option("--prefix-delegation", is_flag=True, help="The default ENIClass asks for /28 prefixes.")
@click.option("--appear-delay", type=float, default=0.0, help="Seconds until an attached ENI appears on its node.")
@click.option("--region", default="us-west-2", show_default=True, help="AWS region.")
@click.option("--no-wait", is_flag=True, help="Return when all runs, before the nodes are ready.")
def up(
    *,
    name: str,
    nodes: int | None,
    types: tuple[str, ...],
    kubernetes: Literal["embedded", "real"],
    prefix_delegation: bool,
    appear_delay: float,
    region: str,
    no_wait: bool,
) -> None:
    """Bring a lab up."""
    from enitide_lab.up.bring_up import bring_up
    from enitide_lab.up.options import LabOptions, read_types

    options = LabOptions(
        name=lab_paths(name).name,
        types=read_types(types, nodes),
        kubernetes=kubernetes,
        prefix_delegation=prefix_delegation,
        appear_delay_s=appear_delay,
        region=region,
    )
    lab = asyncio.run(bring_up(options, lambda text: click.echo(f"lab: {text}", err=True), wait_ready=not no_wait))
    its_name = "" if name == DEFAULT_NAME else f" --name {name}"
    click.echo(f"export KUBECONFIG={lab.paths.kubeconfig}")
    click.echo(f"# look: enitide status · enitide lab status{its_name} · enitide lab exec{its_name} node-1 -- ip addr")
    click.echo(f"# end:  enitide lab down{its_name}")


@main.command()
@_name
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def status(name: str | None, output: str) -> int:
    """Programs, nodes, pods, ENIs and what is wrong. Exit code 1 if something is."""
    from enitide_lab.up.report import gather
    from enitide_lab.up.running import Lab

    report = asyncio.run(gather(Lab.open(chosen(name, known_labs()))))
    if output == "json":
        click.echo(json.dumps(report.as_dict(), indent=1))
    else:
        from enitide_lab.up.tables import show_status

        show_status(report)
    return 0 if report.healthy else 1


@main.command("exec", context_settings={"ignore_unknown_options": True})
@_name
@click.argument("place", metavar="NODE|POD")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str | None, place: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on a node or in a pod: `enitide lab exec node-1 -- ip route`."""
    from enitide_lab.up.inside import run_inside
    from enitide_lab.up.running import Lab

    _require_root()
    sys.stdout.flush()
    run_inside(Lab.open(chosen(name, known_labs())), place, command)


@main.command()
@_name
@click.argument("node")
@click.option("-o", "--output", type=click.Choice(["shell", "json"]), default="shell", show_default=True)
def env(name: str | None, node: str, output: str) -> None:
    """What a foreign client (cnitool, a runtime) needs to use NODE: `eval "$(enitide lab env node-1)"`."""
    from enitide_lab.up.running import Lab

    lab = Lab.open(chosen(name, known_labs()))
    variables = lab.environment(lab.record.node(node))
    if output == "json":
        click.echo(json.dumps(variables, indent=1))
        return
    for key, value in variables.items():
        click.echo(f"export {key}={shlex.quote(value)}")


@main.command()
@_name
@click.option("--all", "everything", is_flag=True, help="Every lab on this machine, also dead ones.")
def down(name: str | None, everything: bool) -> None:
    """Take a lab down completely, whatever state it is in."""
    from enitide_lab.house import teardown

    _require_root()
    there = teardown.all_labs()
    labs = there if everything else [chosen(name, there)]
    found = [lab for lab in labs if teardown.traces(lab)]
    for lab in found:
        click.echo(teardown.take_down(lab).sentence())
    if not found and not everything:
        others = ", ".join(lab.name for lab in there)
        raise UsageError(f"there is no lab {labs[0].name!r}" + (f"; there are: {others}" if others else ""))
    if not found:
        click.echo("there is no lab")


def _require_root() -> None:
    if os.geteuid() != 0:
        raise NotRoot("a lab's namespaces and cgroups belong to root")
