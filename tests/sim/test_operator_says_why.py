"""Every reason for which a node is not at its tide: in its condition and in Events on Node and ENINode in 2 minutes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from support.operator_sim import ZONE, Scene
from support.virtual_loop import run_virtual

from enitide_api.crds import definitions
from enitide_kube.port import CRD, ENICLASS, EVENT
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Effect, Fault

pytestmark = pytest.mark.sim
WITHIN_S = 120.0
Setup = Callable[[Scene], Awaitable[None]]


def refused(verb: str, code: str, status: int = 400, **more: Any) -> Setup:
    async def setup(scene: Scene) -> None:
        await scene.install(**more)
        await scene.node("n")
        scene.physics.add(Fault(verb, code=code, http_status=status))

    return setup


async def another_instance(scene: Scene) -> None:
    await scene.install()
    await scene.node("n", provider=f"aws:///{ZONE}/i-0000000000000dead")


async def no_such_instance(scene: Scene) -> None:
    await scene.install()
    scene.model.terminate_instances([await scene.node("n")])


async def contradicting_class(scene: Scene) -> None:
    for body in definitions().values():  # a server whose rules are older than this program
        for version in body["spec"]["versions"]:
            version["schema"]["openAPIV3Schema"] = {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
            }
        await scene.kube.create(CRD, body)
    await scene.eniclass("default", pool={"minAllocate": 5, "maxAllocate": 2})
    await scene.node("n")


async def unknown_type(scene: Scene) -> None:
    await scene.install()
    instance = await scene.node("n")
    facts = {"id": instance, "type": "zz9.enormous", "availabilityZone": ZONE}
    await scene.spec("n", instance=facts | {"vpcID": scene.vpc, "subnetID": scene.subnet})


async def no_matching_subnet(scene: Scene) -> None:
    selector = {"subnetSelector": {"tags": {"role": "pods"}}}
    await scene.install(pool={"minAllocate": 12}, interfaces=selector)
    await scene.node("n")


async def no_matching_group(scene: Scene) -> None:
    selector = {"securityGroupSelector": {"ids": ["sg-00000000000000000"]}}
    await scene.install(pool={"minAllocate": 12}, interfaces=selector)
    await scene.node("n")


async def more_pods_than_slots(scene: Scene) -> None:
    await scene.install()
    await scene.node("n")
    await scene.pods("n", 40)


async def full_subnet(scene: Scene) -> None:
    await scene.install()
    await scene.node("n")
    for _ in range(2):  # a /28 has 11 addresses for users
        scene.model.create_network_interface(scene.subnet, secondary_count=4)


async def unreachable(scene: Scene) -> None:
    await scene.install()
    await scene.node("n")
    scene.physics.add(Fault("AssignPrivateIpAddresses", code="Unavailable", http_status=503))


async def no_answers(scene: Scene) -> None:
    await scene.install()
    await scene.node("n")
    scene.physics.add(Fault("AssignPrivateIpAddresses", effect=Effect.LOST))
    scene.physics.add(Fault("DescribeNetworkInterfaces", effect=Effect.LOST))


CASES: list[tuple[str, Setup]] = [
    ("InstanceMismatch", another_instance),
    ("InstanceMissing", no_such_instance),
    ("ClassInvalid", contradicting_class),
    ("LimitsUnknown", unknown_type),
    ("NoEligibleSubnet", no_matching_subnet),
    ("SecurityGroupsMissing", no_matching_group),
    ("AtCapacity", more_pods_than_slots),
    ("SubnetExhausted", full_subnet),
    ("OutcomeUnknown", no_answers),
    ("Throttled", refused("AssignPrivateIpAddresses", "RequestLimitExceeded", 503)),
    ("Throttled", refused("DescribeSubnets", "RequestLimitExceeded", 503)),
    ("Throttled", refused("CreateNetworkInterface", "RequestLimitExceeded", 503, pool={"minAllocate": 12})),
    ("Unauthorized", refused("AssignPrivateIpAddresses", "UnauthorizedOperation", 403)),
    ("Unauthorized", refused("DescribeNetworkInterfaces", "UnauthorizedOperation", 403)),
    ("Unauthorized", refused("DescribeRouteTables", "UnauthorizedOperation", 403)),
    ("Unauthorized", refused("AttachNetworkInterface", "UnauthorizedOperation", 403, pool={"minAllocate": 12})),
    ("NotFound", refused("AssignPrivateIpAddresses", "InvalidNetworkInterfaceID.NotFound")),
    ("LimitExceeded", refused("AssignPrivateIpAddresses", "PrivateIpAddressLimitExceeded")),
    ("LimitExceeded", refused("AttachNetworkInterface", "AttachmentLimitExceeded", pool={"minAllocate": 12})),
    ("Refused", refused("CreateNetworkInterface", "SomethingNew", pool={"minAllocate": 12})),
    ("IndexOccupied", refused("AttachNetworkInterface", "InvalidParameterValue", pool={"minAllocate": 12})),
]


@pytest.mark.parametrize(("reason", "setup"), CASES, ids=[f"{r}-{n}" for n, (r, _) in enumerate(CASES)])
def test_a_node_that_is_not_at_its_tide_says_why_in_condition_and_events(reason: str, setup: Setup) -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/28" if setup is full_subnet else "10.0.0.0/20")
        await setup(scene)
        scene.operator()

        async def told() -> bool:
            return await scene.ready_reason("n") == reason and await kinds(scene, reason) == {"Node", "ENINode"}

        await scene.until(told, f"condition and Events say {reason}", WITHIN_S)

    run_virtual(scenario())


def test_an_index_that_is_never_free_makes_no_flood_of_enis() -> None:
    async def scenario() -> None:
        scene = Scene()
        await refused("AttachNetworkInterface", "InvalidParameterValue", pool={"minAllocate": 12})(scene)
        scene.operator()
        await asyncio.sleep(600)
        assert 2 <= scene.calls("CreateNetworkInterface") <= 20
        assert len(scene.detached()) <= 1

    run_virtual(scenario())


def test_a_status_that_cannot_be_written_is_told_by_events_alone() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.store.faults.add(KubeFault(kind="ENINode", code=403, times=None, client="op"))
        scene.operator()

        async def told() -> bool:
            return await kinds(scene, "Forbidden") == {"Node", "ENINode"}

        await scene.until(told, "Events say Forbidden", WITHIN_S)

    run_virtual(scenario())


def test_calls_that_wait_their_turn_for_long_are_told_too() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for name in ("a", "n"):
            await scene.node(name)
        scene.operator(budget={"AssignPrivateIpAddresses": {"rate": 0.001, "burst": 1}})

        async def told() -> bool:
            return await kinds(scene, "Filling") == {"ENINode"}

        waited_s = await scene.until(told, "an Event says Filling", WITHIN_S)
        assert waited_s > 70  # work under way is no news at first
        about = {each["regarding"]["name"] for each in await events(scene)}
        assert len(about) == 1

    run_virtual(scenario())


def test_nodes_that_fill_in_the_ordinary_course_write_no_events_and_those_whose_turn_is_late_one_each() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"minAllocate": 12, "maxAboveWatermark": 0})
        for number in range(200):
            await scene.node(f"n{number}")
        scene.operator(budget={"all": {"rate": 4, "burst": 20}})  # 800 calls: 195 s

        async def filled() -> bool:
            return all([await scene.provisioned(name) >= 12 for name in scene.instances])

        took_s = await scene.until(filled, "all pools", 300)
        assert took_s > 120
        await asyncio.sleep(120)
        told = Counter((each["reason"], each["regarding"]["kind"]) for each in await events(scene))
        print(f"200 nodes took {took_s:.0f} s: {dict(told)}")
        assert told.keys() == {("Filling", "ENINode")}
        assert 50 < told["Filling", "ENINode"] < 150  # those that were short for longer than 75 s
        writes = sum(n for (_, verb, kind, _), n in scene.store.requests.items() if kind == "Event" and verb != "list")
        assert writes == told.total()

    run_virtual(scenario())


def test_an_agent_that_answers_no_reclaim_is_told() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"minAllocate": 8}, release={"delay": "5s"})
        await scene.node("n")
        scene.operator()
        await asyncio.sleep(30)
        await scene.kube.patch(ENICLASS, "default", {"spec": {"pool": {"minAllocate": 0, "maxAboveWatermark": 0}}})

        async def told() -> bool:
            return await kinds(scene, "AgentSilent") == {"Node", "ENINode"}

        await scene.until(told, "Events say AgentSilent", 300 + WITHIN_S)

    run_virtual(scenario())


def test_a_node_that_recovers_says_so_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="UnauthorizedOperation", http_status=403, for_s=60))
        scene.operator()
        await asyncio.sleep(900)
        counts = Counter((each["reason"], each["regarding"]["kind"]) for each in await events(scene))
        assert counts == {(r, k): 1 for r in ("Unauthorized", "PoolFilled") for k in ("Node", "ENINode")}

    run_virtual(scenario())


def test_an_hour_of_trouble_of_a_hundred_nodes_is_no_storm_of_events() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for number in range(100):
            await scene.node(f"n{number}")
        for code, status in (("RequestLimitExceeded", 503), ("UnauthorizedOperation", 403), ("SomethingNew", 400)):
            scene.physics.add(Fault("AssignPrivateIpAddresses", code=code, http_status=status, every=3))
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="InsufficientFreeAddressesInSubnet"))
        scene.operator()
        await asyncio.sleep(3600)
        told = await events(scene)
        assert len({each["regarding"]["name"] for each in told}) == 100
        # four reasons that take turns on 200 objects: what happens again folds into the Event that stands
        writes = sum(n for (_, verb, kind, _), n in scene.store.requests.items() if kind == "Event" and verb != "list")
        assert len(told) <= writes <= 200 * 20

    run_virtual(scenario())


async def events(scene: Scene) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = await scene.kube.list(EVENT, continue_token=token)
        found += [msgspec.json.decode(each) for each in page.items]
        token = page.continue_token
        if not token:
            return found


async def kinds(scene: Scene, reason: str) -> set[str]:
    """Of what the Events of this reason are about."""
    return {each["regarding"]["kind"] for each in await events(scene) if each["reason"] == reason}
