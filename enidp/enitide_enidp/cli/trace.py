"""`enitide trace`: follow the whole kernel's drops, or its connects, while the command runs."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from enitide_enidp.cli.monitor import Stop
from enitide_enidp.datapath import events, tracing
from enitide_enidp.datapath.tracing import TraceEvent, Tracer
from enitide_enidp.datapath.words import PROTOCOLS

_POLL_S = 0.2
_WORDS = {tracing.CONNECT: "connected", tracing.FAILED: "failed", tracing.UNSENT: "not sent"}


def _moment(event: TraceEvent, offset_ns: int) -> datetime:
    return datetime.fromtimestamp((event.time_ns + offset_ns) / 1e9).astimezone()


def _reason(event: TraceEvent) -> str:
    return tracing.drop_reasons().get(event.reason, str(event.reason))


def _packet(event: TraceEvent) -> dict[str, Any]:
    if event.source is None:
        return {"ethertype": event.ethertype}
    found: dict[str, Any] = {"source": str(event.source), "destination": str(event.destination)}
    found["protocol"] = PROTOCOLS.get(event.protocol, str(event.protocol))
    if event.source_port or event.destination_port:
        found |= {"sourcePort": event.source_port, "destinationPort": event.destination_port}
    return found


def drop_row(event: TraceEvent, offset_ns: int) -> dict[str, Any]:
    """One dropped packet."""
    row: dict[str, Any] = {"time": _moment(event, offset_ns).isoformat(timespec="milliseconds"), "type": "drop"}
    row |= {"reason": _reason(event), "function": tracing.symbol(event.location)}
    return row | {"ifindex": event.ifindex, "length": event.length, **_packet(event)}


def connect_row(event: TraceEvent, offset_ns: int) -> dict[str, Any]:
    """One connect."""
    row: dict[str, Any] = {"time": _moment(event, offset_ns).isoformat(timespec="milliseconds"), "type": "connect"}
    row |= {"outcome": _WORDS[event.kind], "pid": event.pid, "command": event.command}
    if event.kind == tracing.UNSENT:
        row["error"] = os.strerror(event.reason)
    else:
        row["milliseconds"] = round(event.duration_ns / 1e6, 3)
    return row | _packet(event)


def _ends(row: dict[str, Any]) -> str:
    if "source" not in row:
        return f"ethertype {row.get('ethertype', 0):#06x}"
    sides = []
    for end in ("source", "destination"):
        port = row.get(f"{end}Port")
        address = f"[{row[end]}]" if ":" in row[end] and port is not None else row[end]
        sides.append(f"{address}:{port}" if port is not None else address)
    return " > ".join(sides) + f" {row['protocol']}"


def drop_line(row: dict[str, Any]) -> str:
    """`12:03:04.120 drop NO_SOCKET tcp_v4_rcv+0x1c ifindex 3 10.0.1.7:4431 > 10.0.9.1:80 TCP len 60`."""
    head = f"{row['time'][11:23]} drop {row['reason']} {row['function']} ifindex {row['ifindex']}"
    return f"{head} {_ends(row)} len {row['length']}"


def connect_line(row: dict[str, Any]) -> str:
    """`12:03:04.120 connected in 0.214 ms curl[311] 10.0.1.7:4431 > 10.0.9.1:80 TCP`."""
    how = row["error"] if "error" in row else f"in {row['milliseconds']} ms"
    return f"{row['time'][11:23]} {row['outcome']} {how} {row['command']}[{row['pid']}] {_ends(row)}"


def _run(
    kind: str,
    make: Callable[[TraceEvent, int], dict[str, Any]],
    line: Callable[[dict[str, Any]], str],
    options: dict[str, Any],
) -> None:
    stop, offset_ns, seen = Stop(), events.wall_clock_offset_ns(), Counter[str]()
    ends_at = time.monotonic() + options["seconds"] if options["seconds"] else None
    with Tracer(frozenset({kind})) as tracer:
        for text in tracer.missing:
            click.echo(f"not attached: {text}", err=True)
        click.echo(f"tracing {kind}", err=True)
        while not stop.asked and (ends_at is None or time.monotonic() < ends_at):
            for event in tracer.poll(_POLL_S):
                row = make(event, offset_ns)
                seen[str(row.get("reason") or row.get("outcome"))] += 1
                click.echo(json.dumps(row) if options["form"] == "json" else line(row))
                if options["count"] and seen.total() >= options["count"]:
                    stop.asked = True
                    break
        lost = tracer.lost
    for word, count in seen.most_common():
        click.echo(f"{count:6} {word}", err=True)
    if lost:
        click.echo(f"{lost} more came too fast to be told", err=True)


def _options(function: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("-o", "--output", "form", type=click.Choice(("human", "json")), default="human"),
        click.option("--count", type=click.IntRange(min=1), default=None, help="End after this many events."),
        click.option("--seconds", type=click.FloatRange(min=0), default=None, help="End after this long."),
    ):
        function = option(function)
    return function


@click.group()
def main() -> None:
    """Follow what the whole kernel drops, or how connects fare. Costs something only while it runs."""


@main.command()
@_options
def drops(**options: Any) -> None:
    """Every packet that the kernel drops, with its reason and the function that did it."""
    _run("drops", drop_row, drop_line, options)


@main.command()
@_options
def connect(**options: Any) -> None:
    """Every TCP connect of this node and its pods: how long it took, or that it failed."""
    _run("connect", connect_row, connect_line, options)
