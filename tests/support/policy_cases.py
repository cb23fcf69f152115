"""Scenarios of policies as text: a world, policies, and lines `FROM -> TO PROTOCOL/PORT = allowed|denied`.

The same files serve the unit tests (by `policy verdict`) and the lab. A line may end in `# a remark`.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from enitide_policy.report import verdict_report

_LINE = re.compile(r"(\S+) -> (\S+) (TCP|UDP|SCTP|ICMP)/(\d+)(?: (IPv[46]))? = (allowed|denied)(?: \((\w+)\))?")


def queries_of(text: str) -> tuple[list[dict[str, Any]], dict[str, tuple[str, str | None]]]:
    """The queries of a scenario's lines, and for each id the verdict and perhaps the reason that it must have."""
    queries, wanted = [], {}
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        match = _LINE.fullmatch(line)
        assert match, f"not a line of a scenario: {line}"
        source, target, protocol, port, family, verdict, reason = match.groups()
        query = {"id": line, "from": source, "to": target, "protocol": protocol}
        query["icmpType" if protocol == "ICMP" else "port"] = int(port)
        if family:
            query["family"] = family
        queries.append(query)
        wanted[line] = (verdict, reason)
    return queries, wanted


def objects_of(*texts: str) -> list[dict[str, Any]]:
    """All documents of some YAML texts."""
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def judged(
    objects: list[dict[str, Any]], queries: list[dict[str, Any]], *, host_policy: bool = False
) -> tuple[dict[str, dict[str, Any]], list[Any]]:
    """Verdict rows by id, and the problems."""
    report = verdict_report(objects, queries, host_policy=host_policy)
    return {row["id"]: row for row in report["verdicts"]}, report["problems"]


def differences(objects: list[dict[str, Any]], lines: str, *, host_policy: bool = False) -> list[str]:
    """What of a scenario does not come out as written. Empty is good."""
    queries, wanted = queries_of(lines)
    rows, _ = judged(objects, queries, host_policy=host_policy)
    found = []
    for line, (verdict, reason) in wanted.items():
        row = rows[line]
        if row["verdict"] != verdict or (reason and row["reason"] != reason):
            found.append(f"{line}: is {row['verdict']} ({row['reason']})")
    return found
