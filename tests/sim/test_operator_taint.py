"""The taint under virtual time: it follows what a node can give, touches nobody else's, and does not flap."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_kube.port import ENINODE, NODE
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Fault

pytestmark = pytest.mark.sim
OURS = {"key": "enitide.io/no-address", "effect": "NoSchedule"}


async def taints(scene: Scene, name: str = "n") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await scene.kube.get(NODE, name))["spec"].get("taints") or []
    return found


async def becomes(scene: Scene, tainted: bool, within_s: float) -> float:
    async def check() -> bool:
        return (OURS in await taints(scene)) is tainted

    return await scene.until(check, "tainted" if tainted else "not tainted", within_s)


def writes(scene: Scene) -> int:
    return sum(n for (_, verb, kind, _), n in scene.store.requests.items() if (verb, kind) == ("patch", "Node"))


def test_a_node_whose_addresses_do_not_come_is_tainted_within_seconds_and_freed_once_they_do() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="InsufficientFreeAddressesInSubnet"))
        scene.operator(taint_nodes=True)
        assert 9 < await becomes(scene, True, 30) < 20
        scene.physics.remove()
        await becomes(scene, False, 120)
        assert await scene.provisioned("n") >= 4
        assert writes(scene) == 2

    run_virtual(scenario())


def test_a_full_node_is_tainted_and_one_pod_that_leaves_does_not_make_it_flap() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")  # 27 addresses at most
        scene.operator(taint_nodes=True)
        await scene.spec("n", demand={"inUse": 27, "cooling": 0, "waiting": 1})
        await becomes(scene, True, 60)
        for _ in range(10):  # a pod leaves, another comes 20 s later
            await scene.spec("n", demand={"inUse": 26, "cooling": 0, "waiting": 0})
            await asyncio.sleep(20)
            await scene.spec("n", demand={"inUse": 27, "cooling": 0, "waiting": 0})
            await asyncio.sleep(5)
        assert OURS in await taints(scene)
        assert writes(scene) == 1
        await scene.spec("n", demand={"inUse": 26, "cooling": 0, "waiting": 0})
        assert 25 < await becomes(scene, False, 60) < 40

    run_virtual(scenario())


def test_a_taint_that_somebody_else_adds_meanwhile_stays() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="InsufficientFreeAddressesInSubnet"))
        scene.operator(taint_nodes=True)
        theirs: list[dict[str, Any]] = []
        for number in range(60):  # somebody edits the list ten times a second, right when ours is to come
            theirs = [{"key": f"t{number}", "effect": "NoSchedule"}]
            mine = [OURS] if OURS in await taints(scene) else []
            await scene.kube.patch(NODE, "n", {"spec": {"taints": [*theirs, *mine]}})
            await asyncio.sleep(0.3)
        await becomes(scene, True, 30)
        assert theirs[0] in await taints(scene)
        scene.physics.remove()
        await becomes(scene, False, 180)
        assert await taints(scene) == theirs

    run_virtual(scenario())


def test_a_refused_write_is_tried_again_later_and_never_hammered() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="InsufficientFreeAddressesInSubnet"))
        scene.store.faults.add(KubeFault(kind="Node", code=403, times=None, client="op"))
        scene.operator(taint_nodes=True)
        await asyncio.sleep(300)
        assert OURS not in await taints(scene)
        assert 2 <= writes(scene) <= 15
        scene.store.faults.clear()
        await becomes(scene, True, 130)

    run_virtual(scenario())


def test_a_taint_taken_away_by_hand_comes_back_while_there_is_nothing_to_give() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="InsufficientFreeAddressesInSubnet"))
        scene.operator(taint_nodes=True)
        await becomes(scene, True, 30)
        await scene.kube.patch(NODE, "n", {"spec": {"taints": None}})
        await becomes(scene, True, 5)

    run_virtual(scenario())


def test_with_its_eninode_the_taint_goes_too() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="InsufficientFreeAddressesInSubnet"))
        scene.operator(taint_nodes=True)
        await becomes(scene, True, 30)
        await scene.kube.delete(ENINODE, "n")
        await becomes(scene, False, 10)

    run_virtual(scenario())


def test_without_the_setting_no_node_is_written() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="InsufficientFreeAddressesInSubnet"))
        scene.operator()
        await asyncio.sleep(120)
        assert writes(scene) == 0

    run_virtual(scenario())
