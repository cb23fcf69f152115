"""What commands know of subnets: SubnetReports, read once, and the sentence for one that is not there."""

from __future__ import annotations

from typing import Any

import click

from enitide_api.errors import KubeNotFound
from enitide_api.subnetreport import SubnetReport
from enitide_kube.port import SUBNETREPORT, KubePort
from enitide_operator.cli.collect import list_all, with_kube


def read_reports(where: dict[str, Any]) -> tuple[SubnetReport, ...]:
    """All reports, by name. `UsageError` where the cluster does not know the resource."""

    async def reading(kube: KubePort) -> tuple[SubnetReport, ...]:
        return await all_reports(kube)

    return with_kube(where["kubeconfig"], reading)


async def all_reports(kube: KubePort) -> tuple[SubnetReport, ...]:
    """The same for callers that hold a connection."""
    try:
        found = await list_all(kube, SUBNETREPORT, SubnetReport)
    except KubeNotFound as error:
        message = "the cluster does not know SubnetReport: install the CRDs of this version (charts/enitide/crds)"
        raise click.ClickException(message) from error
    return tuple(sorted(found, key=lambda each: each.metadata.name))


def pick(reports: tuple[SubnetReport, ...], name: str) -> SubnetReport:
    """The report of that subnet, or a usage error that names what there is."""
    for report in reports:
        if report.metadata.name == name:
            return report
    if not reports:
        raise click.UsageError("there is no SubnetReport yet: the operator writes them once nodes use a subnet")
    from difflib import get_close_matches

    names = [report.metadata.name for report in reports]
    close = get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"
    raise click.UsageError(f"there is no SubnetReport {name!r}: {hint}")
