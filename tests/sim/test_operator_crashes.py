"""A crash at any point of create -> attach -> modify, and any lost answer, ends in a sound pool.

Each case kills the operator at its n-th mutating call or status write, just before it or just after it took effect but
before the operator hears of it; 5 s later another process starts, waits for the Lease and has to clear up.
"""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_ipam.model import TAG_CLUSTER
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Effect, Fault

pytestmark = pytest.mark.sim


async def _cold_node(scene: Scene) -> None:
    await scene.install()
    await scene.node("n")
    await scene.pods("n", 20)


async def _filled(scene: Scene) -> bool:
    status = (await scene.eninode("n")).status
    return status.capacity.provisioned == 24 and not status.pending and len(scene.attached("n")) == 3


async def _flagged(scene: Scene) -> bool:
    return all(each.attachment and each.attachment.delete_on_termination for each in scene.attached("n"))


def _steps() -> list[str]:
    """The mutating calls and status writes of an undisturbed run, in their order."""
    found: list[str] = []

    async def scenario() -> None:
        scene = Scene()
        await _cold_node(scene)
        operator = scene.operator()
        await scene.until(lambda: _filled(scene), "the pool is filled")
        await asyncio.sleep(2)
        found.extend(operator.events)

    run_virtual(scenario())
    return found


STEPS = _steps()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_a_crash_at_any_call_or_write_is_cleared_up_within_a_minute(number: int, moment: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        await _cold_node(scene)
        first = scene.operator("first", crash_at=(number, moment))
        await asyncio.wait_for(first.crashed.wait(), 60)
        await asyncio.sleep(5)
        scene.operator("second")
        await scene.until(lambda: _filled(scene), f"the pool is filled after a crash {moment} {STEPS[number - 1]}", 60)
        await scene.until(lambda: _flagged(scene), "every ENI goes with its instance", 60)
        await asyncio.sleep(30)
        await scene.check_sound()
        assert await scene.provisioned("n") == 24
        assert {each.tags.get(TAG_CLUSTER) for each in scene.attached("n")} == {None, "sim"}

    run_virtual(scenario())


@pytest.mark.parametrize("effect", [Effect.LOST, Effect.REFUSE_AFTER, Effect.REFUSE])
@pytest.mark.parametrize(
    "verb",
    [
        "CreateNetworkInterface",
        "AttachNetworkInterface",
        "ModifyNetworkInterfaceAttribute",
        "AssignPrivateIpAddresses",
    ],
)
def test_an_unknown_outcome_is_read_again_and_never_doubled(verb: str, effect: Effect) -> None:
    async def scenario() -> None:
        scene = Scene()
        await _cold_node(scene)
        scene.physics.add(Fault(verb, effect=effect, code="InternalError", http_status=500, times=1))
        scene.operator()
        await scene.until(lambda: _filled(scene), "the pool is filled", 90)
        await asyncio.sleep(60)
        await scene.check_sound()
        assert await scene.provisioned("n") == 24
        assert len(scene.attached("n")) == 3

    run_virtual(scenario())


@pytest.mark.parametrize("visible_after_s", [3.0, 8.0])
def test_eventual_consistency_of_reads_never_doubles_or_loses_an_eni(visible_after_s: float) -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.visible_after_s = visible_after_s
        await _cold_node(scene)
        scene.physics.add(Fault("CreateNetworkInterface", effect=Effect.LOST, times=1))
        scene.operator()
        await scene.until(lambda: _filled(scene), "the pool is filled", 120)
        await asyncio.sleep(60)
        await scene.check_sound()
        assert len(scene.attached("n")) == 3

    run_virtual(scenario())


def test_an_intent_whose_write_lost_its_answer_becomes_an_eni_at_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        await _cold_node(scene)
        lost = KubeFault(kind="ENINode", verbs=frozenset({"patch"}), code=500, lost=True, times=1)
        scene.store.faults.add(lost)
        scene.operator()
        assert await scene.until(lambda: _filled(scene), "the pool is filled", 90) < 10
        assert lost.times == 0
        await asyncio.sleep(60)
        await scene.check_sound()
        assert len(scene.attached("n")) == 3
        assert scene.calls("CreateNetworkInterface") == 2

    run_virtual(scenario())


def test_an_occupied_index_is_left_for_the_next_free_one() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n", "m5.xlarge")
        operator = scene.operator()

        async def at_rest() -> bool:
            return await scene.provisioned("n") >= 8

        await scene.until(at_rest, "the first pool")
        # someone attaches by hand at index 1, which the operator has not read yet
        foreign = scene.model.create_network_interface(scene.subnet, groups=(scene.group,))
        scene.model.attach_network_interface(foreign.id, scene.instances["n"], 1)
        await scene.pods("n", 20)

        async def filled() -> bool:
            return await scene.provisioned("n") >= 24 and not scene.detached()

        await scene.until(filled, "the pool is filled beside the foreign ENI", 60)
        await asyncio.sleep(30)
        places = {each.attachment.index for each in scene.attached("n") if each.attachment}
        assert places >= {0, 1, 2}
        assert not scene.detached()
        assert not (await scene.eninode("n")).status.pending
        assert scene.calls("DeleteNetworkInterface") == 0
        assert operator.metrics.calls["AttachNetworkInterface", "InvalidParameterValue"] == 1

    run_virtual(scenario())


def test_an_eni_that_cannot_be_attached_for_good_is_deleted_and_the_reason_is_shown() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 12)
        scene.physics.add(Fault("AttachNetworkInterface", code="AttachmentLimitExceeded", http_status=400))
        scene.operator()

        async def told() -> bool:
            return await scene.ready_reason("n") == "LimitExceeded"

        await scene.until(told, "the reason is shown", 20)
        await asyncio.sleep(20)
        assert len(scene.detached()) <= 1  # one may be between its Create and its Delete
        made = scene.calls("CreateNetworkInterface")
        await asyncio.sleep(300)
        assert scene.calls("CreateNetworkInterface") - made <= 12  # backed off, not hammered
        scene.physics.remove()

        async def filled() -> bool:
            return await scene.provisioned("n") >= 12

        await scene.until(filled, "the pool is filled once EC2 lets it", 120)
        await asyncio.sleep(30)
        await scene.check_sound()

    run_virtual(scenario())
