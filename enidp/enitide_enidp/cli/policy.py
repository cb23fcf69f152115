"""`enitide policy`: what policies say. `verdict` and `trace` with `--objects` judge manifests and need no cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from enitide_api.output import Column, emit, output_option
from enitide_enidp.cli.agent import ask, run_dir_option

F = TypeVar("F", bound=Callable[..., Any])


def _columns(*keys: str) -> tuple[Column, ...]:
    return tuple(Column(key, key) for key in keys)


def objects_option(function: F) -> F:
    """`--objects DIR`."""
    return click.option(
        "--objects",
        required=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder of YAML or JSON manifests, read with its subfolders.",
    )(function)


def host_policy_option(function: F) -> F:
    """`--host-policy`."""
    return click.option(
        "--host-policy", is_flag=True, help="Policies with a nodeSelector hold for nodes, as where host_policy is set."
    )(function)


@click.group()
def main() -> None:
    """Who may talk to whom, and which rule says so."""


@main.command("get")
@run_dir_option
@output_option
def get_(run_dir: Path, form: str) -> None:
    """Every policy that this node has read: whom it selects here, and what is wrong with it."""
    rows = ask(run_dir, "/v1/policies")["policies"]
    shown = [row | {"problems": [f"{each['field']}: {each['message']}" for each in row["problems"]]} for row in rows]
    emit(rows, form, _columns("policy", "tier", "priority", "subject", "isolates", "selects", "problems"), shown)


@main.command()
@run_dir_option
@output_option
def selectors(run_dir: Path, form: str) -> None:
    """Every selector and range in use on this node: the identities that it selects, and how many uses it has."""
    columns = (*_columns("selector", "role", "identities", "users"), Column("policies", "policies", wide=True))
    emit(ask(run_dir, "/v1/selectors")["selectors"], form, columns)


@main.command()
@objects_option
@click.option(
    "--query",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML list of {id, from, to, protocol, port or icmpType, family}.",
)
@host_policy_option
@output_option
def verdict(objects: Path, query: Path, *, host_policy: bool, form: str) -> None:
    """Judge new connections by manifests: allowed or denied, and by which rule."""
    from enitide_enidp.cli.manifests import load_folder, load_queries
    from enitide_policy.report import verdict_report, verdict_rows

    report = verdict_report(load_folder(objects), *load_queries(query), host_policy=host_policy)
    columns = _columns("id", "verdict", "reason", "egress", "egressRule", "ingress", "ingressRule")
    emit(report, form, columns, verdict_rows(report))
    _say(report, form)


@main.command()
@objects_option
@click.option("--from", "source", required=True, help="ns/pod, an address, or node/NAME.")
@click.option("--to", "target", required=True, help="ns/pod, an address, node/NAME, or service/NS/NAME.")
@click.option("--protocol", default="TCP", show_default=True, help="TCP, UDP, SCTP or ICMP.")
@click.option("--port", type=int, help="Destination port.")
@click.option("--icmp-type", type=int, help="Type of the first ICMP message.")
@click.option("--family", type=click.Choice(("IPv4", "IPv6")), help="Needed where the families differ.")
@host_policy_option
@output_option
def trace(objects: Path, *, host_policy: bool, form: str, **asked: str | int | None) -> None:
    """Show every rule that is asked about one connection, in order, and which one decides."""
    from enitide_enidp.cli.manifests import load_folder
    from enitide_policy.report import trace_report

    names = {"source": "from", "target": "to", "icmp_type": "icmpType"}
    query = {names.get(key, key): value for key, value in asked.items() if value is not None}
    report = trace_report(load_folder(objects), {"id": "trace", **query}, host_policy=host_policy)
    keys = ("direction", "tier", "kind", "namespace", "name", "index", "action", "peer", "port", "decides")
    emit(report, form, _columns(*keys), report["steps"])
    _say(report, form)
    if form in ("table", "wide"):
        click.echo(f"{report['verdict']['verdict']}: {report['verdict']['reason']}")


def _say(report: Mapping[str, Any], form: str) -> None:
    """Beside a table, problems go to standard error; JSON and YAML carry them."""
    if form in ("table", "wide"):
        for problem in report["problems"]:
            click.echo(f"{problem['object']}: {problem['field']}: {problem['reason']}: {problem['message']}", err=True)
