"""`enitide simulate` by its contract: the form of the output, the command's streams and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.simulating import HEAD, NODE, WORLD, node, simulate

pytestmark = pytest.mark.sim

STORY = """
events:
- {announce: n}
- settle
- {snapshot: cold}
- {use: {node: n, inUse: 7}}
- {advance: 10s}
"""
_ROW = {"name", "provisioned", "inUse", "needed", "excess", "capacity", "latency", "reclaim", "yielded", "releasing"}


def command(path: Path, *options: str, seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONHASHSEED": seed}
    program = [str(Path(sys.executable).with_name("enitide")), "simulate"]
    return subprocess.run(
        [*program, str(path), *options], capture_output=True, text=True, check=False, env=environment, timeout=60
    )


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.yaml"
    path.write_text(HEAD + WORLD + NODE + STORY)
    return path


def test_a_snapshot_has_exactly_the_fields_of_the_contract() -> None:
    output = simulate(STORY)
    assert set(output) == {"snapshots", "end"}
    assert set(output["snapshots"]) == {"cold"}
    for shot in (output["snapshots"]["cold"], output["end"]):
        assert set(shot) == {
            "time_s",
            "nodes",
            "subnets",
            "detached",
            "calls",
            "writes",
            "largestReply",
            "operator",
            "publish_s",
        }
        row = node(shot)
        assert set(row) == _ROW | {"conditions", "interfaces"}
        assert all(set(each) == {"type", "status", "reason", "message"} for each in row["conditions"])
        assert all(
            set(each)
            == {
                "id",
                "card",
                "index",
                "subnet",
                "primary",
                "addresses",
                "prefixes",
                "securityGroups",
                "deleteOnTermination",
            }
            for each in row["interfaces"]
        )
        assert all(set(each) == {"id", "free", "wholePrefixes"} for each in shot["subnets"])
        assert set(shot["publish_s"]) == {"p50", "p99", "max"}
        assert set(shot["operator"]) == {"conditions"}


def test_json_stands_alone_on_standard_output_and_the_same_file_gives_the_same_bytes(story: Path) -> None:
    first, second = command(story, "--json", seed="1"), command(story, "--json", seed="2")
    assert (first.returncode, first.stderr) == (0, "")
    assert json.loads(first.stdout)["end"]["time_s"] > 310
    assert first.stdout == second.stdout


def test_without_json_people_get_a_summary(story: Path) -> None:
    done = command(story)
    assert done.returncode == 0
    assert "cold: at 30" in done.stdout
    assert "in use" in done.stdout


def test_another_seed_may_differ_in_jitter_but_not_in_what_is_reached() -> None:
    one, other = (node(simulate(f"seed: {seed}\n" + STORY)["end"]) for seed in (1, 2))
    assert one["provisioned"] == other["provisioned"]
    assert one["interfaces"][0]["id"] != other["interfaces"][0]["id"]


def test_a_file_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    done = command(tmp_path / "none.yaml", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.yaml" in done.stderr
