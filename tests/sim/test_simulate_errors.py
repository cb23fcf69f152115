"""A scenario that means nothing: exit 2, nothing on standard output, the line, and what to write instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from enitide_api.errors import UsageError
from enitide_lab.simulate.reading import read
from enitide_lab.simulate.run import run

pytestmark = pytest.mark.sim

# Lines count from 1; what a test replaces stands on the line that it expects.
GOOD = """apiVersion: enitide.io/v1alpha1
kind: Scenario
seed: 0
world:
  cluster: demo
  vpc: {id: vpc-1, cidrs: [10.0.0.0/16]}
  instanceTypes: {pd.test: {cards: [3], ipv4PerInterface: 20, hypervisor: nitro}}
  routeTables: [{id: rt-1, main: true, subnets: [s-1, unseen]}]
  subnets:
  - {id: s-1, zone: us-west-1a, cidr: 10.0.0.0/20, free: 200, wholePrefixes: 12, tags: {}}
  securityGroups: [{id: sg-a, tags: {}}]
  interfaces:
  - {id: eni-x, node: n, index: 1, addresses: 2}
classes:
- {name: default, pool: {preAllocate: 8, maxAboveWatermark: 0}}
nodes:
- {name: n, type: m5.large, subnet: s-1, securityGroups: [sg-a]}
- {name: g, count: 2}
settings: {budget: {all: {rate: 4, burst: 20}}, driftInterval: 10m}
events:
- {announce: n}
- settle
- {use: {node: n, inUse: 7}}
- {ec2: {fail: CreateNetworkInterface, code: RequestLimitExceeded, times: 3}}
- {set: {class: default, pool: {minAllocate: 20}}}
- {advance: 1h}
- {snapshot: first}
"""


def complaint(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    with pytest.raises(UsageError) as caught:
        read(GOOD.replace(old, new), "file.yaml")
    return str(caught.value)


def test_the_scenario_that_the_others_spoil_is_sound() -> None:
    scenario = read(GOOD)
    assert len(scenario.events) == 7
    assert scenario.settings.drift_interval == 600


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("seed: 0", "seeds: 0", 3, "write 'seed'"),
        ("apiVersion: enitide.io/v1alpha1", "apiVersion: v1", 1, "enitide.io/v1alpha1"),
        ("kind: Scenario", "kind: Story", 2, "Scenario"),
        ("cluster: demo", "clustr: demo", 5, "write 'cluster'"),
        ("wholePrefixes: 12", "wholeprefixes: 12", 10, "write 'wholePrefixes'"),
        ("cidr: 10.0.0.0/20", "cidr: 10.0.0.1/20", 10, "no IPv4 CIDR"),
        ("cards: [3]", "cards: 3", 7, "must be a list"),
        ("cards: [3], ", "", 7, "cards is missing"),
        ("hypervisor: nitro", "hypervisor: nitros", 7, "write 'nitro'"),
        ("{id: sg-a, tags: {}}", "{tags: {}}", 11, "id is missing"),
        ("node: n, index: 1", "node: m, index: 1", 13, "unknown node 'm'"),
        ("node: n, index: 1", "index: 1", 13, "subnet is missing"),
        ("preAllocate: 8", "preallocate: 8", 15, "write 'preAllocate'"),
        ("preAllocate: 8", "preAllocate: many", 15, "whole number"),
        ("preAllocate: 8", "minAllocate: 9, maxAllocate: 3", 15, "minAllocate is above maxAllocate"),
        ("name: default,", "name: default, nodeSelector: {matchLabels: {a: b}},", 15, "leave out its nodeSelector"),
        ("type: m5.large", "type: m5.larg", 17, "write 'm5.large'"),
        ("subnet: s-1, securityGroups: [sg-a]", "subnet: s-1, securityGroups: [sg-b]", 17, "write 'sg-a'"),
        ("count: 2", "count: 0", 18, "from 1"),
        ("name: g", "name: G_1", 18, "RFC 1123"),
        ("name: g", "name: g, labels: {a: 'no blank'}", 18, "no label value"),
        ("driftInterval: 10m", "driftIntervall: 10m", 19, "write 'driftInterval'"),
        ("driftInterval: 10m", "driftInterval: 1s", 19, "drift_interval"),
        ("{all: {rate: 4, burst: 20}}", "{al: {rate: 4, burst: 20}}", 19, "no verb of ours"),
        ("{announce: n}", "{announce: nn}", 21, "unknown node 'nn': write 'n'"),
        ("{announce: n}", "{anounce: n}", 21, "write 'announce'"),
        ("- settle", "- setle", 22, "write 'settle'"),
        ("inUse: 7", "inuse: 7", 23, "write 'inUse'"),
        ("inUse: 7", "inUse: -1", 23, "from 0"),
        ("fail: CreateNetworkInterface", "fail: CreateInterface", 24, "write 'CreateNetworkInterface'"),
        ("code: RequestLimitExceeded", "code: 503", 24, "EC2 error code"),
        ("code: RequestLimitExceeded, ", "", 24, "does nothing"),
        ("class: default, pool", "class: defalt, pool", 25, "write 'default'"),
        ("minAllocate: 20", "minAllocate: 20, maxAllocate: 10", 25, "minAllocate is above maxAllocate"),
        ("advance: 1h", "advance: 60", 26, "write 60s"),
        ("advance: 1h", "advance: 1 hour", 26, "30s, 10m or 1h30m"),
        ("- {snapshot: first}", "- {snapshot: first}\n- {snapshot: first}", 28, "another name"),
        ("- {snapshot: first}", "- {snapshot: first, advance: 1h}", 27, "2 events in one"),
        ("- {snapshot: first}", "- {snapshot: first", 28, "no YAML"),
        ("seed: 0", "seed: 0\nseed: 1", 4, "twice"),
    ],
)
def test_each_mistake_is_told_with_its_line_and_what_to_write(old: str, new: str, line: int, words: str) -> None:
    told = complaint(old, new)
    assert told.startswith(f"file.yaml:{line}: "), told
    assert words in told


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("free: 200, wholePrefixes: 12", "free: 5000", 10, "cannot be left with 5000 free"),
        ("free: 200, wholePrefixes: 12", "free: 20, wholePrefixes: 2", 10, "2 whole"),
        ("cidr: 10.0.0.0/20", "cidr: 10.9.0.0/20", 10, "InvalidSubnet.Range"),
        ("cidr: 10.0.0.0/20", "cidr: 10.0.0.0/30", 10, "/16 to /28"),
        ("index: 1, addresses: 2", "index: 1, addresses: 20", 13, "PrivateIpAddressLimitExceeded"),
        ("index: 1, addresses: 2", "card: 1, index: 1", 13, "no network card"),
        ("index: 1, addresses: 2", "index: 1, addresses: [10.0.0.9, 10.0.0.9, 10.0.16.1]", 13, "EC2 would refuse"),
    ],
)
def test_what_only_ec2_can_refuse_is_told_with_its_line_too(old: str, new: str, line: int, words: str) -> None:
    assert GOOD.count(old) == 1, old
    with pytest.raises(UsageError) as caught:
        run(read(GOOD.replace(old, new), "file.yaml"))
    assert str(caught.value).startswith(f"file.yaml:{line}: "), caught.value
    assert words in str(caught.value)


def test_a_bad_scenario_ends_the_command_with_2_and_an_empty_standard_output(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("inUse: 7", "inuse: 7"))
    program = str(Path(sys.executable).with_name("enitide"))
    done = subprocess.run(
        [program, "simulate", str(path), "--json"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{path}:23: events[2].use: unknown key 'inuse': write 'inUse'" in done.stderr
