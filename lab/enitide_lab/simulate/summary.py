"""A snapshot for people: what each group of nodes has and lacks, why, and what it cost."""

from __future__ import annotations

from collections import Counter
from typing import Any


def summary(output: dict[str, Any]) -> str:
    """All snapshots in order, the end last (unless the last snapshot was it)."""
    shots: dict[str, Any] = dict(output["snapshots"])
    if output["end"] not in [*shots.values()][-1:]:
        shots["end"] = output["end"]
    return "\n\n".join(_one(name, each) for name, each in shots.items())


def _one(name: str, shot: dict[str, Any]) -> str:
    nodes = shot["nodes"]
    reasons = Counter(
        condition["reason"] for node in nodes for condition in node["conditions"] if condition["type"] == "Ready"
    )
    calls = {verb: sum(outcomes.values()) for verb, outcomes in shot["calls"].items()}
    failed = {
        f"{verb} {outcome}": times
        for verb, outcomes in shot["calls"].items()
        for outcome, times in outcomes.items()
        if outcome != "ok"
    }
    publish = shot["publish_s"]
    lines = [
        f"{name}: at {shot['time_s']:g} s, {len(nodes)} nodes",
        f"  addresses   {_addresses(nodes)}",
        f"  nodes       {_listed(reasons) or 'none says anything yet'}",
        "  subnets     "
        + ", ".join(f"{s['id']} {s['free']} free, {s['wholePrefixes']} whole /28" for s in shot["subnets"]),
        f"  EC2 calls   {_listed(calls) or 'none'}",
    ]
    if failed:
        lines.append(f"  refused     {_listed(failed)}")
    if shot["detached"]:
        lines.append(f"  detached    {len(shot['detached'])} ENIs")
    lines.append(f"  API writes  {_listed(shot['writes']) or 'none'}")
    if publish["max"] is not None:
        lines.append(f"  met after   p50 {publish['p50']:g} s, p99 {publish['p99']:g} s, at most {publish['max']:g} s")
    lines += [
        f"  operator    {each['type']} {each['status']}: {each['message']}" for each in shot["operator"]["conditions"]
    ]
    return "\n".join(lines)


def _addresses(nodes: list[dict[str, Any]]) -> str:
    words = (
        ("provisioned",) * 2,
        ("inUse", "in use"),
        ("needed",) * 2,
        ("excess", "in excess"),
        ("capacity", "at most"),
    )
    return ", ".join(f"{_total(nodes, key)} {word}" for key, word in words)


def _total(nodes: list[dict[str, Any]], key: str) -> int:
    return sum(node[key] for node in nodes)


def _listed(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{name} {times}" for name, times in sorted(counts.items()))
