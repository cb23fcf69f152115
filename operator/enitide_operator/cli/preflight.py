"""`enitide preflight`: is everything there that enitide needs, before it is installed or when something is amiss."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from enitide_api.output import Column, emit, output_option, paint
from enitide_operator.cli.aws import aws_options
from enitide_operator.cli.collect import cluster_options

if TYPE_CHECKING:
    from enitide_operator.cli.checks import Check
    from enitide_operator.cli.survey import Wish

_COLUMNS = (
    Column("area", "area"),
    Column("check", "check"),
    Column("state", "state"),
    Column("detail", "detail"),
    Column("next", "next"),
)
_COLOURS = {"ok": "green", "failing": "red", "not checked": "yellow"}


@click.command(epilog="Example: enitide preflight --cluster-name prod --service-account kube-system/enitide-operator")
@click.option("--service-account", default="", metavar="NAMESPACE/NAME",
              help="Ask for its Kubernetes rights instead of the caller's.")  # fmt: skip
@click.option("--taint-nodes", is_flag=True, help="The operator will have --taint-nodes: ask for that right too.")
@aws_options
@cluster_options
@output_option
def main(
    *,
    service_account: str,
    taint_nodes: bool,
    cluster_name: str,
    aws_region: str,
    aws_endpoint_url: str,
    form: str,
    **where: Any,
) -> int:
    """Check IAM, subnets, security groups, instance limits, CRDs, Kubernetes rights and kernels. Changes nothing.

    IAM is asked by EC2's dry runs and, where there are none, by policy simulation; what neither tells is `not checked`.
    Exit code 0: nothing fails; 1: something does.
    """
    if service_account and service_account.count("/") != 1:
        raise click.UsageError(f"--service-account {service_account}: write NAMESPACE/NAME")
    lease = (where["lease_namespace"], where["lease_name"])
    from enitide_operator.cli.survey import Wish  # here, so that --help is quick

    wish = Wish(cluster_name, aws_region, aws_endpoint_url, lease, service_account, taint_nodes)
    found = asyncio.run(_run(where["kubeconfig"], wish))
    failing = any(each.state == "failing" for each in found)
    if form in ("json", "yaml"):
        emit({"ok": not failing, "checks": [asdict(each) for each in found]}, form)
    else:
        rows = [asdict(each) | {"state": paint(each.state, _COLOURS[each.state])} for each in found]
        emit(rows, form, _COLUMNS)
        click.echo(f"\n{sentence(found)}")
    return 1 if failing else 0


async def _run(kubeconfig: str | None, wish: Wish) -> list[Check]:
    from enitide_kube.client import HttpKube
    from enitide_operator.cli.aws import gateway
    from enitide_operator.cli.survey import of_aws, of_cluster

    async with HttpKube.connect(kubeconfig, user_agent="enitide-cli") as kube:
        found, classes, nodes = await of_cluster(kube, wish)
    async with gateway(wish.region, wish.endpoint_url) as ec2:
        return found + await of_aws(ec2, wish, nodes, classes)


def sentence(found: list[Check]) -> str:
    """The verdict in a line."""
    counts = {state: sum(each.state == state for each in found) for state in _COLOURS}
    verdict = "something fails" if counts["failing"] else "nothing fails"
    return f"{verdict}: {counts['ok']} ok, {counts['failing']} failing, {counts['not checked']} not checked."
