"""Every scenario of `scenarios/`, as an outsider would run it: each begins with its sentence and says what to expect.

An expectation is a Python expression over the snapshots by name and `end`. `n(shot)` is the row of node n,
`row` another's, `rows` all; a row has the fields of the output, `reasons` (all words by which it says why) and `said`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.simulating import describes, mutations, node, reasons

from enitide_lab.simulate.reading import read_file
from enitide_lab.simulate.run import run

pytestmark = pytest.mark.sim

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.yaml"))
MARK = "# expect: "


class Row:
    """A node's row by attributes."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.__dict__.update(row)
        self.reasons = reasons(row)
        self.said = " ".join(each["message"] for each in row["conditions"])


class Shot:
    """A snapshot by attributes."""

    def __init__(self, shot: dict[str, Any]) -> None:
        self.__dict__.update(shot)
        self.shot = shot
        self.mutations = mutations(shot)
        self.describes = describes(shot)
        self.refused: dict[str, int] = {}
        for outcomes in shot["calls"].values():
            for outcome, times in outcomes.items():
                if outcome != "ok":
                    self.refused[outcome] = self.refused.get(outcome, 0) + times


def row(shot: Shot, name: str) -> Row:
    return Row(node(shot.shot, name))


WORDS: dict[str, Any] = {
    "n": lambda shot: row(shot, "n"),
    "row": row,
    "rows": lambda shot: [Row(each) for each in shot.shot["nodes"]],
    "free": lambda shot: shot.shot["subnets"][0]["free"],
    "whole": lambda shot: shot.shot["subnets"][0]["wholePrefixes"],
    "reads": lambda shot: {verb: found for verb, found in shot.calls.items() if verb.startswith(("Describe", "Get"))},
}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_ends_as_it_says(path: Path) -> None:
    lines = path.read_text().splitlines()
    expected = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    assert lines[0].startswith("# ")
    assert expected, f"{path.name} expects nothing"
    output = run(read_file(path))
    shots = {name: Shot(each) for name, each in (output["snapshots"] | {"end": output["end"]}).items()}
    failed = [each for each in expected if not eval(each, {**WORDS, **shots})]
    assert not failed, f"{lines[0]}\n{failed}\n{told(shots['end'])}"


def told(shot: Shot) -> str:
    """What stands at the end, for a failing scenario."""
    rows = "\n".join(
        f"{each['name']}: {each['provisioned']} needed {each['needed']} excess {each['excess']} of {each['capacity']} "
        f"after {each['latency']} s; {sorted(reasons(each))}; "
        + "; ".join(
            f"{e['index']}: {len(e['addresses'])}+{len(e['prefixes'])}p {e['subnet']}" for e in each["interfaces"]
        )
        for each in shot.shot["nodes"][:5]
    )
    found = shot.shot
    return f"{rows}\n{found['calls']}\n{found['writes']} {len(found['detached'])} detached at {found['time_s']} s"


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 40
