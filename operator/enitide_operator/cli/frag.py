"""`enitide frag`: how broken a subnet's /28s are, as a picture and in numbers."""

from __future__ import annotations

import ipaddress
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from enitide_api.output import Column, emit, output_option, paint
from enitide_api.resources import builtins
from enitide_api.subnetreport import SubnetReport
from enitide_ipam import block_text
from enitide_operator.cli.collect import cluster_options
from enitide_operator.cli.picture import INKS, PER_ROW, character, draw, legend, rows
from enitide_operator.cli.subnets import pick, read_reports

_COLUMNS = (
    Column("subnet", "subnet"),
    Column("zone", "zone"),
    Column("cidr", "cidr"),
    Column("free", "free"),
    Column("whole /28", "whole"),
    Column("broken /28", "broken"),
    Column("full /28", "full"),
    Column("ours", "ours"),
    Column("other clusters", "otherClusters"),
    Column("foreign", "foreign"),
    Column("reserved", "reserved"),
    Column("as of", "observedAt", wide=True),
)


@click.command(
    epilog="Example: enitide frag subnet-0a1b2c3d4e5f67890 --png subnet.png",
)
@click.argument("subnet", required=False)
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Write the picture to this file too.")
@cluster_options
@output_option
def main(subnet: str | None, png: Path | None, form: str, **where: Any) -> None:
    """Show every /28 of SUBNET: free, broken, ours, foreign, reserved. Without SUBNET: all subnets, in numbers.

    A prefix needs a whole free /28, so a subnet may have free addresses by the thousand and room for no prefix.
    """
    if png is not None and subnet is None:
        raise click.UsageError("--png draws one subnet: write which, such as `enitide frag SUBNET --png FILE`")
    reports = read_reports(where)
    if subnet is None:
        emit([row(each) for each in reports], form, _COLUMNS)
        return
    report = pick(reports, subnet)
    if png is not None:
        _write(report, png)
    if form in ("json", "yaml"):
        emit(whole(report), form)
        return
    emit([row(report)], form, _COLUMNS)
    click.echo()
    click.echo(picture(report))
    if png is not None:
        click.echo(f"\nwritten: {png}")


def row(report: SubnetReport) -> dict[str, Any]:
    """One subnet in numbers; None: not known, because its map has not been read."""
    status = report.status
    numbers = builtins(status.addresses)
    blocks = builtins(status.prefixes) if status.prefixes else {"whole": None, "broken": None, "full": None}
    return {
        "subnet": report.metadata.name,
        "zone": report.spec.availability_zone,
        "cidr": report.spec.cidr,
        **numbers,
        **{key: blocks[key] for key in ("whole", "broken", "full")},
        "observedAt": status.observed_at or None,
    }


def whole(report: SubnetReport) -> dict[str, Any]:
    """The same with every block, for programs: address, look and what is left."""
    network = ipaddress.ip_network(report.spec.cidr)
    cells = block_text.read(report.status.map)
    first = int(network.network_address)
    blocks = [
        {"cidr": f"{ipaddress.ip_address(first + 16 * index)}/28", "is": INKS[each.look].name, "free": each.free}
        for index, each in enumerate(cells)
    ]
    return row(report) | {"clusters": [builtins(each) for each in report.status.clusters], "blocks": blocks}


def picture(report: SubnetReport) -> str:
    """Rows of blocks with the address that each begins with, and the legend."""
    if not report.status.map:
        return (
            "its map has not been read yet: the operator reads it within a minute, `enitide why NODE` says what waits"
        )
    cells = block_text.read(report.status.map)
    first = int(ipaddress.ip_network(report.spec.cidr).network_address)
    lines = []
    for number, line in enumerate(rows(cells)):
        address = str(ipaddress.ip_address(first + 16 * PER_ROW * number))
        drawn = "".join(
            paint("".join(map(character, run)), INKS[look].colour) for look, run in groupby(line, key=lambda c: c.look)
        )
        lines.append(f"{address:>15}  {drawn}")
    keys = [f"{_sample(look)} {INKS[look].name}: {count}" for look, count in legend(cells)]
    return "\n".join([*lines, "", "  ".join(keys)])


def _sample(look: block_text.Look) -> str:
    return paint(INKS[look].character or "▄", INKS[look].colour)


def _write(report: SubnetReport, png: Path) -> None:
    if not report.status.map:
        raise click.ClickException(f"the map of {report.metadata.name} has not been read yet: there is nothing to draw")
    title = f"{report.metadata.name}  {report.spec.cidr}  {report.spec.availability_zone}"
    try:
        draw(block_text.read(report.status.map), title).save(png, format="PNG")
    except ModuleNotFoundError as error:
        raise click.ClickException("--png needs the extra: pip install 'enitide[lab]'") from error
    except OSError as error:
        raise click.ClickException(f"--png {png}: {error.strerror or error}") from error
