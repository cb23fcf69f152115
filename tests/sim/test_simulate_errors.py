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


EVENT = 27  # the line of `- {snapshot: first}`


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("{ec2: {fail: *, code: X}}", 'write the star in quotes, "*"'),
        ("{kube: {drop: *}}", 'write the star in quotes, "*"'),
        ("{ec2: {fail: &a, code: X}}", 'write a verb, mutations, reads or "*"'),
        ("{ec2: {fail: null, code: X}}", 'write a verb, mutations, reads or "*"'),
        ("{ec2: {empty: CreateNetworkInterface}}", "such as DescribeNetworkInterfaces"),
        ("{ec2: {empty: mutations}}", "or reads"),
        ('{ec2: {empty: "*"}}', "or reads"),
        ("{ec2: {fail: reads, code: X, for: 99999999h}}", "at most 720h"),
        ("{ec2: {delay: 9999999h}}", "at most 720h"),
        ("{ec2: {fail: reads, code: X, times: 0}}", "whole number from 1"),
        ("{ec2: {fail: reads, code: X, times: 99999999999}}", "to 2147483647"),
        ("{advance: 99999999h}", "write at most 720h"),
        ("null", "is empty: write an event"),
        ("~", "is empty: write an event"),
        ("", "is empty: write an event"),
        ("{}", "is empty: write an event"),
        ("[settle]", "one event, not a list"),
        ("true", "unknown event 'true'"),
        ("{null: 3}", "the key 'null' is no text"),
        ("{set: null}", "write class: NAME"),
        ("{set: {}}", "write class: NAME or subnet: ID"),
        ("{set: {class: default}}", "changes nothing"),
        ("{set: {subnet: s-1}}", "write free: N or wholePrefixes: N"),
        ("{set: {subnet: s-1, free: null}}", "write free: N or wholePrefixes: N"),
        ("{set: {class: default, subnet: s-1}}", "an event of its own"),
        ("{set: {class: default, release: {delay: 3}}}", "write 3s"),
        ("{hand: {node: n}}", "changes nothing"),
        ("{hand: {node: n, unassign: 0}}", "changes nothing"),
        ("{hand: {node: n, detach: null}}", "changes nothing"),
        ("{hand: {unassign: 3}}", "node is missing"),
        ("{hand: {node: n, assign: [10.0.0.77, 10.0.0.77]}}", "10.0.0.77 stands here twice"),
        ("{hand: {node: n, assign: [10.0.0.16/27]}}", "neither address nor prefix"),
        ("{hand: {node: n, unassign: 1.5}}", "whole number from 0"),
        ("{agent: {node: n}}", "write silent: true"),
        ("{agent: {node: n, silent: maybe}}", "true or false"),
        ("{agent: {node: n, yielded: 3}}", "must be a list"),
        ("{agent: n}", "write node, silent, yielded"),
        ("{terminate: m}", "unknown node 'm'"),
        ("{terminate: [n]}", "a node's or a group's name"),
        ("{use: {node: n, inUse: 99999999}}", "from 0 to 65536"),
        ("{pods: {node: n, pending: 1000000}}", "from 0 to 10000"),
        ("{restart: agent}", "write 'operator'"),
        ("{restart: null}", "must be a program: write 'operator'"),
        ("{kube: {gone: null}}", "must be a kind: write one of"),
        ("{kube: {fail: ENINode, code: 409, every: 2}}", "unknown key 'every'"),
        ("{crash: {after: mutations, nth: 0}}", "whole number from 1"),
        ("{snapshot: 5}", "in quotes if need be"),
    ],
)
def test_an_event_that_means_nothing_is_told_with_its_line_and_what_to_write(event: str, words: str) -> None:
    told = complaint("{snapshot: first}", event)
    assert told.startswith(f"file.yaml:{EVENT}: "), told
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("kind: Scenario", "kind: null", 2, "is empty: write `kind: ...`"),
        ("  cluster: demo", "\tcluster: demo", 5, "write blanks for the tab"),
        ("cluster: demo", "cluster: de\0mo", 5, "control characters are not allowed"),
        ("seed: 0", "seed: 0\n---", 4, "write one document"),
        ("{name: default,", "{<<: 5,", 15, "cannot be read: expected a mapping"),
        ("instanceTypes: {pd.test:", 'instanceTypes: {"":', 7, "needs a name"),
        ("seed: 0", "seed: 1.5", 3, "from -1000000000 to 1000000000"),
        ("cidrs: [10.0.0.0/16]", "cidrs: [10.0.0.0/8]", 6, "/16 to /28"),
        ("cidrs: [10.0.0.0/16]", "cidrs: [10.0.0.0/16, 10.0.128.0/17]", 6, "overlaps 10.0.0.0/16"),
        ("subnets: [s-1, unseen]}", "subnets: [s-1]}, {id: rt-2, subnets: [s-1]}", 8, "one route table"),
        ("main: true, subnets: [s-1, unseen]}", "main: true}, {id: rt-2, main: true}", 8, "more than one"),
        ("main: true, subnets", "main: 1, subnets", 8, "true or false"),
        ("cards: [3]", "cards: []", 7, "at least one network card"),
        ("cards: [3]", "cards: [65]", 7, "from 1 to 64"),
        ("node: n, index: 1, addresses: 2", "subnet: s-1, index: 1", 13, "write node"),
        ("node: n, index: 1, addresses: 2", "subnet: s-1, card: 1", 13, "write node"),
        ("addresses: 2", "addresses: -1", 13, "whole number from 0"),
        ("addresses: 2", 'hidden: "no"', 13, "true or false"),
        ("addresses: 2", "prefixes: [10.0.0.3/28]", 13, "host bits set"),
        ("addresses: 2", "ipv4: false, addresses: 2", 13, "leave out address"),
        ("driftInterval: 10m", "drift_interval: 10m, driftInterval: 20m", 19, "in both spellings"),
        ("driftInterval: 10m", "policy: yes", 19, "'off'"),
        ("driftInterval: 10m", "metricsPort: 1", 19, "write 'metricsAddress'"),
        ("{budget: {all: {rate: 4, burst: 20}}, driftInterval: 10m}", "[]", 19, "must be a mapping"),
        ("preAllocate: 8", "preAllocate: 99999999", 15, "from 0 to 65536"),
        ("name: default,", "name: default, cooldown: 1,", 15, "write 1s"),
        ("name: default,", "name: default, interfaces: {cards: []},", 15, "name at least one card"),
    ],
)
def test_a_world_that_means_nothing_is_told_likewise(old: str, new: str, line: int, words: str) -> None:
    told = complaint(old, new)
    assert told.startswith(f"file.yaml:{line}: "), told
    assert words in told


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ("{set: {subnet: s-1, free: 5000}}", "free is at most 4"),
        ("{set: {subnet: s-1, free: 10, wholePrefixes: 3}}", "with 3 whole ones free is from 48 to"),
        ("{set: {subnet: s-1, wholePrefixes: 300}}", "wholePrefixes is at most 2"),
        ("{hand: {node: n, unassign: 300}}", "does not have"),
        ("{hand: {node: n, assign: 300}}", "no slot"),
        ("{hand: {detach: eni-nope}}", "unknown ENI 'eni-nope'"),
        ("{hand: {node: g, detach: eni-x}}", "eni-x is not on g-1, g-2"),
        ("{hand: {node: n, assign: [10.9.0.4]}}", "EC2 would refuse this"),
    ],
)
def test_what_cannot_be_done_to_the_world_as_it_is_then_is_told_with_its_line_too(event: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        run(read(GOOD.replace("{snapshot: first}", event).replace("advance: 1h", "advance: 1m"), "file.yaml"))
    assert str(caught.value).startswith(f"file.yaml:{EVENT}: "), caught.value
    assert words in str(caught.value)


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
