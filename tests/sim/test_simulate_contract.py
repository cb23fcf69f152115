"""`enitide simulate` by its contract: the form of the output, the command's streams and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.simulating import HEAD, NODE, WORLD, node, simulate

from enitide_lab.simulate.reading import read
from enitide_lab.simulate.run import run

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


WHOLE = """
apiVersion: enitide.io/v1alpha1
kind: Scenario
seed: 0
world:
  cluster: demo
  vpc: {id: vpc-1, cidrs: [10.0.0.0/16]}
  instanceTypes:
    pd.test: {cards: [3], ipv4PerInterface: 20, hypervisor: nitro}
    odd.test: {cards: [2], ipv4PerInterface: 6, shipped: false}
  routeTables: [{id: rt-1, main: true, subnets: [s-1, s-unseen]}]
  subnets:
  - {id: s-1, zone: us-west-1a, cidr: 10.0.0.0/20, free: 200, wholePrefixes: 12, tags: {}}
  - {id: s-far, zone: us-west-1a, cidr: 10.9.0.0/24, vpc: vpc-2}
  securityGroups: [{id: sg-a, tags: {}}]
  interfaces:
  - {id: eni-a, subnet: s-1, node: n-1, card: 0, index: 1, address: 10.0.0.9, addresses: [10.0.0.10], prefixes: [],
     tags: {a: b}, cluster: demo, securityGroups: [sg-a], ipv4: true, hidden: false}
  - {id: eni-b, subnet: s-1, count: 2, addresses: 2, prefixes: 1}
  - {id: eni-c, node: odd, ipv4: false}
classes:
- {name: default, pool: {preAllocate: 8, maxAboveWatermark: 0}}
- {name: big, weight: 10, nodeSelector: {matchLabels: {size: big}}, pool: {minAllocate: 20}}
nodes:
- {name: n, count: 2, type: m5.large, subnet: s-1, securityGroups: [sg-a], labels: {size: big}, tags: {x: y}}
- {name: odd, type: odd.test, subnet: s-1, securityGroups: [sg-a], labels: {}, tags: {}}
settings: {budget: {all: {rate: 4, burst: 20}}}
events:
- {announce: n}
- settle
- {use: {node: n, inUse: 7, cooling: 0, waiting: 0}}
- {pods: {node: n, pending: 12, holding: 0, hostNetwork: 0}}
- {agent: {node: n, silent: true}}
- {agent: {node: n, silent: false, yielded: [10.0.0.10]}}
- {agent: {node: n, yielded: null}}
- {set: {class: default, pool: {minAllocate: 20, maxAllocate: null}}}
- {set: {subnet: s-1, free: 100, wholePrefixes: 0}}
- {ec2: {fail: CreateNetworkInterface, code: RequestLimitExceeded, times: 3}}
- {ec2: {fail: reads, code: InternalError, for: 10m, every: 2, node: odd}}
- {ec2: {fail: "*", delay: 2s, times: 1}}
- {ec2: {delay: 2s, for: 1s}}
- {ec2: {empty: DescribeNetworkInterfaces, times: 1}}
- {ec2: {fail: mutations, lost: true, times: 1}}
- {kube: {fail: ENINode, code: 409, times: 20}}
- {kube: {drop: ENINode}}
- {kube: {gone: ENINode}}
- {announce: odd}
- {advance: 1h}
- {hand: {node: n-2, unassign: 3}}
- {hand: {detach: eni-a}}
- {restart: operator}
- {crash: {after: CreateNetworkInterface, nth: 1}}
- {terminate: odd}
- {advance: 1h}
- {snapshot: name}
"""


def test_every_key_and_event_of_the_contract_is_taken() -> None:
    output = run(read(WHOLE))
    shot = output["snapshots"]["name"]
    assert {each["name"] for each in shot["nodes"]} == {"n-1", "n-2", "odd"}
    assert node(shot, "n-2")["provisioned"] == 21  # 24, of which a hand took 3: still above low
    assert node(shot, "n-2")["inUse"] == 7
    assert (node(shot, "odd")["needed"], node(shot, "odd")["interfaces"]) == (0, [])
    assert node(shot, "odd")["conditions"]
    assert [each["id"] for each in shot["subnets"]] == ["s-1", "s-far"]
    assert {each["id"] for each in shot["detached"]} == {"eni-b-1", "eni-b-2", "eni-c"}
    assert "DescribeInstanceTypes" in shot["calls"]  # once a term
    assert shot["calls"]["CreateNetworkInterface"].get("RequestLimitExceeded", 0) <= 3


def test_what_is_left_is_what_the_scenario_says_or_all_there_is() -> None:
    body = "events: []\n"
    two = "{id: s-2, cidr: 10.0.1.0/24, free: 40}, {id: s-3, cidr: 10.0.2.0/24, wholePrefixes: 1}"
    subnets = f"[{{id: s-1, cidr: 10.0.0.0/24}}, {two}]"
    shot = simulate(body, world=WORLD.replace("[{id: s-1, cidr: 10.0.0.0/20}]", subnets))["end"]
    left = {each["id"]: (each["free"], each["wholePrefixes"]) for each in shot["subnets"]}
    assert left["s-1"] == (250, 14)  # EC2's own five break the first and the last block
    assert left["s-2"] == (40, 2)
    assert left["s-3"][1] == 1
