"""`enitide gc`: what the operator's sweep would delete, and on demand the same once, by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from enitide_api.output import Column, emit, output_option
from enitide_operator.cli.aws import aws_options
from enitide_operator.cli.collect import cluster_options

_COLUMNS = (
    Column("eni", "eni"),
    Column("verdict", "verdict"),
    Column("subnet", "subnet"),
    Column("holds", "addresses"),
    Column("made for", "node"),
    Column("why", "why"),
)


@click.command(epilog="Example: enitide gc --dry-run --cluster-name prod")
@click.option("--dry-run", is_flag=True, help="Only look: delete nothing.")
@aws_options
@cluster_options
@output_option
def main(dry_run: bool, cluster_name: str, aws_region: str, aws_endpoint_url: str, form: str, **where: Any) -> int:
    """Delete leaked ENIs once, as the operator's sweep does by itself every few minutes; or show what it would.

    Leaked is what hangs on nothing, carries this cluster's own tag, and stands in no ENINode as about to be made or
    removed. It must be seen so twice, a minute apart: without --dry-run this command looks, waits and looks again. ENIs
    of other clusters, and those without a tag of ours, are never touched. Exit code 1: something could not be deleted.
    """
    if not cluster_name:
        raise click.UsageError(
            "no cluster name, no ENI can be told to be ours: write --cluster-name as the operator has it"
        )

    from enitide_kube.client import HttpKube  # here, so that --help is quick
    from enitide_operator.cli.aws import gateway
    from enitide_operator.cli.sweeping import Collection, collect, row, sentence

    async def run() -> Collection:
        async with (
            HttpKube.connect(where["kubeconfig"], user_agent="enitide-cli") as kube,
            gateway(aws_region, aws_endpoint_url) as ec2,
        ):
            return await collect(kube, ec2, cluster_name, dry_run=dry_run, tell=lambda text: click.echo(text, err=True))

    found = asyncio.run(run())
    rows = [row(each, found.done.get(each.eni.id), dry_run=dry_run) for each in found.plan.findings]
    emit(rows, form, _COLUMNS)
    failed = [each for each in rows if each["verdict"] == "failed"]
    if form in ("table", "wide"):
        click.echo(f"\n{sentence(found, cluster_name, dry_run=dry_run)}")
    return 1 if failed else 0
