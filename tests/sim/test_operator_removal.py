"""Whole ENIs go back: idle for long, with the agent's word, detached before deleted, by whoever leads."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.pool_agents import NodeAgent
from support.virtual_loop import run_virtual

from enitide_ipam.model import TAG_CLUSTER
from enitide_kube.port import ENICLASS
from enitide_lab.ec2model import Effect, Fault
from enitide_lab.ec2model.limits import make_type

pytestmark = pytest.mark.sim

QUICK = {"delay": "30s", "idleInterfaceDelay": "2m"}


async def _full(scene: Scene, provisioned: int = 24) -> bool:
    status = (await scene.eninode("n")).status
    return status.capacity.provisioned >= provisioned and not status.pending


async def _alone(scene: Scene, enis: int = 1) -> bool:
    """Down to so many ENIs, everything settled; all but another cluster's are published."""
    status = (await scene.eninode("n")).status
    settled = not (status.releasing or status.removing or status.reclaim)
    attached = scene.attached("n")
    ours = [each for each in attached if each.tags.get(TAG_CLUSTER) != "other"]
    return len(attached) == enis and len(ours) == len(status.interfaces) and settled and not scene.detached()


async def _holds(agent: NodeAgent, count: int) -> bool:
    return len(agent.held()) == count


async def _begin(scene: Scene, **class_spec: object) -> NodeAgent:
    """A node with three ENIs and 20 pods on them."""
    await scene.install(**({"release": QUICK} | class_spec))
    await scene.node("n")
    agent = NodeAgent(scene, "n")
    await agent.use(20)
    return agent


def test_idle_enis_are_detached_and_deleted_after_their_delay_and_nothing_flaps() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.detach_delay_s = 8.0
        agent = await _begin(scene)
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await agent.use(1)
        began = scene.loop.time()
        await scene.until(lambda: _alone(scene), "one ENI", 600)
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
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await agent.use(0)
        took_s = await scene.until(lambda: _alone(scene), "one ENI", 1200)
        assert 180 + 600 <= took_s < 180 + 600 + 120
        assert await scene.provisioned("n") == 8
        assert agent.lost == []

    run_virtual(scenario())


def test_an_eni_with_a_pod_stays_however_long_and_goes_when_the_pod_does() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await _begin(scene, pool={"preAllocate": 0, "maxAboveWatermark": 0})
        scene.operator()
        await scene.until(lambda: _full(scene, 20), "three ENIs", 60)
        await scene.until(lambda: _holds(agent, 20), "the pods run", 10)
        held = set(agent.held())
        await agent.use(10)  # one of them on the second ENI
        await scene.until(lambda: _alone(scene, 2), "two ENIs", 600)
        await asyncio.sleep(3600)
        assert len(scene.attached("n")) == 2
        assert set(agent.held()) < held
        await agent.use(9)
        await scene.until(lambda: _alone(scene, 1), "one ENI", 900)
        assert agent.lost == []

    run_virtual(scenario())


def test_a_silent_agent_loses_nothing_and_is_told_of() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await _begin(scene)
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await agent.use(1)
        await asyncio.sleep(35)
        agent.silence(silent=True)
        before = scene.mutations()
        await asyncio.sleep(3600)
        conditions = {each.type for each in (await scene.eninode("n")).status.conditions}
        assert scene.mutations() == before
        assert "AgentSilent" in conditions
        agent.silence(silent=False)
        await scene.until(lambda: _alone(scene), "one ENI once it speaks again", 900)
        assert agent.lost == []

    run_virtual(scenario())


def test_an_agent_that_falls_silent_while_an_eni_drains_keeps_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await _begin(scene)
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
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
        agent = await _begin(scene)
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        ids = {each.id for each in scene.attached("n")}
        for _ in range(3):
            await agent.use(1)
            await asyncio.sleep(120)  # given back, not yet idle for two minutes
            await agent.use(20)
            await scene.until(lambda: _full(scene), "filled again", 60)
        assert {each.id for each in scene.attached("n")} == ids
        assert scene.calls("CreateNetworkInterface") == 2
        assert agent.lost == []
        await scene.check_sound()

    run_virtual(scenario())


def test_demand_that_returns_while_enis_are_on_their_way_out_waits_for_their_places_only() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.detach_delay_s = 20.0
        agent = await _begin(scene)
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await agent.use(1)

        async def going() -> bool:
            return len((await scene.eninode("n")).status.removing) == 2

        await scene.until(going, "both are on their way out", 600)
        await agent.use(20)
        await asyncio.sleep(10)
        assert await scene.ready_reason("n") == "Filling"
        await scene.until(lambda: _full(scene), "new ENIs in their places", 90)
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
        await scene.until(lambda: _full(scene, 64), "four /28s on two ENIs", 60)
        await scene.until(lambda: _holds(agent, 60), "the pods run", 10)
        await agent.use(33)  # one pod in the third block keeps its ENI
        await asyncio.sleep(1800)
        assert await scene.provisioned("n") == 48
        assert len(scene.attached("n")) == 2
        await agent.use(32)
        await scene.until(lambda: _alone(scene), "one ENI", 900)
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
        await scene.until(lambda: _full(scene, 42), "three ENIs", 60)
        await agent.use(0)
        await scene.until(lambda: _alone(scene, 3), "ours is gone", 900)
        await asyncio.sleep(3600)
        assert {each.attachment.index for each in scene.attached("n") if each.attachment} == {0, 1, 2}
        assert scene.calls("DetachNetworkInterface") == 1
        assert await scene.provisioned("n") == 8

    run_virtual(scenario())


