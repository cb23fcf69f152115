"""`enitide plan`: what the operator's next pass would do, for one node or all, and what it would cost."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import click

from enitide_api.errors import KubeUnavailable
from enitide_api.output import Column, emit, output_option

DEFAULT = "http://127.0.0.1:9808"
_TIMEOUT_S = 10.0
_STEPS = (
    Column("node", "node"),
    Column("state", "state"),
    Column("action", "action"),
    Column("on", "on"),
    Column("gains", "gains"),
    Column("calls", "calls"),
    Column("why", "why"),
)
_NODES = (
    Column("node", "name"),
    Column("provisioned", "provisioned"),
    Column("low", "low"),
    Column("high", "high"),
    Column("needed", "needed"),
    Column("reason", "reason"),
    Column("message", "message"),
)
FORWARD = "kubectl -n kube-system port-forward POD 9808, POD being the leader's (enitide status names it)"


@click.command(epilog="Examples: enitide plan   enitide plan ip-10-0-1-7.ec2.internal --from http://127.0.0.1:9808")
@click.argument("node", required=False)
@click.option("--from", "base", default=DEFAULT, show_default=True, envvar="ENITIDE_OPERATOR_URL", show_envvar=True,
              help="The leading operator's --metrics-address, as a URL.")  # fmt: skip
@output_option
def main(node: str | None, base: str, form: str) -> None:
    """What the next pass would do for NODE, or for all: actions, calls by verb, addresses gained, reasons for waits.

    The leading operator answers from its own plan and facts, and does nothing. Actions come in the order in which the
    budget lets them out: most addresses per call first, releases last.
    """
    found = ask(base, node or "")
    if form in ("json", "yaml"):
        emit(found, form)
        return
    busy = [each for each in found["nodes"] if each["planned"] or each["underWay"] or each["reason"] or node]
    if busy:
        emit(busy, form, _NODES)
        click.echo()
    steps = rows(busy)
    if steps:
        emit(steps, form, _STEPS)
        click.echo()
    click.echo(summary(found))


def ask(base: str, node: str) -> dict[str, Any]:
    """The operator's answer. A sentence with what to do where there is none."""
    if not base.startswith(("http://", "https://")):
        raise click.UsageError(f"--from {base}: write a URL, such as {DEFAULT}")
    url = f"{base.rstrip('/')}/debug/plan?{urllib.parse.urlencode({'node': node} if node else {})}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http(s) alone, see above
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        said = _said(error)
        if error.code == 404 and node:
            raise click.UsageError(f"{said}: `enitide node list` shows those there are") from error
        raise KubeUnavailable(f"{base}: {said}; {FORWARD}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise KubeUnavailable(f"no operator answers at {base} ({reason}); {FORWARD}") from error


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError):
        return f"HTTP {error.code}"


def rows(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a step: what is under way, then what is planned."""
    found = []
    for node in nodes:
        for state, steps in (("under way", node["underWay"]), ("planned", node["planned"])):
            for step in steps:
                held = f"held until {step['heldUntil']}" if step["heldUntil"] else state
                found.append({"node": node["name"], "state": held} | step)
    return found


def summary(found: dict[str, Any]) -> str:
    """The whole in a line: calls, gains, and how long the budget makes them wait."""
    if not found["calls"]:
        return "nothing to do at once."
    calls = ", ".join(f"{count} {verb}" for verb, count in found["calls"].items())
    gives = f", {found['gives']} given back" if found["gives"] else ""
    wait_s = max((_wait_s(found["budget"].get(verb), count) for verb, count in found["calls"].items()), default=0.0)
    slow = f"; the budget spreads them over {wait_s:.0f} s" if wait_s >= 1 else ""
    return f"{sum(found['calls'].values())} calls ({calls}): {found['gains']} addresses gained{gives}{slow}."


def _wait_s(bucket: dict[str, float] | None, count: int) -> float:
    """How long the last of so many calls waits for its turn; a bucket that was never used is full."""
    if bucket is None:
        return 0.0
    return max(0.0, count + bucket["waiting"] - bucket["tokens"]) / bucket["rate"]
