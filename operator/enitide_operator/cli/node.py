"""`enitide node list|show`."""

from __future__ import annotations

from typing import Any

import click

from enitide_api.output import Column, emit, output_option
from enitide_api.resources import builtins
from enitide_operator.cli.collect import cluster_options, read
from enitide_operator.cli.rows import interface_row, node_row

_NODES = (
    Column("name", "name"),
    Column("type", "type"),
    Column("zone", "zone"),
    Column("enis", "enis"),
    Column("provisioned", "provisioned"),
    Column("in use", "inUse"),
    Column("cooling", "cooling"),
    Column("waiting", "waiting"),
    Column("slots", "slots"),
    Column("ready", "ready"),
    Column("reason", "reason"),
    Column("instance", "instance", wide=True),
    Column("class", "class", wide=True),
    Column("message", "message", wide=True),
)
_INTERFACES = (
    Column("eni", "id"),
    Column("card", "card"),
    Column("index", "index"),
    Column("subnet", "subnet"),
    Column("primary", "primary"),
    Column("addresses", "addresses"),
    Column("prefixes", "prefixes"),
    Column("ipv6", "ipv6"),
    Column("mac", "mac", wide=True),
    Column("security groups", "securityGroups", wide=True),
)
_PENDING = (
    Column("eni to be made", "token"),
    Column("since", "since"),
    Column("subnet", "subnetID"),
    Column("card", "card"),
    Column("index", "index"),
    Column("count", "count"),
)
_CONDITIONS = (
    Column("condition", "type"),
    Column("status", "status"),
    Column("reason", "reason"),
    Column("since", "lastTransitionTime"),
    Column("message", "message"),
)


@click.group()
def main() -> None:
    """Nodes: their pools, ENIs and reasons."""


@main.command("list")
@cluster_options
@output_option
def list_(form: str, **where: Any) -> None:
    """One line a node: pool, ENIs, and the reason if it waits."""
    cluster = read(where["kubeconfig"], where["lease_namespace"], where["lease_name"])
    emit([node_row(n) for n in sorted(cluster.nodes, key=lambda n: n.metadata.name)], form, _NODES)


@main.command()
@click.argument("name")
@cluster_options
@output_option
def show(name: str, form: str, **where: Any) -> None:
    """One node: its pool, every ENI, every condition; intents and releases under way."""
    node = read(where["kubeconfig"], where["lease_namespace"], where["lease_name"]).node(name)
    conditions = [builtins(c) for c in node.status.conditions]
    interfaces = [interface_row(i) for i in node.status.interfaces]
    whole = node_row(node) | {
        "interfaces": interfaces,
        "pending": [builtins(p) for p in node.status.pending],
        "reclaim": builtins(node.status.reclaim),
        "yielded": list(node.spec.yielded),
        "releasing": list(node.status.releasing),
        "conditions": conditions,
    }
    if form in ("json", "yaml"):
        emit(whole, form)
        return
    emit([whole], form, _NODES)
    click.echo()
    emit(interfaces, form, _INTERFACES)
    click.echo()
    emit(conditions, form, _CONDITIONS)
    if whole["pending"]:
        click.echo()
        emit(whole["pending"], form, _PENDING)
    for key in ("yielded", "releasing"):
        if whole[key]:
            click.echo(f"\n{key}: " + ", ".join(str(v) for v in whole[key]))
