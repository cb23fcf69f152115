"""`enitide gc` on the strict EC2: it deletes what the sweep would, and nothing else."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_ipam.model import TAG_CLUSTER, TAG_NODE, TAG_TOKEN
from enitide_kube.port import ENINODE
from enitide_lab.ec2model import Fault
from enitide_lab.ec2model.port import ModelEc2
from enitide_operator.cli import sweeping as gc
from enitide_operator.cli.aws import _Unbound
from enitide_operator.ec2.budget import Budget
from enitide_operator.ec2.gateway import Gateway

pytestmark = pytest.mark.sim


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Time:
        @staticmethod
        def time() -> float:
            loop: Any = asyncio.get_running_loop()
            return float(loop.wall().timestamp())

    monkeypatch.setattr(gc, "time", Time)


def gateway(scene: Scene) -> Gateway:
    unbound = _Unbound()
    ec2 = ModelEc2(scene.model, scene.physics, "cli")
    return Gateway(ec2, Budget(), unbound, unbound, now=scene.unix, rng=Random(1))


def leak(scene: Scene, cluster: str = "sim", **tags: str) -> str:
    made = scene.model.create_network_interface(
        scene.subnet, secondary_count=3, tags={TAG_CLUSTER: cluster, TAG_NODE: "gone"} | tags
    )
    return str(made.id)


def test_a_dry_run_names_what_would_go_and_deletes_nothing() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        mine, theirs = leak(scene), leak(scene, "other")
        found = await gc.collect(scene.kube, gateway(scene), "sim", dry_run=True)
        rows = {each["eni"]: each for each in (gc.row(one, None, dry_run=True) for one in found.plan.findings)}
        assert rows[mine]["verdict"] == "would delete"
        assert (rows[mine]["addresses"], rows[mine]["node"]) == (4, "gone")
        assert theirs not in rows  # not even listed: it is asked for by our tag
        assert gc.sentence(found, "sim", dry_run=True) == "1 would be deleted, 0 spared; nothing was done."
        assert {each.id for each in scene.detached()} == {mine, theirs}

    run_virtual(scenario())


def test_without_it_what_is_leaked_in_both_looks_goes_and_the_rest_stays() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        mine, theirs, late = leak(scene), leak(scene, "other"), ""
        intended = leak(scene, **{TAG_TOKEN: "enitide-1"})
        pending = {"token": "enitide-1", "since": "2030-01-01T00:00:00Z", "card": 0, "index": 1, "count": 3}
        await scene.kube.patch(ENINODE, "n", {"status": {"pending": [pending]}}, subresource="status")
        task = asyncio.create_task(gc.collect(scene.kube, gateway(scene), "sim", dry_run=False))
        await asyncio.sleep(30)
        late = leak(scene)  # seen once only
        found = await task
        assert found.done == {mine: "deleted"}
        assert {each.id for each in scene.detached()} == {theirs, intended, late}
        assert gc.sentence(found, "sim", dry_run=False) == "1 deleted, 4 addresses given back; 2 left."

    run_virtual(scenario())


def test_one_that_is_attached_meanwhile_is_spared() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        instance = await scene.node("n")
        mine = leak(scene)
        task = asyncio.create_task(gc.collect(scene.kube, gateway(scene), "sim", dry_run=False))
        await asyncio.sleep(30)
        scene.model.attach_network_interface(mine, instance, 1)
        found = await task
        assert found.done == {}
        assert mine in {each.id for each in scene.attached("n")}

    run_virtual(scenario())


def test_what_may_not_be_deleted_is_said_and_holds_back_no_other() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        one, other = leak(scene), leak(scene)
        code = "UnauthorizedOperation"
        scene.physics.add(Fault("DeleteNetworkInterface", code=code, http_status=403, times=1))
        found = await gc.collect(scene.kube, gateway(scene), "sim", dry_run=False)
        assert sorted(each.partition(":")[0] for each in found.done.values()) == ["deleted", "failed"]
        assert len(scene.detached()) == 1
        assert {one, other} == set(found.done)

    run_virtual(scenario())


def test_without_leaks_it_says_so_at_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        began = scene.loop.time()
        found = await gc.collect(scene.kube, gateway(scene), "sim", dry_run=False)
        assert "nothing is leaked" in gc.sentence(found, "sim", dry_run=False)
        assert scene.loop.time() - began < 5

    run_virtual(scenario())
