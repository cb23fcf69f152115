"""The operator under virtual time: a cold node is filled with the fewest calls, and says why when it is not."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.pool_agents import NodeAgent
from support.virtual_loop import run_virtual

from enitide_lab.ec2model import Effect, Fault

pytestmark = pytest.mark.sim


def test_a_cold_m5_large_with_20_pods_costs_one_discovery_read_and_the_minimum_of_mutating_calls() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 20)
        scene.operator()

        async def filled() -> bool:
            return await scene.provisioned("n") == 24

        assert await scene.until(filled, "24 addresses") < 5
        await asyncio.sleep(5)
        assert scene.calls("DescribeNetworkInterfaces") == 1
        # 9 on the primary ENI, 9 and 6 on two new ones: one assign, two creates, two attachments, two flags
        assert scene.mutations() == 7
        await scene.check_sound()

    run_virtual(scenario())


def test_each_eni_of_a_subnet_with_ipv6_gets_one_80() -> None:
    async def scenario() -> None:
        scene = Scene(ipv6=True)
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 12)
        scene.operator()

        async def filled() -> bool:
            interfaces = (await scene.eninode("n")).status.interfaces
            return len(interfaces) == 2 and all(each.ipv6 and len(each.ipv6.prefixes) == 1 for each in interfaces)

        await scene.until(filled, "two ENIs with a /80 each")
        assert (await scene.eninode("n")).status.vpc_cidrs == ("10.0.0.0/16", "2600:1f00::/56")

    run_virtual(scenario())


def test_pods_started_one_by_one_at_rest_cost_no_call_while_the_pool_covers_them() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"preAllocate": 4, "minAllocate": 9})
        await scene.node("n")
        scene.operator(cluster_name="")  # without a sweep, whose looks are counted elsewhere

        async def filled() -> bool:
            return await scene.provisioned("n") >= 9

        await scene.until(filled, "a pool at rest")
        await asyncio.sleep(30)
        calls, writes = sum(scene.physics.counts.values()), scene.store.requests["op-1", "patch", "ENINode", "ok"]
        for number in range(8):
            await scene.pods("n", 1, prefix=f"p{number}")
            await asyncio.sleep(60)
        assert sum(scene.physics.counts.values()) - calls <= 1
        assert scene.store.requests["op-1", "patch", "ENINode", "ok"] - writes <= 1

    run_virtual(scenario())


def test_a_hundred_nodes_are_found_by_one_merged_read() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for number in range(100):
            await scene.node(f"n{number}")
        scene.operator()

        async def filled() -> bool:
            return all([await scene.provisioned(name) >= 8 for name in scene.instances])

        await scene.until(filled, "all pools")
        assert scene.calls("DescribeNetworkInterfaces") == 1
        assert scene.calls("AssignPrivateIpAddresses") == 100

    run_virtual(scenario())


def test_an_idle_fleet_is_read_once_per_drift_interval_and_nothing_is_written() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for number in range(5):
            await scene.node(f"n{number}")
        scene.operator()
        await asyncio.sleep(60)
        reads = scene.calls("DescribeNetworkInterfaces")
        writes = scene.store.requests["op-1", "patch", "ENINode", "ok"]
        await asyncio.sleep(3600)
        # six drift readings, and a look for leaks every five minutes
        assert 5 + 11 <= scene.calls("DescribeNetworkInterfaces") - reads <= 7 + 13
        assert scene.store.requests["op-1", "patch", "ENINode", "ok"] == writes

    run_virtual(scenario())


def test_what_someone_takes_away_by_hand_is_seen_by_the_drift_reading_and_replaced() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.operator()
        await asyncio.sleep(30)
        eni = scene.attached("n")[0]
        scene.model.unassign_private_ip_addresses(eni.id, addresses=eni.addresses[1:7])

        async def replaced() -> bool:
            gone = set(eni.addresses[1:7])
            status = (await scene.eninode("n")).status
            published = {address for each in status.interfaces for address in each.addresses}
            return len(published) >= 4 and not published & (gone - set(scene.attached("n")[0].addresses))

        await scene.until(replaced, "the pool is whole again", 700)
        await asyncio.sleep(20)
        await scene.check_sound()

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("RequestLimitExceeded", "Throttled"),
        ("UnauthorizedOperation", "Unauthorized"),
        ("InsufficientFreeAddressesInSubnet", "SubnetExhausted"),
        ("PrivateIpAddressLimitExceeded", "LimitExceeded"),
        ("InternalError", "OutcomeUnknown"),
        ("SomethingNew", "Refused"),
    ],
)
def test_a_node_that_waits_for_ec2_says_why_within_seconds_and_recovers_by_itself(code: str, reason: str) -> None:
    async def scenario() -> None:
        from enitide_lab.ec2model import Fault

        scene = Scene()
        await scene.install()
        await scene.node("n")
        status = {"RequestLimitExceeded": 503, "InternalError": 500}.get(code, 400)
        scene.physics.add(Fault("AssignPrivateIpAddresses", code=code, http_status=status))
        scene.operator()

        async def told() -> bool:
            return await scene.ready_reason("n") == reason

        await scene.until(told, f"the node says {reason}", 10)
        scene.physics.remove()

        async def filled() -> bool:
            return await scene.provisioned("n") >= 8

        await scene.until(filled, "the pool is filled", 120)
        await scene.check_sound()
        events = [each for each in await _events(scene) if each["reason"] == reason]
        assert {each["regarding"]["kind"] for each in events} >= {"Node", "ENINode"}

    run_virtual(scenario())


async def _events(scene: Scene) -> list[dict[str, object]]:
    import msgspec

    from enitide_kube.port import EVENT

    await asyncio.sleep(2)
    return [msgspec.json.decode(raw) for raw in (await scene.kube.list(EVENT)).items]


def test_an_address_that_ec2_gives_again_before_it_answers_the_unassign_is_not_forgotten() -> None:
    """Two answers in the wrong order: what the second call gave is not taken for gone by the first one's."""

    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/28")
        await scene.install(pool={"preAllocate": 0, "maxAboveWatermark": 0}, release={"delay": "5s"}, cooldown="1s")
        await scene.node("n")
        agent = NodeAgent(scene, "n")
        await agent.use(8)
        scene.operator()
        released = asyncio.Event()
        scene.on_event = lambda _operator, verb, moment: (
            released.set() if (verb, moment) == ("UnassignPrivateIpAddresses", "before") else None
        )
        await scene.until(lambda: _has(scene, 8), "the pool")
        # half of a call's time is its way to EC2, the other half the answer's way back
        scene.physics.add(Fault("UnassignPrivateIpAddresses", effect=Effect.DELAY, delay_s=1.8, times=1))
        await agent.use(4)
        await released.wait()
        await asyncio.sleep(0.95)
        await scene.pods("n", 8)
        await asyncio.sleep(10)
        assert await _has(scene, 8)
        await scene.check_sound()  # long before ENIs are read again
        assert not agent.lost

    run_virtual(scenario())


async def _has(scene: Scene, count: int) -> bool:
    return await scene.provisioned("n") == count
