"""The agent's reporting under a virtual clock, on the API store itself: what is written at once, and what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.virtual_loop import run_virtual

from enitide_api import resources
from enitide_api.crds import definitions
from enitide_api.resources import (
    Capacity,
    ClassStatus,
    Demand,
    ENINode,
    ENINodeStatus,
    InstanceFacts,
    Interface,
    Reclaim,
)
from enitide_enidp.journal import Journal
from enitide_enidp.memory import Memory
from enitide_enidp.report import Reporter, decode
from enitide_enidp.waits import Waits
from enitide_ipam.pool import Grant, Pool
from enitide_ipam.records import PodRef
from enitide_kube.port import CRD, ENINODE
from enitide_kube.reflector import Reflector
from enitide_lab.apistore.faults import Fault
from enitide_lab.apistore.port import StoreKube
from enitide_lab.apistore.store import Store

pytestmark = pytest.mark.sim

NODE = "node-a"
INSTANCE = InstanceFacts(id="i-1", type="m5.large", availability_zone="z", vpc_id="v", subnet_id="s")


class World:
    """One agent's memory and reporter on a store; the test is the operator."""

    def __init__(self, folder: Path) -> None:
        self.kube = StoreKube(Store())
        loop = asyncio.get_running_loop()
        self.memory = Memory(Pool("i-1", cooldown_s=30.0), Journal(folder / "journal"), loop.time)
        self.waits = Waits(loop.time)
        self.reporter = Reporter(self.kube, NODE, INSTANCE, self.memory, waits=self.waits, rng=Random(1))
        self.pods = 0
        self.published = ""
        self.rested_on: list[str] = []
        self._watch_patches()

    def _watch_patches(self) -> None:
        """Note the version that each write of spec.yielded carries."""
        patch = self.kube.patch

        async def noting(kind: Any, name: str, body: Any, **more: Any) -> bytes:
            if "yielded" in body.get("spec", {}):
                self.rested_on.append(body.get("metadata", {}).get("resourceVersion", ""))
            return await patch(kind, name, body, **more)

        self.kube.patch = noting  # type: ignore[method-assign]

    async def eninode(self) -> ENINode:
        return decode(await self.kube.get(ENINODE, NODE))

    async def publish(self, addresses: int, *, reclaim: int = 0) -> None:
        held = tuple(f"10.0.1.{10 + i}" for i in range(addresses))
        status = ENINodeStatus(
            instance_id="i-1",
            class_=ClassStatus(report_interval="60s"),
            capacity=Capacity(slots=100, used_slots=addresses, provisioned=addresses),
            interfaces=(Interface(id="eni-1", card=0, index=1, addresses=held),),
            reclaim=Reclaim(count=reclaim, since="2026-01-01T00:00:00Z") if reclaim else None,
        )
        patch = {"status": {"reclaim": None} | resources.builtins(status)}
        reply = decode(await self.kube.patch(ENINODE, NODE, patch, subresource="status"))
        self.published = reply.metadata.resource_version
        await asyncio.sleep(0.5)
        self.memory.pool.set_ready(["eni-1"])
        self.memory.changed()

    def hold(self, count: int) -> None:
        for _ in range(count):
            self.pods += 1
            pod = PodRef("ns", f"p{self.pods}", f"uid-{self.pods}")
            answer = self.memory.pool.reserve(pod, self.memory.now())
            assert isinstance(answer, Grant)
            self.memory.keep(answer.records)


