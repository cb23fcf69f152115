"""What the engine costs in counts: one node's change costs that node's work, however many others there are."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from support import scale
from support.operator_sim import Scene, SimOperator
from support.virtual_loop import run_virtual

pytestmark = pytest.mark.sim

NODES = 100


def passes(operator: SimOperator) -> int:
    """Passes of single nodes so far."""
    samples = operator.metrics.pass_seconds.collect()[0].samples
    return int(next(each.value for each in samples if each.name.endswith("_count")))


def requests(scene: Scene) -> Counter[tuple[str, str]]:
    """The operator's requests of nodes, but for its watches, by verb and kind."""
    counted: Counter[tuple[str, str]] = Counter()
    for (client, verb, kind, _outcome), times in scene.store.requests.items():
        if client == "op-1" and kind == "ENINode" and verb != "watch":
            counted[verb, kind] += times
    return counted


def one_change_among(count: int) -> tuple[int, Counter[tuple[str, str]], Counter[str]]:
    """Passes, requests and EC2 calls that nine pods on one of so many nodes cost."""

    async def scenario() -> tuple[int, Counter[tuple[str, str]], Counter[str]]:
        scene = Scene()
        await scene.install()
        for number in range(count):
            await scene.node(f"n{number}")
        operator = scene.operator()
        await asyncio.sleep(120)
        before = passes(operator), requests(scene), Counter(scene.physics.counts)
        await scene.pods("n3", 9)
        await asyncio.sleep(20)
        assert await scene.provisioned("n3") >= 9
        calls = Counter({str(verb): n for (verb, _), n in (scene.physics.counts - before[2]).items()})
        return passes(operator) - before[0], requests(scene) - before[1], calls

    return run_virtual(scenario())


def test_a_change_of_one_node_among_many_costs_as_much_as_among_few() -> None:
    few, many = one_change_among(5), one_change_among(120)
    assert few == many
    made, asked, calls = many
    assert made <= 20  # one for each pod, one for each answer
    assert asked.keys() == {("patch", "ENINode")}
    assert asked.total() <= 4
    # one more on the ENI that is there, four on a new one, and no read
    verbs = ("AssignPrivateIpAddresses", "CreateNetworkInterface", "AttachNetworkInterface")
    assert calls == Counter([*verbs, "ModifyNetworkInterfaceAttribute"])


def test_bringing_up_a_fleet_costs_the_least_mutating_calls_and_a_handful_of_reads() -> None:
    got = scale.up(NODES, 12)
    # nine on the ENI that is there, three on a new one: Assign, Create, Attach, Modify
    assert got["mutations"] == 4 * NODES
    assert got["describes"] <= 60 + 20  # new nodes of one second share a read; the VPC, drift
    assert got["full_s"] <= 60 + (4 * NODES - 20) / 4


def test_what_fits_on_the_first_eni_costs_one_call_a_node() -> None:
    assert scale.up(NODES, 9)["mutations"] == NODES


def test_churn_costs_a_pass_a_change_seldom_a_call_and_is_met_within_a_second() -> None:
    got = scale.churn(NODES // 2, 3600, 1)
    assert got["passes_per_change"] <= 2.0
    assert got["assigns_per_s"] <= 4 * 1 / 100
    # few nodes report more often: the interval grows with the logarithm of their number
    assert got["writes_per_s"] <= 100 * 1 / 100
    assert got["publish_p99_s"] < 1.0


def test_an_idle_fleet_is_read_seldom_and_what_someone_takes_away_is_seen_within_ten_minutes() -> None:
    got = scale.idle(NODES)
    assert got["mutations"] == 0
    assert got["describes"] <= 30
    assert got["drift_s"] <= 600
