"""Classes, prefixes, subnets and limits under virtual time."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_kube.port import ENICLASS
from enitide_lab.ec2model import Fault

pytestmark = pytest.mark.sim


async def _has(scene: Scene, node: str, at_least: int) -> bool:
    return await scene.provisioned(node) >= at_least


def test_prefixes_are_taken_where_the_class_wants_them() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(prefixDelegation=True)
        await scene.node("n")
        await scene.pods("n", 20)
        scene.operator()
        await scene.until(lambda: _has(scene, "n", 20), "enough")
        status = (await scene.eninode("n")).status
        assert [len(each.prefixes) for each in status.interfaces] == [2]
        assert scene.mutations() == 1
        await scene.check_sound()

    run_virtual(scenario())


@pytest.mark.parametrize("full", [True, False])
def test_an_agent_is_silent_only_if_it_has_something_idle_to_give_back(full: bool) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(prefixDelegation=True, pool={"minAllocate": 20}, release={"delay": "60s"})
        await scene.node("n")
        scene.operator()
        await scene.until(lambda: _has(scene, "n", 32), "two prefixes")
        prefixes = (await scene.eninode("n")).status.interfaces[0].prefixes[: 2 if full else 1]
        pods = [{"podUID": f"u-{each}", "addresses": [each.partition("/")[0]]} for each in prefixes]
        await scene.spec("n", demand={"inUse": len(pods), "cooling": 0, "waiting": 0}, endpoints=pods)
        await scene.kube.patch(ENICLASS, "default", {"spec": {"pool": {"minAllocate": 0}}})
        await asyncio.sleep(900)
        status = (await scene.eninode("n")).status
        assert status.reclaim is not None
        assert ("AgentSilent" in {each.type for each in status.conditions}) is not full

    run_virtual(scenario())


def test_where_no_whole_prefix_is_left_single_addresses_are_used_and_nothing_loops() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(prefixDelegation=True)
        await scene.node("n")
        scene.model.set_subnet_room(scene.subnet, 100, 0)
        scene.operator()
        await scene.until(lambda: _has(scene, "n", 4), "single addresses")
        await asyncio.sleep(120)
        assert scene.calls("AssignPrivateIpAddresses", "InsufficientCidrBlocks") <= 1
        await scene.check_sound()

    run_virtual(scenario())


def test_an_exhausted_subnet_is_named_and_the_node_recovers_by_itself_when_room_returns() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.node("m")
        scene.model.set_subnet_room(scene.subnet, 3, 0)
        scene.operator()

        async def told() -> bool:
            return "SubnetExhausted" in {await scene.ready_reason("n"), await scene.ready_reason("m")}

        await scene.until(told, "the reason", 10)
        await asyncio.sleep(5)
        calls = scene.mutations()
        await asyncio.sleep(1800)
        refused = sum(n for (verb, outcome), n in scene.physics.counts.items() if outcome.startswith("Insufficient"))
        assert scene.mutations() == calls
        assert refused <= 2
        scene.model.set_subnet_room(scene.subnet, 50, 3)

        async def filled() -> bool:
            return await _has(scene, "n", 4) and await _has(scene, "m", 4)

        await scene.until(filled, "both are filled", 90)
        await scene.check_sound()

    run_virtual(scenario())


def test_a_selector_that_matches_nothing_is_told_and_never_replaced_by_something_else() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(interfaces={"subnetSelector": {"tags": {"for": "pods"}}})
        await scene.node("n")
        await scene.pods("n", 12)
        scene.operator()

        async def told() -> bool:
            return await scene.ready_reason("n") == "NoEligibleSubnet"

        await scene.until(told, "the reason", 10)
        assert scene.calls("CreateNetworkInterface") == 0
        scene.model.create_tags((scene.subnet,), {"for": "pods"})
        await scene.until(lambda: _has(scene, "n", 12), "the tag is seen", 90)

    run_virtual(scenario())


def test_the_class_of_highest_weight_that_fits_governs_and_a_change_applies_at_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.eniclass("big", weight=10, nodeSelector={"matchLabels": {"size": "big"}}, pool={"minAllocate": 20})
        await scene.node("n", labels={"size": "big"})
        await scene.node("m")
        scene.operator()
        await scene.until(lambda: _has(scene, "n", 20), "the big class")
        class_ = (await scene.eninode("n")).status.class_
        assert class_ is not None
        assert class_.name == "big"
        assert await scene.provisioned("m") == 8
        await scene.kube.patch(ENICLASS, "default", {"spec": {"pool": {"minAllocate": 15}}})
        assert await scene.until(lambda: _has(scene, "m", 15), "the change", 20) < 10
        await asyncio.sleep(60)
        status = (await _class(scene, "big"))["status"]
        assert (status["nodes"], status["nodesReady"]) == (1, 1)
        assert status["conditions"][0]["status"] == "True"

    run_virtual(scenario())


def test_limits_of_an_unknown_type_cost_one_call_however_many_nodes_ask() -> None:
    async def scenario() -> None:
        from enitide_lab.ec2model.limits import make_type

        scene = Scene()
        scene.model.extra_types["new.large"] = make_type("new.large", cards=(3,), ipv4=10)
        await scene.install()
        for number in range(20):
            await scene.node(f"n{number}", "new.large")
        scene.operator()

        async def filled() -> bool:
            return all([await _has(scene, name, 8) for name in scene.instances])

        await scene.until(filled, "all nodes")
        assert scene.calls("DescribeInstanceTypes") == 1

    run_virtual(scenario())


def test_what_is_at_capacity_says_so_and_asks_for_nothing() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"maxAllocate": 9})
        await scene.node("n")
        await scene.pods("n", 20)
        operator = scene.operator()

        async def told() -> bool:
            conditions = {each.type: each for each in (await scene.eninode("n")).status.conditions}
            full = "AtCapacity" in conditions and conditions["AtCapacity"].status == "True"
            return full and await scene.provisioned("n") == 9

        await scene.until(told, "at capacity", 20)
        calls = scene.mutations()
        await asyncio.sleep(300)
        assert scene.mutations() == calls
        state = operator.engine.state()
        assert (state.at_capacity, state.in_deficit) == (1, 0)

    run_virtual(scenario())


def test_the_documented_buckets_are_never_overrun_by_150_cold_nodes() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.physics.throttle(on=True)
        await scene.install()
        for number in range(150):
            await scene.node(f"n{number}")
        scene.operator()

        async def filled() -> bool:
            return all([await _has(scene, name, 8) for name in scene.instances])

        took_s = await scene.until(filled, "all nodes", 60)
        assert took_s < 20  # 150 calls out of a bucket of 100 that refills with 5 a second
        assert not [outcome for _, outcome in scene.physics.counts if outcome == "RequestLimitExceeded"]

    run_virtual(scenario())


def test_one_shared_bucket_paces_everything_without_wasting_a_token() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for number in range(100):
            await scene.node(f"n{number}")
        scene.operator(budget={"all": {"rate": 4, "burst": 20}})

        async def filled() -> bool:
            return all([await _has(scene, name, 8) for name in scene.instances])

        took_s = await scene.until(filled, "all nodes", 60)
        calls = sum(scene.physics.counts.values())
        assert took_s <= (calls - 20) / 4 + 2

    run_virtual(scenario())


def test_one_node_in_error_does_not_slow_the_others() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for number in range(5):
            await scene.node(f"n{number}")
        scene.physics.add(
            Fault("mutations", code="UnauthorizedOperation", http_status=403, subject=scene.instances["n0"])
        )
        scene.operator()

        async def filled() -> bool:
            return all([await _has(scene, name, 8) for name in scene.instances if name != "n0"])

        assert await scene.until(filled, "the other nodes", 20) < 5

    run_virtual(scenario())


async def _class(scene: Scene, name: str) -> dict[str, dict[str, object]]:
    import msgspec

    return msgspec.json.decode(await scene.kube.get(ENICLASS, name))