def test_without_a_cluster_name_no_eni_is_removed() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await _begin(scene)
        scene.operator(cluster_name="")
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await agent.use(0)
        await asyncio.sleep(3600)
        assert len(scene.attached("n")) == 3
        assert await scene.provisioned("n") == 8

    run_virtual(scenario())


@pytest.mark.parametrize("pool", [{"minAllocate": 12}, {"preAllocate": 10}])
def test_no_eni_is_removed_whose_addresses_the_tide_wants(pool: dict) -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await _begin(scene, pool=pool | {"maxAboveWatermark": 0})
        scene.operator()
        await scene.until(lambda: _full(scene, 20), "three ENIs", 60)
        await agent.use(0)
        await scene.until(lambda: _alone(scene, 2), "two ENIs", 900)
        calls = scene.mutations()
        await asyncio.sleep(7200)
        assert len(scene.attached("n")) == 2
        assert scene.mutations() == calls
        assert await scene.provisioned("n") == max(pool.values())

    run_virtual(scenario())


def test_own_addresses_that_serve_pods_go_with_their_eni_and_never_while_held() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await _begin(
            scene, interfaces={"usePrimaryAddress": True}, pool={"preAllocate": 0, "maxAboveWatermark": 0}
        )
        scene.operator()
        await agent.use(29)  # 9 + 10 + 10
        await scene.until(lambda: _full(scene, 29), "three ENIs", 60)
        await scene.until(lambda: _holds(agent, 29), "the pods run", 10)
        primaries = {each.primary for each in scene.attached("n")}
        assert len(set(agent.held()) & primaries) == 2
        await agent.use(9)
        await scene.until(lambda: _alone(scene), "one ENI", 900)
        await asyncio.sleep(1800)
        assert await scene.provisioned("n") == 9
        assert agent.lost == []
        await agent.use(12)
        await scene.until(lambda: _full(scene, 12), "two ENIs again", 60)
        assert agent.lost == []

    run_virtual(scenario())


# --- crashes and refusals ---


def _steps() -> list[str]:
    """The mutating calls and status writes of an undisturbed giving back, in their order, from the first of them."""
    found: list[str] = []

    async def scenario() -> None:
        scene = Scene()
        agent = await _begin(scene)
        operator = scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await asyncio.sleep(5)
        done = len(operator.events)
        await agent.use(1)
        await scene.until(lambda: _alone(scene), "one ENI", 900)
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
        agent = await _begin(scene)
        first = scene.operator("first")
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await asyncio.sleep(5)
        first.crash_at = (len(first.events) + number, moment)
        await agent.use(1)
        await asyncio.wait_for(first.crashed.wait(), 600)
        begun = bool((await scene.eninode("n")).status.removing)
        await asyncio.sleep(5)
        scene.operator("second")
        took_s = await scene.until(lambda: _alone(scene), f"done after a crash {moment} {STEPS[number]}", 900)
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
        agent = await _begin(scene)
        scene.physics.add(Fault(verb, effect=effect, code="InternalError", http_status=500, times=2))
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await agent.use(1)
        await scene.until(lambda: _alone(scene), "one ENI", 900)
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
        agent = await _begin(scene)
        scene.physics.add(Fault(verb, code=code, times=4))
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await agent.use(1)
        await scene.until(lambda: _alone(scene), "one ENI", 1200)
        assert agent.lost == []

    run_virtual(scenario())


def test_an_eni_that_someone_else_took_meanwhile_is_left_alone() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.detach_delay_s = 60.0
        agent = await _begin(scene)
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
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


def test_release_that_is_switched_off_keeps_idle_enis() -> None:
    async def scenario() -> None:
        scene = Scene()
        agent = await _begin(scene, release={"enabled": False})
        scene.operator()
        await scene.until(lambda: _full(scene), "three ENIs", 60)
        await agent.use(0)
        await asyncio.sleep(3600)
        assert len(scene.attached("n")) == 3
        await scene.kube.patch(ENICLASS, "default", {"spec": {"release": {"enabled": True, **QUICK}}})
        await scene.until(lambda: _alone(scene), "one ENI once it is on", 900)

    run_virtual(scenario())
