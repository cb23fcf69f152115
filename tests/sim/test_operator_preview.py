"""What `/debug/plan` says of the next pass: right in the numbers, and nothing is done for having been asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.operator_sim import Scene, SimOperator
from support.virtual_loop import run_virtual

from enitide_ipam import model
from enitide_lab.ec2model import Fault
from enitide_operator import preview
from enitide_operator.cli.plan import rows, summary

pytestmark = pytest.mark.sim


async def ask(operator: SimOperator, node: str = "") -> dict[str, Any]:
    found = await operator.engine.preview(node)
    assert found is not None
    return found


def test_every_action_there_is_has_its_calls() -> None:
    actions = set(model.Action.__args__)  # type: ignore[attr-defined]
    assert actions == set(preview._CALLS)


def test_a_node_at_rest_has_nothing_to_do() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        operator = scene.operator()
        await asyncio.sleep(30)
        found = await ask(operator)
        (node,) = found["nodes"]
        assert (node["planned"], node["underWay"], node["reason"]) == ([], [], None)
        assert (node["provisioned"], node["low"], node["high"]) == (8, 4, 8)
        assert summary(found) == "nothing to do at once."

    run_virtual(scenario())


def test_what_waits_behind_a_refusal_is_shown_with_reason_and_until_when() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="UnauthorizedOperation", http_status=403))
        operator = scene.operator()
        await asyncio.sleep(10)
        (node,) = (await ask(operator, "n"))["nodes"]
        assert node["reason"] == "Unauthorized"
        (step,) = node["planned"]
        assert (step["action"], step["gains"], step["calls"]) == ("AssignAddresses", 8, ["AssignPrivateIpAddresses"])
        assert step["heldUntil"] is not None
        assert "Unauthorized" in step["why"]
        assert (await ask(operator))["calls"] == {}  # nothing of it would be sent now

    run_virtual(scenario())


def test_the_plan_costs_what_is_then_called() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        # nothing can be ordered while the status cannot be written, so the plan stands still to be looked at
        operator = scene.operator(budget={"AssignPrivateIpAddresses": {"rate": 0.1, "burst": 1}})
        await asyncio.sleep(30)
        actor = operator.engine._fleet._actors["n"]
        actor._publisher.held = lambda: True
        actor._executor.start = lambda _action: None
        await scene.pods("n", 20)
        await asyncio.sleep(1)
        foretold = await ask(operator)
        # 1 more on the first ENI, 9 and 6 on two new ones
        assert foretold["gains"] == 16
        before = {verb: scene.calls(verb) for verb in foretold["calls"]}
        del actor._publisher.held, actor._executor.start
        actor.wake()
        await asyncio.sleep(60)
        assert {verb: scene.calls(verb) - before[verb] for verb in before} == foretold["calls"]

    run_virtual(scenario())


def test_the_node_that_gains_most_per_call_comes_first_and_idle_ones_last() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for name in ("a", "b", "c"):
            await scene.node(name)
        operator = scene.operator()
        await asyncio.sleep(30)
        scene.physics.add(Fault("mutations", code="UnauthorizedOperation", http_status=403))
        await scene.pods("b", 9)
        await scene.pods("c", 25)
        await asyncio.sleep(5)
        assert [each["name"] for each in (await ask(operator))["nodes"]] == ["c", "b", "a"]

    run_virtual(scenario())


def test_asking_does_nothing() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(prefixDelegation=True)
        for number in range(30):
            await scene.node(f"n{number}")
        operator = scene.operator(drift_interval=36000, sweep_interval=36000)
        await asyncio.sleep(120)
        calls, requests = sum(scene.physics.counts.values()), scene.store.requests.total()
        for _ in range(20):
            await ask(operator)
        assert sum(scene.physics.counts.values()) == calls
        assert scene.store.requests.total() == requests
        tasks = len(operator.engine._ctx.tasks)
        await ask(operator)
        assert len(operator.engine._ctx.tasks) == tasks

    run_virtual(scenario())


def test_a_follower_has_no_plan_and_an_unknown_node_none_either() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        leader = scene.operator("op-1")
        await asyncio.sleep(20)
        follower = scene.operator("op-2")
        await asyncio.sleep(20)
        assert await follower.engine.preview() is None
        assert (await ask(leader, "nobody"))["nodes"] == []

    run_virtual(scenario())


def test_rows_say_what_is_held_and_the_summary_how_long_the_budget_takes() -> None:
    step = {"action": "AssignAddresses", "on": "eni-1", "gains": 8, "calls": ["A"], "why": "w", "heldUntil": None}
    nodes = [{"name": "n", "underWay": [step], "planned": [step | {"heldUntil": "T"}]}]
    assert [each["state"] for each in rows(nodes)] == ["under way", "held until T"]
    bucket = {"tokens": 0.0, "rate": 5.0, "waiting": 0}
    found = {"calls": {"A": 10}, "gains": 80, "gives": 3, "budget": {"A": bucket}}
    assert summary(found) == ("10 calls (10 A): 80 addresses gained, 3 given back; the budget spreads them over 2 s.")
