"""The scenarios of the policy languages in a lab: real operator and agents, and a packet for every question.

The same data that `policy verdict` is tested with. The objects go through the API server; then every pair of
pods, nodes and an outside address is tried with TCP, UDP, SCTP and ICMP, and must come out as `policy verdict` says of
the objects that the API server holds, and as the scenario's own lines say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from support.conformance.atlas import probe_of, query_of
from support.conformance.edits import EDITS, HOUSES_OF, LABELS, State
from support.conformance.prober import Probe, Prober, Seen
from support.conformance.stage import Stage, verdicts
from support.conformance.streams import Streams
from support.lab import lab_up, why_not
from support.policy_cases import queries_of
from unit.policy import test_cilium, test_clusternetworkpolicy, test_networkpolicy
from unit.policy.test_clusternetworkpolicy import ANCESTORS
from unit.policy.worlds import HOUSES, XYZ

from enitide_kube.client import HttpKube

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

Rows = Mapping[Probe, Mapping[str, Any]]
HOLDS_S = 20.0
SWEEPS_AFTER = 15
OUTSIDE = "8.8.8.8"
NODES = ("node/node-1", "node/node-2")
LETTERS = (*(f"{namespace}/{pod}" for namespace in "xyz" for pod in "abc"), *NODES, OUTSIDE)
HOUSE = (*(f"house-{h}/{h}-{n}" for h in ("red", "green", "blue", "grey") for n in (0, 1)), *NODES, OUTSIDE)
LETTER_PORTS = (("TCP", 80), ("TCP", 81), ("UDP", 80), ("UDP", 53), ("SCTP", 80), ("ICMP", 8))
HOUSE_PORTS = (("TCP", 80), ("TCP", 8080), ("UDP", 53), ("UDP", 5353), ("SCTP", 9003), ("SCTP", 9005), ("ICMP", 8))


def matrix(ends: tuple[str, ...], ports: tuple[tuple[str, int], ...]) -> list[Probe]:
    """Every end to every other one; what concerns no pod is nobody's policy."""
    pairs = [(a, b) for a in ends for b in ends if "/" in a + b and not {a, b} <= {*NODES, OUTSIDE}]
    return [Probe(a, b, *port) for a, b in pairs for port in ports]


LETTER_MATRIX, HOUSE_MATRIX = matrix(LETTERS, LETTER_PORTS), matrix(HOUSE, HOUSE_PORTS)
ONLY_BY_VERSION = {"v1beta1 reads the same"}  # the lab serves one version of the kind
SCENARIOS = {
    **{f"NetworkPolicy: {name}": (*test_networkpolicy.SCENARIOS[name], LETTER_MATRIX)
       for name in test_networkpolicy.SCENARIOS},
    **{f"Cilium: {name}": (*test_cilium.SCENARIOS[name], LETTER_MATRIX) for name in test_cilium.SCENARIOS},
    **{f"ClusterNetworkPolicy: {name}": (*test_clusternetworkpolicy.SCENARIOS[name], HOUSE_MATRIX)
       for name in test_clusternetworkpolicy.SCENARIOS.keys() - ONLY_BY_VERSION},
}  # fmt: skip
SCENARIOS = dict(sorted(SCENARIOS.items()))


def outside_of(texts: list[str]) -> set[str]:
    """Addresses in scenarios' lines that are nobody's in the cluster."""
    ends = {end for text in texts for query in queries_of(text)[0] for end in (query["from"], query["to"])}
    addresses = {end for end in ends if end[0].isdigit()}
    return {each for each in addresses if not each.startswith(("10.0.", "10.1.", "172."))} | {OUTSIDE}


@dataclass(slots=True)
class Theatre:
    """The stage and who asks on it."""

    stage: Stage
    prober: Prober
    names: Mapping[str, str]


@pytest.fixture(scope="module")
def theatre() -> Iterator[Theatre]:
    lines = [text for _, text, _ in SCENARIOS.values()]
    with lab_up("conformance", ("t3.medium", "t3.medium")) as lab:
        stage = Stage(lab, XYZ + HOUSES, outside_of(lines))

        async def build() -> None:
            async with lab.kube() as kube:
                await stage.build(kube)

        asyncio.run(build())
        names = stage.names()
        asked = [probe_of(query, names) for text in lines for query in stage.atlas.lines(text)[0]]
        probes = [*LETTER_MATRIX, *HOUSE_MATRIX, *(probe for probe in asked if probe)]
        served = {(each.target, each.protocol, each.port) for each in probes if each.protocol in ("TCP", "UDP")}
        with closing(Prober(stage.places(), served)) as prober:
            yield Theatre(stage, prober, names)


def wrong(expected: Mapping[Probe, bool], seen: Seen) -> list[str]:
    """What came out otherwise. Denied means that not even the request arrives."""
    found = [f"{probe}: allowed, no answer" for probe, may in expected.items() if may and probe not in seen.answered]
    return found + [f"{probe}: denied, arrived" for probe, may in expected.items() if not may and probe in seen.arrived]


def ask(prober: Prober, expected: Mapping[Probe, bool]) -> list[str]:
    seen = prober.round(list(expected), {probe for probe, may in expected.items() if may})
    return wrong(expected, seen)


async def expectation(
    theatre: Theatre, kube: HttpKube, lines: str, base: list[Probe]
) -> tuple[dict[Probe, bool], Rows]:
    """What must come of each probe, by the scenario's lines and by `policy verdict`, once the agents have read all."""
    objects = await theatre.stage.objects(kube)
    await theatre.stage.read_by_agents(kube, objects)
    return judge(theatre, objects, lines, base)


