"""What `enitide policy verdict` and `trace` print, from manifests and queries that were read from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from enitide_policy.directory import Directory
from enitide_policy.evaluate import Decision, End, Packet
from enitide_policy.judge import EngineJudge
from enitide_policy.manifests import read
from enitide_policy.mapstate import Direction
from enitide_policy.query import read_queries
from enitide_policy.verdict import Judge, answers, rule_row, word


def verdict_report(
    objects: Iterable[Mapping[str, Any]], queries: Any, places: Sequence[str] = (), *, host_policy: bool = False
) -> dict[str, Any]:
    """`{"verdicts": [...], "problems": [...]}`. `UsageError` for queries that cannot be read.

    `places`: file and line of each query, for that error. `host_policy`: as the setting.
    """
    manifests = read(objects, host_policy=host_policy)
    directory = Directory(manifests.world)
    asked = read_queries(queries, directory, places)
    judge = EngineJudge(manifests.world, manifests.policies)
    rows, problems = answers(judge, asked, directory)
    return {"verdicts": rows, "problems": [problem.row() for problem in (*manifests.problems, *problems)]}


def verdict_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The verdicts of a report as rows of a table."""
    return [
        {
            "id": row["id"],
            "verdict": row["verdict"],
            "reason": row["reason"],
            "egress": row["egress"]["verdict"],
            "egressRule": rule_text(row["egress"]["rule"]),
            "ingress": row["ingress"]["verdict"],
            "ingressRule": rule_text(row["ingress"]["rule"]),
        }
        for row in report["verdicts"]
    ]


def rule_text(rule: Mapping[str, Any] | None) -> str:
    """`NetworkPolicy/ns/name ingress[0] Allow`, or `default`."""
    if rule is None:
        return "default"
    name = "/".join(part for part in (rule["kind"], rule["namespace"], rule["name"]) if part)
    return f"{name} {rule['direction']}[{rule['index']}] {rule['action']}"


@dataclass(frozen=True, slots=True)
class Recorder:
    """A judge that keeps what it was asked, in order."""

    judge: Judge
    asked: list[tuple[Direction, End, End, Decision]]

    def decide(self, side: Direction, subject: End, peer: End, packet: Packet) -> Decision:
        """What the judge behind it says."""
        found = self.judge.decide(side, subject, peer, packet)
        self.asked.append((side, subject, peer, found))
        return found


def trace_report(
    objects: Iterable[Mapping[str, Any]], query: Mapping[str, Any], *, host_policy: bool = False
) -> dict[str, Any]:
    """The verdict of one query as `verdict`, and every rule that was asked about it, in order, as `steps`."""
    manifests = read(objects, host_policy=host_policy)
    directory = Directory(manifests.world)
    asked = read_queries([query], directory)
    recorder = Recorder(EngineJudge(manifests.world, manifests.policies), [])
    rows, problems = answers(recorder, asked, directory)
    steps = [row for entry in recorder.asked for row in trace_rows(*entry)]
    found = [problem.row() for problem in (*manifests.problems, *problems)]
    return {"verdict": rows[0], "steps": steps, "problems": found}


def trace_rows(side: Direction, subject: End, peer: End, decision: Decision) -> list[dict[str, Any]]:
    """One row a rule, and a last one for what held where no rule decided."""
    ends = {"direction": side.name.lower(), "subject": _name(subject), "other": _name(peer)}
    rows: list[dict[str, Any]] = [
        {
            **ends,
            **(rule_row(replace(decision, policy=step.policy, rule=step.rule)) or {}),
            "peer": step.peer,
            "port": step.matched if step.peer else None,
            "decides": step.rule is decision.rule and step.policy is decision.policy,
        }
        for step in decision.steps
    ]
    if decision.rule is None:
        rows.append({**ends, "action": word(decision.allowed), "reason": str(decision.reason), "decides": True})
    return rows


def _name(end: End) -> str:
    if end.pod:
        return "/".join(end.pod)
    return f"node/{end.node}" if end.node else str(end.address)
