"""Whole ENIs go back: idle for long, with the agent's word, detached before deleted, by whoever leads."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.pool_agents import NodeAgent
from support.removal import QUICK, alone, begin, full, holds
from support.virtual_loop import run_virtual

from enitide_ipam.model import TAG_CLUSTER
from enitide_kube.port import ENICLASS
from enitide_lab.ec2model.limits import make_type

pytestmark = pytest.mark.sim


def test_idle_enis_are_detached_and_deleted_after_their_delay_and_nothing_flaps() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.detach_delay_s = 8.0
        agent = await begin(scene)
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(1)
        began = scene.loop.time()
        await scene.until(lambda: alone(scene), "one ENI", 600)
        assert scene.loop.time() - began > 150  # delay and idleInterfaceDelay
        assert await scene.provisioned("n") == 9  # 1 + 4 + 4 is high, and the first ENI holds 9
        calls = scene.mutations()
        await asyncio.sleep(3600)
        assert scene.mutations() == calls
        assert scene.calls("DetachNetworkInterface") == scene.calls("DeleteNetworkInterface") == 2
        assert agent.lost == []
        await scene.check_sound()

    run_virtual(scenario())


def test_a_whole_day_of_the_class_as_it_comes_keeps_to_ten_minutes() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        agent = NodeAgent(scene, "n")
        await agent.use(20)
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(0)
        took_s = await scene.until(lambda: alone(scene), "one ENI", 1200)
        assert 180 + 600 <= took_s < 180 + 600 + 120
        assert await scene.provisioned("n") == 8
        assert agent.lost == []

    run_virtual(scenario())


def test_an_eni_with_a_pod_stays_however_long_and_goes_when_the_pod_does() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene, pool={"preAllocate": 0, "maxAboveWatermark": 0})
        scene.operator()
        await scene.until(lambda: full(scene, 20), "three ENIs", 60)
        await scene.until(lambda: holds(agent, 20), "the pods run", 10)
        held = set(agent.held())
        await agent.use(10)  # one of them on the second ENI
        await scene.until(lambda: alone(scene, 2), "two ENIs", 600)
        await asyncio.sleep(3600)
        assert len(scene.attached("n")) == 2
        assert set(agent.held()) < held
        await agent.use(9)
        await scene.until(lambda: alone(scene, 1), "one ENI", 900)
        assert agent.lost == []

    run_virtual(scenario())


def test_a_silent_agent_loses_nothing_and_is_told_of() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene)
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(1)
        await asyncio.sleep(35)
        agent.silence(silent=True)
        before = scene.mutations()
        await asyncio.sleep(3600)
        conditions = {each.type for each in (await scene.eninode("n")).status.conditions}
        assert scene.mutations() == before
        assert "AgentSilent" in conditions
        agent.silence(silent=False)
        await scene.until(lambda: alone(scene), "one ENI once it speaks again", 900)
        assert agent.lost == []

    run_virtual(scenario())


def test_an_agent_that_falls_silent_while_an_eni_drains_keeps_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene)
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(1)

        async def emptied() -> bool:
            return any(not each.addresses[1:] for each in scene.attached("n"))

        await scene.until(emptied, "an ENI without addresses", 300)
        agent.silence(silent=True)
        await asyncio.sleep(1800)
        assert len(scene.attached("n")) == 3
        assert scene.calls("DetachNetworkInterface") == 0
        draining = [each for each in (await scene.eninode("n")).status.interfaces if each.draining]
        assert len(draining) == 2

    run_virtual(scenario())


def test_demand_that_returns_while_an_eni_is_idle_takes_that_eni_and_makes_none() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene)
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        ids = {each.id for each in scene.attached("n")}
        for _ in range(3):
            await agent.use(1)
            await asyncio.sleep(120)  # given back, not yet idle for two minutes
            await agent.use(20)
            await scene.until(lambda: full(scene), "filled again", 60)
        assert {each.id for each in scene.attached("n")} == ids
        assert scene.calls("CreateNetworkInterface") == 2
        assert agent.lost == []
        await scene.check_sound()

    run_virtual(scenario())


def test_demand_that_returns_while_enis_are_on_their_way_out_waits_for_their_places_only() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.detach_delay_s = 20.0
        agent = await begin(scene)
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(1)

        async def going() -> bool:
            return len((await scene.eninode("n")).status.removing) == 2

        await scene.until(going, "both are on their way out", 600)
        await agent.use(20)
        await asyncio.sleep(10)
        assert await scene.ready_reason("n") == "Filling"
        await scene.until(lambda: full(scene), "new ENIs in their places", 90)
        await asyncio.sleep(60)
        assert agent.lost == []
        await scene.check_sound()

    run_virtual(scenario())


def test_enis_of_prefixes_go_once_every_block_on_them_is_unused() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.extra_types["pd.test"] = make_type("pd.test", cards=(3,), ipv4=3)  # two /28s an ENI
        await scene.install(release=QUICK, prefixDelegation=True, pool={"preAllocate": 0, "maxAboveWatermark": 0})
        await scene.node("n", "pd.test")
        agent = NodeAgent(scene, "n")
        scene.operator()
        await agent.use(60)
        await scene.until(lambda: full(scene, 64), "four /28s on two ENIs", 60)
        await scene.until(lambda: holds(agent, 60), "the pods run", 10)
        await agent.use(33)  # one pod in the third block keeps its ENI
        await asyncio.sleep(1800)
        assert await scene.provisioned("n") == 48
        assert len(scene.attached("n")) == 2
        await agent.use(32)
        await scene.until(lambda: alone(scene), "one ENI", 900)
        assert await scene.provisioned("n") == 32
        assert agent.lost == []
        await scene.check_sound()

    run_virtual(scenario())


def test_only_enis_with_this_clusters_own_tag_are_removed() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(release=QUICK)
        await scene.node("n", "m5.xlarge")
        for index, tags in ((1, {}), (2, {TAG_CLUSTER: "other"})):
            made = scene.model.create_network_interface(scene.subnet, groups=(scene.group,), tags=tags)
            scene.model.attach_network_interface(made.id, scene.instances["n"], index)
        agent = NodeAgent(scene, "n")
        scene.operator()
        await agent.use(38)  # fills the three ENIs of 14 that are not another cluster's
        await scene.until(lambda: full(scene, 42), "three ENIs", 60)
        await agent.use(0)
        await scene.until(lambda: alone(scene, 3), "ours is gone", 900)
        await asyncio.sleep(3600)
        assert {each.attachment.index for each in scene.attached("n") if each.attachment} == {0, 1, 2}
        assert scene.calls("DetachNetworkInterface") == 1
        assert await scene.provisioned("n") == 8

    run_virtual(scenario())


def test_without_a_cluster_name_no_eni_is_removed() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene)
        scene.operator(cluster_name="")
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(0)
        await asyncio.sleep(3600)
        assert len(scene.attached("n")) == 3
        assert await scene.provisioned("n") == 8

    run_virtual(scenario())


@pytest.mark.parametrize("pool", [{"minAllocate": 12}, {"preAllocate": 10}])
def test_no_eni_is_removed_whose_addresses_the_tide_wants(pool: dict) -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene, pool=pool | {"maxAboveWatermark": 0})
        scene.operator()
        await scene.until(lambda: full(scene, 20), "three ENIs", 60)
        await agent.use(0)
        await scene.until(lambda: alone(scene, 2), "two ENIs", 900)
        calls = scene.mutations()
        await asyncio.sleep(7200)
        assert len(scene.attached("n")) == 2
        assert scene.mutations() == calls
        assert await scene.provisioned("n") == max(pool.values())

    run_virtual(scenario())


def test_own_addresses_that_serve_pods_go_with_their_eni_and_never_while_held() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(
            scene, interfaces={"usePrimaryAddress": True}, pool={"preAllocate": 0, "maxAboveWatermark": 0}
        )
        scene.operator()
        await agent.use(29)  # 9 + 10 + 10
        await scene.until(lambda: full(scene, 29), "three ENIs", 60)
        await scene.until(lambda: holds(agent, 29), "the pods run", 10)
        primaries = {each.primary for each in scene.attached("n")}
        assert len(set(agent.held()) & primaries) == 2
        await agent.use(9)
        await scene.until(lambda: alone(scene), "one ENI", 900)
        await asyncio.sleep(1800)
        assert await scene.provisioned("n") == 9
        assert agent.lost == []
        await agent.use(12)
        await scene.until(lambda: full(scene, 12), "two ENIs again", 60)
        assert agent.lost == []

    run_virtual(scenario())


def test_release_that_is_switched_off_keeps_idle_enis() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await begin(scene, release={"enabled": False})
        scene.operator()
        await scene.until(lambda: full(scene), "three ENIs", 60)
        await agent.use(0)
        await asyncio.sleep(3600)
        assert len(scene.attached("n")) == 3
        await scene.kube.patch(ENICLASS, "default", {"spec": {"release": {"enabled": True, **QUICK}}})
        await scene.until(lambda: alone(scene), "one ENI once it is on", 900)

    run_virtual(scenario())