def judge(
    theatre: Theatre, objects: list[dict[str, Any]], lines: str, base: list[Probe]
) -> tuple[dict[Probe, bool], Rows]:
    """The same of objects; the rows of `policy verdict` too. The two must agree."""
    queries, wanted = theatre.stage.atlas.lines(lines)
    rows = verdicts(objects, [*queries, *map(query_of, base)])
    assert {name: rows[name]["verdict"] for name in wanted} == wanted
    expected = {probe: rows[str(probe)]["verdict"] == "allowed" for probe in base}
    for query in queries:
        probe = probe_of(query, theatre.names)
        if probe is not None:
            assert expected.setdefault(probe, wanted[query["id"]] == "allowed") is (wanted[query["id"]] == "allowed")
    return expected, {probe: rows[str(probe)] for probe in base}


def must_hold(theatre: Theatre, expected: Mapping[Probe, bool]) -> None:
    """It comes to hold, and then it holds."""
    deadline = time.monotonic() + HOLDS_S
    while (found := ask(theatre.prober, expected)) and time.monotonic() < deadline:
        continue
    assert not found, f"{len(found)} of {len(expected)} not after {HOLDS_S:g} s: {found[:12]}"
    assert ask(theatre.prober, expected) == []


@pytest.mark.parametrize("name", SCENARIOS)
async def test_packets_pass_as_the_scenario_and_the_verdict_say(theatre: Theatre, name: str) -> None:
    policies, lines, base = SCENARIOS[name]
    async with theatre.stage.lab.kube() as kube:
        await theatre.stage.apply(kube, policies)
        expected, _ = await expectation(theatre, kube, lines, base)
        must_hold(theatre, expected)


# --- edits under traffic ---------------------------------------------------------------------------------------------


def streamed_of(name: str) -> list[Probe]:
    """The pairs between which datagrams flow: few, so that they come often."""
    base, first = (HOUSE_MATRIX, 53) if name in HOUSES_OF else (LETTER_MATRIX, 80)
    return [
        probe
        for probe in base
        if probe.protocol == "UDP" and not {probe.source, probe.target} & set(NODES) and probe.source != probe.target
        if probe.port == first or name.startswith("ports")
    ]


async def relabel(theatre: Theatre, kube: HttpKube, before: State, after: State) -> int:
    """Give pods and namespaces the labels of a state; how many writes that took."""
    was, now = dict(before.labels), dict(after.labels)
    changed = [key for key in LABELS if was.get(key) != now.get(key)]
    for key in changed:
        label, value = now.get(key, LABELS[key])
        await theatre.stage.label(kube, key, {label: value})
    return len(changed)


def never_passes(before: Rows, after: Rows) -> set[Probe]:
    """Denied by the same side before and after: whichever node is told first, that side denies all the time."""
    return {
        probe
        for probe in before
        for side in ("egress", "ingress")
        if all(rows[probe][side]["verdict"] == "denied" for rows in (before, after))
    }


async def streamed(
    theatre: Theatre, kube: HttpKube, pairs: list[Probe], steps: tuple[State, State], rows: Rows
) -> Rows:
    """Change from one state to the next while datagrams flow between all pairs; the rows afterwards."""
    streams = Streams(theatre.prober, pairs)
    streams.begin()
    try:
        change = asyncio.create_task(one_write(theatre, kube, steps))
        while not change.done():
            await asyncio.to_thread(streams.sweep)
        for _ in range(SWEEPS_AFTER):
            await asyncio.to_thread(streams.sweep)
        expected, rows_after = judge(theatre, change.result(), "", list(rows))
        passes = {probe for probe in streams.pairs if expected[probe]}
        deadline = time.monotonic() + HOLDS_S
        while await asyncio.to_thread(streams.sweep) != passes and time.monotonic() < deadline:
            continue
        keeps = {probe for probe in passes if rows[probe]["verdict"] == "allowed"}
        counts = streams.end(keeps)
    finally:
        streams.close()
    assert {str(probe): counts[probe] for probe in keeps if counts[probe].lost} == {}
    assert {str(p): counts[p] for p in never_passes(rows, rows_after) & counts.keys() if counts[p].arrived} == {}
    must_hold(theatre, expected)
    return rows_after


async def one_write(theatre: Theatre, kube: HttpKube, steps: tuple[State, State]) -> list[dict[str, Any]]:
    """Take the step; returns when both agents have read it, with what the API server holds then."""
    writes = await theatre.stage.apply(kube, steps[1].policies) + await relabel(theatre, kube, *steps)
    assert writes == 1
    objects = await theatre.stage.objects(kube)
    await theatre.stage.read_by_agents(kube, objects)
    return objects


@pytest.mark.parametrize("name", EDITS)
async def test_an_edit_loses_no_packet_of_what_stays_allowed_and_passes_none_of_what_stays_denied(
    theatre: Theatre, name: str
) -> None:
    states = EDITS[name]
    base = HOUSE_MATRIX if name in HOUSES_OF else LETTER_MATRIX
    async with theatre.stage.lab.kube() as kube:
        await theatre.stage.apply(kube, states[0].policies)
        expected, rows = await expectation(theatre, kube, "", base)
        must_hold(theatre, expected)
        at = states[0]
        try:
            for before, at in pairwise(states):
                rows = await streamed(theatre, kube, streamed_of(name), (before, at), rows)
        finally:
            await relabel(theatre, kube, at, State(""))


async def test_the_ancestors_of_cluster_policies_hold_as_their_tiers(theatre: Theatre) -> None:
    async with theatre.stage.lab.kube() as kube:
        await theatre.stage.apply(kube, ANCESTORS)
        expected, _ = await expectation(theatre, kube, "", HOUSE_MATRIX)
        assert set(expected.values()) == {True, False}
        must_hold(theatre, expected)
