"""Crashes, lost answers and refusals in the middle of giving a whole ENI back."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.removal import alone, begin, full
from support.virtual_loop import run_virtual

from enitide_ipam.model import TAG_CLUSTER
from enitide_lab.ec2model import Effect, Fault

pytestmark = pytest.mark.sim


# --- crashes and refusals ---


def _steps() -> list[str]:
    """The mutating calls and status writes of an undisturbed giving back, in their order, from the first of them."""
    found: list[str] = []

    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene)
        operator = scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await asyncio.sleep(5)
        done = len(operator.events)
        await agent.use(1)
        await scene.until(lambda: alone(scene), "one ENI", 900)
        await asyncio.sleep(30)
        found.extend(["", *operator.events[done:]])

    run_virtual(scenario())
    return found


STEPS = _steps()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, len(STEPS)))
def test_a_crash_at_any_step_of_giving_back_is_finished_by_whoever_leads(number: int, moment: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene)
        first = scene.operator("first")
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await asyncio.sleep(5)
        first.crash_at = (len(first.events) + number, moment)
        await agent.use(1)
        await asyncio.wait_for(first.crashed.wait(), 600)
        begun = bool((await scene.eninode("n")).status.removing)
        await asyncio.sleep(5)
        scene.operator("second")
        took_s = await scene.until(lambda: alone(scene), f"done after a crash {moment} {STEPS[number]}", 900)
        if begun and len(scene.attached("n")) == 1:
            assert took_s < 600
        await asyncio.sleep(300)
        assert agent.lost == []
        assert await scene.provisioned("n") == 9
        await scene.check_sound()

    run_virtual(scenario())


@pytest.mark.parametrize("effect", [Effect.LOST, Effect.REFUSE_AFTER, Effect.REFUSE])
@pytest.mark.parametrize("verb", ["DetachNetworkInterface", "DeleteNetworkInterface", "UnassignPrivateIpAddresses"])
def test_an_unknown_outcome_of_a_removal_is_read_again_and_ends_well(verb: str, effect: Effect) -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene)
        scene.physics.add(Fault(verb, effect=effect, code="InternalError", http_status=500, times=2))
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(1)
        await scene.until(lambda: alone(scene), "one ENI", 900)
        await asyncio.sleep(60)
        assert agent.lost == []
        await scene.check_sound()

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        ("DetachNetworkInterface", "IncorrectState"),
        ("DetachNetworkInterface", "UnauthorizedOperation"),
        ("DetachNetworkInterface", "RequestLimitExceeded"),
        ("DeleteNetworkInterface", "InvalidNetworkInterface.InUse"),
        ("DeleteNetworkInterface", "InvalidNetworkInterfaceID.NotFound"),
        ("DeleteNetworkInterface", "OperationNotPermitted"),
    ],
)
def test_a_refused_removal_is_tried_again_and_ends_when_ec2_lets_it(verb: str, code: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene)
        scene.physics.add(Fault(verb, code=code, times=4))
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(1)
        await scene.until(lambda: alone(scene), "one ENI", 1200)
        assert agent.lost == []

    run_virtual(scenario())


def test_an_eni_that_someone_else_took_meanwhile_is_left_alone() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.detach_delay_s = 60.0
        agent = await begin(scene)
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(1)

        async def detaching() -> bool:
            return scene.calls("DetachNetworkInterface") == 2

        await scene.until(detaching, "both are on their way", 600)
        taken = (await scene.eninode("n")).status.removing[0]
        scene.model.create_tags((taken,), {TAG_CLUSTER: "other"})

        async def settled() -> bool:
            return not (await scene.eninode("n")).status.removing

        await scene.until(settled, "settled", 600)
        await asyncio.sleep(1800)
        assert {each.id for each in scene.detached()} == {taken}

    run_virtual(scenario())
