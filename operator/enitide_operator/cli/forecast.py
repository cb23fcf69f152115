"""`enitide forecast`: how each subnet's use went, and when it runs full if it goes on so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from enitide_api.output import Column, emit, output_option
from enitide_api.subnetreport import ForecastStatus, SubnetReport
from enitide_ipam.forecast import WINDOW_S, Point, level, total
from enitide_ipam.stamps import unix
from enitide_ipam.subnet_report import AWS_RESERVES, forecast_status, points
from enitide_operator.cli.collect import cluster_options
from enitide_operator.cli.subnets import pick, read_reports

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24
_COLUMNS = (
    Column("subnet", "subnet"),
    Column("zone", "zone"),
    Column("used", "used"),
    Column("of", "capacity"),
    Column("a day", "course"),
    Column("per hour", "perHour"),
    Column("full in", "fullIn"),
    Column("earliest", "earliestIn"),
    Column("confidence", "confidence"),
    Column("rests on", "basis"),
    Column("quartiles", "quartiles", wide=True),
    Column("full at", "fullAt", wide=True),
)
METHOD = (
    "Method: the median slope over all pairs of moments of the last day (Theil-Sen), earliest by the upper quartile;\n"
    "no seasons. `enitide forecast --help` says what the confidence means."
)


@click.command(epilog="Example: enitide forecast subnet-0a1b2c3d4e5f67890 -o json")
@click.argument("subnet", required=False)
@cluster_options
@output_option
def main(subnet: str | None, form: str, **where: Any) -> None:
    """When SUBNET, each subnet and the cluster run full, if use goes on as it did in the last day.

    Confidence: `none` with less than an hour of history; `low` with less than six, or where the quartiles differ
    in sign; `high` with a whole day and quartiles within half of the median; `medium` else. Beyond 90 days nothing is
    foretold.
    """
    reports = read_reports(where)
    chosen = (pick(reports, subnet),) if subnet else reports
    now = datetime.now(UTC).timestamp()
    found = [row(each, now) for each in chosen]
    if subnet is None and len(chosen) > 1:
        found.append(cluster_row(chosen, now))
    emit(found, form, _COLUMNS)
    if form in ("table", "wide"):
        click.echo(f"\n{METHOD}")


def row(report: SubnetReport, now: float) -> dict[str, Any]:
    """One subnet, with a forecast made from its history as of now."""
    history = points(report.status.history)
    return {"subnet": report.metadata.name, "zone": report.spec.availability_zone} | _row(
        history, capacity_of(report), now
    )


def cluster_row(reports: Sequence[SubnetReport], now: float) -> dict[str, Any]:
    """All subnets as one: what is left anywhere. A single one runs full earlier."""
    known = [each for each in reports if each.status.history]
    history = total([points(each.status.history) for each in known])
    return {"subnet": "(all)", "zone": None} | _row(history, sum(map(capacity_of, known)), now)


def capacity_of(report: SubnetReport) -> int:
    """Addresses that can be used at all."""
    addresses = report.status.addresses
    return addresses.total - (addresses.reserved if addresses.reserved is not None else AWS_RESERVES)


def _row(history: Sequence[Point], capacity: int, now: float) -> dict[str, Any]:
    told = forecast_status(history, capacity, now)
    return {
        "used": history[-1].used if history else None,
        "capacity": capacity,
        "course": course(history, capacity, now),
        "perHour": told.per_hour,
        "quartiles": [told.per_hour_low, told.per_hour_high],
        "fullAt": told.full_at,
        "earliest": told.earliest,
        "fullIn": _within(told.full_at, told, now),
        "earliestIn": _within(told.earliest, told, now),
        "confidence": told.confidence,
        "basis": f"{told.hours:g} h, {told.points} changes",
        "history": [{"at": each.at, "used": each.used} for each in history],
    }


def course(history: Sequence[Point], capacity: int, now: float) -> str:
    """The last day of use as a row of bars, from empty to full; '' without a history."""
    if not history or capacity <= 0:
        return ""
    began = max(history[0].at, now - WINDOW_S)
    moments = [began + (now - began) * number / (_WIDTH - 1) for number in range(_WIDTH)]
    highest = len(_BARS) - 1
    return "".join(_BARS[min(highest, level(history, at) * highest // capacity)] for at in moments)


def _within(stamped: str | None, told: ForecastStatus, now: float) -> str:
    if told.confidence == "none":
        return "not known yet"
    return "over 90 d, or never" if stamped is None else span(max(0.0, unix(stamped) - now))


def span(seconds_s: float) -> str:
    """A time as people say it: 3 d 4 h, 5 h, 20 min."""
    minutes = int(seconds_s // 60)
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
