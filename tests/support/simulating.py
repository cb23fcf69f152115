"""Scenarios in tests: a text in, the whole output out, by the very code of `enitide simulate`."""

from __future__ import annotations

from typing import Any

from enitide_lab.simulate.reading import read
from enitide_lab.simulate.run import run

HEAD = """
apiVersion: enitide.io/v1alpha1
kind: Scenario
"""
WORLD = """
world:
  cluster: demo
  subnets: [{id: s-1, cidr: 10.0.0.0/20}]
  securityGroups: [{id: sg-a}]
"""
NODE = "nodes: [{name: n, type: m5.large, subnet: s-1, securityGroups: [sg-a]}]\n"


def simulate(body: str, *, world: str = WORLD, nodes: str = NODE) -> dict[str, Any]:
    """The output for `body` (classes, settings, events), in the small world with one m5.large unless told otherwise."""
    return run(read(HEAD + world + nodes + body))


def node(shot: dict[str, Any], name: str = "n") -> dict[str, Any]:
    """A node's row."""
    return next(each for each in shot["nodes"] if each["name"] == name)


def reasons(row: dict[str, Any]) -> set[str]:
    """Every word by which a node says why: types of true conditions, and all reasons."""
    true = {each["type"] for each in row["conditions"] if each["status"] == "True"}
    return true | {each["reason"] for each in row["conditions"]}


def calls(shot: dict[str, Any], *verbs: str) -> int:
    """All calls of these verbs, whatever their outcome."""
    return sum(sum(shot["calls"].get(verb, {}).values()) for verb in verbs)


def mutations(shot: dict[str, Any]) -> int:
    """All mutating calls, whatever their outcome."""
    return sum(sum(each.values()) for verb, each in shot["calls"].items() if not verb.startswith(("Describe", "Get")))


def describes(shot: dict[str, Any]) -> int:
    """All reads."""
    return sum(sum(each.values()) for verb, each in shot["calls"].items() if verb.startswith(("Describe", "Get")))