def scenario(tmp_path: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        world = World(tmp_path)
        for crd in definitions().values():
            await world.kube.create(CRD, crd)

        def heard(_key: str, _old: Any, new: ENINode | None) -> None:
            world.reporter.observe(new)

        mirror = Reflector(world.kube, ENINODE, decode, rng=Random(2), on_change=heard)
        tasks = [asyncio.ensure_future(mirror.run()), asyncio.ensure_future(world.reporter.run())]
        await asyncio.sleep(1)
        try:
            await story(world)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(play())


def test_a_new_deficit_is_written_at_once_in_one_write_and_other_changes_wait(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert (await world.eninode()).spec.instance == INSTANCE
        await world.publish(10)
        writes = world.reporter.writes
        world.hold(3)
        await asyncio.sleep(30)
        assert world.reporter.writes == writes, "7 of 10 are free: nothing hurries"
        await asyncio.sleep(45)
        assert (await world.eninode()).spec.demand.in_use == 3
        assert world.reporter.writes == writes + 1
        world.hold(4)
        await asyncio.sleep(1)
        assert (await world.eninode()).spec.demand.in_use == 7, "7 + 4 wanted free is more than 10"
        assert world.reporter.writes == writes + 2
        await asyncio.sleep(3600)
        assert world.reporter.writes == writes + 2, "unchanged is never written"

    scenario(tmp_path, story)


def test_a_reclaim_is_answered_at_once_and_withdrawn_addresses_are_used_again(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.publish(10)
        world.hold(1)
        await world.publish(10, reclaim=4)
        await asyncio.sleep(1)
        yielded = (await world.eninode()).spec.yielded
        assert len(yielded) == 4
        assert world.rested_on == [world.published], "what is yielded rests on the status it answers"
        await world.publish(10)
        await asyncio.sleep(1)
        assert (await world.eninode()).spec.yielded == ()
        world.hold(9)
        assert world.memory.pool.out_of_use() == ()

    scenario(tmp_path, story)


def test_a_deleted_eninode_is_made_again_and_a_spec_that_someone_changed_is_put_right(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.kube.delete(ENINODE, NODE)
        await asyncio.sleep(5)
        assert (await world.eninode()).spec.instance.id == "i-1"
        await world.kube.patch(ENINODE, NODE, {"spec": {"instance": {"id": "i-other"}}})
        await asyncio.sleep(5)
        assert (await world.eninode()).spec.instance.id == "i-1"

    scenario(tmp_path, story)


def test_an_eninode_made_anew_takes_nothing_from_the_pool_before_the_operator_has_spoken(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.publish(10)
        world.hold(3)
        await world.kube.delete(ENINODE, NODE)
        await asyncio.sleep(5)
        assert (await world.eninode()).status.instance_id == ""
        assert world.memory.pool.provisioned() == 10
        await world.publish(4)
        assert world.memory.pool.provisioned() == 4

    scenario(tmp_path, story)


def test_with_the_api_server_failing_it_waits_with_the_reason_and_then_catches_up(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.publish(4)
        world.kube.store.faults.add(Fault(kind="ENINode", verbs=frozenset({"patch"}), code=503, times=5))
        world.hold(4)
        await asyncio.sleep(1)
        assert "APIUnavailable" in [wait.reason for wait in world.waits.all()]
        await asyncio.sleep(120)
        assert (await world.eninode()).spec.demand.in_use == 4
        assert world.waits.all() == ()

    scenario(tmp_path, story)


def test_a_write_whose_answer_is_lost_is_neither_repeated_for_ever_nor_forgotten(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.publish(10)
        world.kube.store.faults.add(Fault(kind="ENINode", verbs=frozenset({"patch"}), code=504, lost=True, times=1))
        world.hold(8)
        await asyncio.sleep(10)
        assert (await world.eninode()).spec.demand.in_use == 8
        before = world.kube.store.version
        await asyncio.sleep(600)
        assert world.kube.store.version == before

    scenario(tmp_path, story)


def test_that_addresses_have_cooled_is_told_although_nothing_else_happens(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.publish(20)
        world.hold(12)
        await asyncio.sleep(120)
        pool = world.memory.pool
        for number in range(12):
            assert isinstance(
                pool.allocate(f"c{number}/eth0", PodRef(uid=f"uid-{number + 1}"), world.memory.now()), Grant
            )
        for number in range(12):
            world.memory.keep(pool.release(f"c{number}/eth0", world.memory.now()))
            await asyncio.sleep(5)
        await asyncio.sleep(200)
        assert (await world.eninode()).spec.demand == Demand()

    scenario(tmp_path, story)
