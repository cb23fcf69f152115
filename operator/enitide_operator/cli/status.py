"""`enitide status`: one look, an exit code, and for everything unhealthy the command that explains it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from enitide_api.durations import seconds
from enitide_api.errors import SettingsInvalid
from enitide_api.output import Column, emit, output_option, paint
from enitide_api.reasons import Reason
from enitide_operator.cli.collect import Cluster, cluster_options, read
from enitide_operator.cli.rows import Row, node_row
from enitide_operator.taints import EFFECT, KEY, is_tainted

_LEASE_DURATION_S = 45.0
_OPERATOR = "app.kubernetes.io/name=enitide,app.kubernetes.io/component=operator"  # labels of charts/enitide
_AGENT = "app.kubernetes.io/name=enitide,app.kubernetes.io/component=agent"
_COLUMNS = (
    Column("check", "check"),
    Column("state", "state"),
    Column("detail", "detail"),
    Column("next", "next"),
)


def report(cluster: Cluster, now: datetime) -> Row:
    """Everything `status` says, healthy or not. Pure.

    An ENINode whose Node is gone is left over from a scale-down: it is named, and makes nothing unhealthy.
    """
    expected = {n.metadata.name for n in cluster.kube_nodes}
    rows = [node_row(n) for n in cluster.nodes if n.metadata.name in expected]
    waiting = [r for r in rows if not r["ready"]]
    absent = sorted(expected - {r["name"] for r in rows})
    leftover = sorted({n.metadata.name for n in cluster.nodes} - expected)
    checks = [
        _operator(cluster, now),
        *_conditions(cluster),
        *_nodes(rows, waiting, absent),
        _addresses(rows),
        *_taints(cluster, rows),
        *_leftover(leftover),
    ]
    return {
        "healthy": all(c["state"] == "ok" for c in checks),
        "leader": cluster.leader or None,
        "nodes": {
            "total": len(rows),
            "ready": len(rows) - len(waiting),
            "withoutENINode": absent,
            "leftover": leftover,
        },
        "addresses": {key: sum(r[key] for r in rows) for key in ("provisioned", "inUse", "cooling", "waiting", "free")},
        "notReady": [{k: r[k] for k in ("name", "reason", "message")} for r in waiting],
        "checks": checks,
    }


def _check(check: str, healthy: bool, detail: str, next_: str = "") -> Row:
    return {"check": check, "state": "ok" if healthy else "failing", "detail": detail, "next": "" if healthy else next_}


def _operator(cluster: Cluster, now: datetime) -> Row:
    if not cluster.leader:
        return _check("operator", False, "no operator holds the Lease", f"kubectl -n kube-system logs -l {_OPERATOR}")
    age_s = (now - datetime.fromisoformat(cluster.renewed)).total_seconds() if cluster.renewed else float("inf")
    detail = f"{cluster.leader} leads, renewed {age_s:.0f} s ago"
    return _check("operator", age_s < _LEASE_DURATION_S, detail, "kubectl -n kube-system get lease enitide-operator")


def _conditions(cluster: Cluster) -> list[Row]:
    """What the operator says of itself. What is so by choice is told, and makes nothing unhealthy."""
    found = []
    for each in cluster.conditions:
        healthy = each.status == "True" or each.reason in {Reason.NO_CLUSTER_NAME, Reason.CLASS_MISSING}
        detail = f"{each.reason}: {each.message}"
        found.append(_check(each.type.lower(), healthy, detail, f"kubectl -n kube-system logs -l {_OPERATOR}"))
    return found


def _nodes(rows: list[Row], waiting: list[Row], absent: list[str]) -> list[Row]:
    checks = [
        _check("nodes", not waiting, f"{len(rows) - len(waiting)} of {len(rows)} ready", "enitide node list -o wide")
    ]
    checks += [
        _check(f"node {r['name']}", False, f"{r['reason']}: {r['message']}", f"enitide node show {r['name']}")
        for r in waiting
    ]
    if absent:
        detail = f"no ENINode yet for {', '.join(absent[:5])}" + (f" and {len(absent) - 5} more" if absent[5:] else "")
        checks.append(_check("agents", False, detail, f"kubectl -n kube-system get pods -l {_AGENT} -o wide"))
    return checks


def _leftover(names: list[str]) -> list[Row]:
    if not names:
        return []
    command = f"kubectl delete en {' '.join(names[:5])}"
    found = _check("leftovers", True, f"{len(names)} ENINodes of Nodes that are gone; collected once EC2 says so too")
    return [found | {"next": command}]


def _taints(cluster: Cluster, rows: list[Row]) -> list[Row]:
    """Nodes that are kept from new pods for want of an address; those that have addresses again are told apart."""
    tainted = sorted(n.metadata.name for n in cluster.kube_nodes if is_tainted(n))
    if not tainted:
        return []
    buffer = {n.metadata.name: n.status.class_.pool.pre_allocate for n in cluster.nodes if n.status.class_}
    free = {row["name"]: row["free"] for row in rows}
    stale = [name for name in tainted if free.get(name, 0) >= max(1, buffer.get(name, 1))]
    if stale:
        detail = f"{', '.join(stale[:5])} carry {KEY} and have addresses: the operator no longer takes it away"
        return [_check("taints", False, detail, f"kubectl taint nodes {' '.join(stale[:5])} {KEY}:{EFFECT}-")]
    detail = f"{len(tainted)} nodes without an address to give carry {KEY}: {', '.join(tainted[:5])}"
    return [_check("taints", True, detail) | {"next": f"enitide why {tainted[0]}"}]


def _addresses(rows: list[Row]) -> Row:
    pods_waiting = sum(r["waiting"] for r in rows)
    used, have = (sum(r[k] for r in rows) for k in ("inUse", "provisioned"))
    detail = f"{used} in use of {have} provisioned, {pods_waiting} pods waiting"
    return _check("addresses", pods_waiting == 0, detail, "enitide node list")


@click.command()
@click.option("--wait", is_flag=True, help="Wait until everything is healthy.")
@click.option("--wait-duration", default="5m", show_default=True, help="How long --wait waits at most.")
@cluster_options
@output_option
def main(wait: bool, wait_duration: str, form: str, **where: Any) -> int:
    """Is the cluster's network healthy, and if not, why. Exit code 0 healthy, 1 not, 3 cannot tell."""
    try:
        limit_s = seconds(wait_duration)
    except ValueError as error:
        raise SettingsInvalid(f"--wait-duration: {error}") from None
    deadline = time.monotonic() + (limit_s if wait else 0)
    while True:
        cluster = read(where["kubeconfig"], where["lease_namespace"], where["lease_name"])
        found = report(cluster, datetime.now(UTC))
        if found["healthy"] or time.monotonic() >= deadline:
            break
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
    show(found, form)
    return 0 if found["healthy"] else 1


def show(found: Row, form: str) -> None:
    """Print the report in the asked form."""
    if form in ("json", "yaml"):
        emit(found, form)
        return
    emit(found["checks"], form, _COLUMNS)
    click.echo()
    click.echo(paint("healthy", "green") if found["healthy"] else paint("unhealthy", "red"))
