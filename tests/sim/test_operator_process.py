"""What is left of an operator that dies: what it had sent arrives, and nothing else of it reaches anything.

Simulator and tests share the process, so that a crash is the same in both.
"""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_lab.apistore.faults import Fault as KubeFault

pytestmark = pytest.mark.sim

ON_ITS_WAY_S = 5.0


async def _published(scene: Scene) -> bool:
    return bool((await scene.eninode("n")).status.conditions)


async def _leading_with_a_node(scene: Scene):
    await scene.install()
    operator = scene.operator()
    await scene.until(lambda: asyncio.sleep(0, operator.engine.leading), "it leads")
    await scene.node("n")
    return operator


def test_a_status_write_that_is_on_its_way_takes_effect_though_its_sender_dies() -> None:
    async def scenario() -> None:
        scene = Scene()
        operator = await _leading_with_a_node(scene)
        scene.store.faults.add(KubeFault(kind="ENINode", delay_s=ON_ITS_WAY_S, client=operator.name))
        await scene.until(lambda: asyncio.sleep(0, bool(operator.events)), "it writes")
        await asyncio.sleep(0.01)
        operator.crash()
        assert not await _published(scene)
        await asyncio.sleep(ON_ITS_WAY_S + 1)
        assert await _published(scene)

    run_virtual(scenario())


def test_a_dead_operator_sends_nothing_more() -> None:
    async def scenario() -> None:
        scene = Scene()
        operator = await _leading_with_a_node(scene)
        await scene.until(lambda: _published(scene), "it has written")
        operator.crash()
        await asyncio.sleep(1)
        requests, calls = scene.store.requests.total(), scene.physics.counts.total()
        await scene.pods("n", 20)
        made = scene.store.requests.total()
        await asyncio.sleep(120)
        assert made - requests == 20, "only the pods that this test made"
        assert scene.store.requests.total() == made
        assert scene.physics.counts.total() == calls

    run_virtual(scenario())


def test_an_operator_stopped_in_good_order_is_not_dead_but_done() -> None:
    async def scenario() -> None:
        scene = Scene()
        operator = await _leading_with_a_node(scene)
        assert operator.alive
        await operator.stop()
        operator.check()
        assert not operator.alive
        assert not operator.crashed.is_set()

    run_virtual(scenario())
