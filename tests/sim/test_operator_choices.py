"""Where new ENIs go and what an instance may hold, through operator and EC2 under virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from support.operator_sim import ZONE, Scene
from support.virtual_loop import run_virtual

from enitide_api.resources import Condition
from enitide_lab.ec2model import Fault
from enitide_lab.ec2model.limits import make_type

pytestmark = pytest.mark.sim

NO_BUFFER = {"preAllocate": 0, "maxAboveWatermark": 0}


async def provisioned(scene: Scene, count: int, node: str = "n", within_s: float = 30.0) -> None:
    async def enough() -> bool:
        return await scene.provisioned(node) >= count

    await scene.until(enough, f"{count} addresses", within_s)


async def says(scene: Scene, reason: str, node: str = "n", within_s: float = 30.0) -> str:
    """The message of Ready once it has this reason."""

    async def said() -> bool:
        return await scene.ready_reason(node) == reason

    await scene.until(said, reason, within_s)
    conditions = (await scene.eninode(node)).status.conditions
    return next(each.message for each in conditions if each.type == "Ready")


async def condition(scene: Scene, kind: str, node: str = "n") -> Condition | None:
    conditions = (await scene.eninode(node)).status.conditions
    return next((each for each in conditions if each.type == kind), None)


def subnets_of(scene: Scene, node: str = "n") -> list[str]:
    """Of the ENIs we made, by place."""
    made = [each for each in scene.attached(node) if each.attachment is not None and each.tags]
    return [each.subnet_id for each in sorted(made, key=lambda each: (each.attachment.card, each.attachment.index))]


def refusals(scene: Scene) -> set[tuple[str, str]]:
    return {key for key, count in scene.physics.counts.items() if count and key[1] != "ok"}


# --- subnets ----------------------------------------------------------------------------------------------------


def test_a_burst_of_500_nodes_spreads_over_the_subnets_without_one_failed_create() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/20")
        siblings = [scene.model.create_subnet(scene.vpc, f"10.0.{16 * n}.0/20", ZONE).id for n in (1, 2)]
        await scene.install(interfaces={"firstIndex": 1}, pool=NO_BUFFER | {"minAllocate": 8})
        for number in range(500):
            await scene.node(f"n{number}")
        scene.model.set_subnet_room(scene.subnet, 900, 0)
        scene.model.set_subnet_room(siblings[0], 1800, 0)
        scene.model.set_subnet_room(siblings[1], 1800, 0)
        scene.operator()

        async def all_filled() -> bool:
            return all([await scene.provisioned(name) >= 8 for name in scene.instances])

        await scene.until(all_filled, "500 nodes with 8 addresses each", 150)
        assert refusals(scene) == set()
        assert scene.calls("CreateNetworkInterface") == 500
        spread = Counter(subnet for name in scene.instances for subnet in subnets_of(scene, name))
        assert spread == {scene.subnet: 100, siblings[0]: 200, siblings[1]: 200}  # each to the last address

    run_virtual(scenario())


def test_a_subnet_of_a_secondary_cidr_is_as_good_as_any_and_both_cidrs_are_published() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/26")
        scene.model.vpcs[scene.vpc].cidrs.append("100.64.0.0/16")
        second = scene.model.create_subnet(scene.vpc, "100.64.0.0/24", ZONE).id
        await scene.install(interfaces={"firstIndex": 1}, pool=NO_BUFFER)
        await scene.node("n")
        scene.model.set_subnet_room(scene.subnet, 3)
        await scene.pods("n", 5)
        scene.operator()
        await provisioned(scene, 5)
        assert subnets_of(scene) == [second]
        status = (await scene.eninode("n")).status
        assert status.vpc_cidrs == ("10.0.0.0/16", "100.64.0.0/16")
        assert [each.cidr for each in status.interfaces] == ["100.64.0.0/24"]

    run_virtual(scenario())


def test_another_route_table_is_never_used_unless_the_class_names_its_subnets() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/26")
        public = scene.model.create_subnet(scene.vpc, "10.0.1.0/24", ZONE, tags={"use": "pods"}).id
        scene.model.create_route_table(scene.vpc, subnets=(public,))
        await scene.install(interfaces={"firstIndex": 1}, pool=NO_BUFFER)
        await scene.node("n")
        scene.model.set_subnet_room(scene.subnet, 0)
        await scene.pods("n", 5)
        scene.operator()
        assert scene.subnet in await says(scene, "SubnetExhausted")
        assert not scene.calls("CreateNetworkInterface")
        await scene.set_class(interfaces={"subnetSelector": {"tags": {"use": "pods"}}})
        await provisioned(scene, 5, within_s=10)
        assert subnets_of(scene) == [public]

    run_virtual(scenario())


@pytest.mark.parametrize("selector", [{"ids": ["subnet-0123"]}, {"tags": {"use": "pods"}}], ids=["ids", "tags"])
def test_a_selector_that_matches_nothing_is_a_reason_and_no_create_until_it_does(
    selector: dict[str, object],
) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(interfaces={"firstIndex": 1, "subnetSelector": selector}, pool=NO_BUFFER)
        await scene.node("n")
        await scene.pods("n", 5)
        scene.operator()
        message = await says(scene, "NoEligibleSubnet")
        assert "subnet-0123" in message or "use=pods" in message
        await asyncio.sleep(30)
        assert not scene.calls("CreateNetworkInterface")
        scene.model.create_subnet(scene.vpc, "10.0.64.0/24", ZONE, fixed_id="subnet-0123", tags={"use": "pods"})
        await provisioned(scene, 5, within_s=90)
        assert subnets_of(scene) == ["subnet-0123"]

    run_virtual(scenario())


def test_a_subnet_that_is_tagged_as_not_for_pods_is_left_alone_unless_the_class_names_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        other = scene.model.create_subnet(scene.vpc, "10.0.64.0/24", ZONE).id
        scene.model.create_tags([scene.subnet], {"kubernetes.io/role/cni": "0"})
        await scene.install(interfaces={"firstIndex": 1}, pool=NO_BUFFER)
        await scene.node("n")
        await scene.pods("n", 5)
        scene.operator()
        await provisioned(scene, 5)
        assert subnets_of(scene) == [other]
        await scene.set_class(interfaces={"subnetSelector": {"ids": [scene.subnet]}})
        await scene.pods("n", 8, prefix="more")
        await provisioned(scene, 13, within_s=15)
        assert subnets_of(scene) == [other, scene.subnet]

    run_virtual(scenario())


def test_a_subnet_that_was_deleted_is_left_for_another_and_where_there_is_none_the_reason_says_so() -> None:
    async def scenario() -> None:
        scene = Scene()
        first = scene.model.create_subnet(scene.vpc, "10.0.64.0/24", ZONE, tags={"use": "pods"}).id
        second = scene.model.create_subnet(scene.vpc, "10.0.65.0/25", ZONE, tags={"use": "pods"}).id
        interfaces = {"firstIndex": 1, "subnetSelector": {"tags": {"use": "pods"}}}
        await scene.install(interfaces=interfaces, pool=NO_BUFFER)
        await scene.node("n")
        scene.operator()
        await asyncio.sleep(5)
        scene.model.delete_subnet(first)
        await scene.pods("n", 5)
        await provisioned(scene, 5, within_s=15)
        assert set(subnets_of(scene)) == {second}
        assert (
            1 <= scene.calls("CreateNetworkInterface", "InvalidSubnetID.NotFound") <= 2
        )  # one for each ENI on its way
        await scene.node("m")
        scene.model.set_subnet_room(second, 0)
        await scene.pods("m", 5)
        await says(scene, "SubnetExhausted", "m")

    run_virtual(scenario())


def test_the_only_subnet_of_a_class_deleted_means_no_eligible_subnet_within_two_minutes_and_others_go_on() -> None:
    async def scenario() -> None:
        scene = Scene()
        only = scene.model.create_subnet(scene.vpc, "10.0.64.0/24", ZONE).id
        await scene.install(pool=NO_BUFFER)
        interfaces = {"firstIndex": 1, "subnetSelector": {"ids": [only]}}
        await scene.eniclass(
            "picky", weight=1, nodeSelector={"matchLabels": {"p": "y"}}, interfaces=interfaces, pool=NO_BUFFER
        )
        await scene.node("n", labels={"p": "y"})
        await scene.node("m")
        scene.operator()
        await asyncio.sleep(5)
        scene.model.delete_subnet(only)
        await scene.pods("n", 5)
        await scene.pods("m", 5)
        await provisioned(scene, 5, "m", within_s=5)
        assert only in await says(scene, "NoEligibleSubnet", within_s=120)
        assert not scene.detached()

    run_virtual(scenario())


def test_a_deleted_subnet_is_never_told_as_exhausted_and_its_enis_take_addresses_still() -> None:
    async def scenario() -> None:
        scene = Scene()
        only = scene.model.create_subnet(scene.vpc, "10.0.64.0/24", ZONE).id
        await scene.install(pool=NO_BUFFER, interfaces={"subnetSelector": {"ids": [only]}})
        await scene.node("n")
        scene.operator()
        await asyncio.sleep(5)
        scene.model.delete_subnet(only)
        await scene.pods("n", 12)
        said: set[str] = set()
        for _ in range(1200):  # through the reading of the VPC that no longer lists it
            await asyncio.sleep(0.1)
            said.add(await scene.ready_reason("n"))
        assert said - {"PoolFilled", "Filling", "NotFound"} == {"NoEligibleSubnet"}
        assert await scene.provisioned("n") == 9
        assert scene.calls("CreateNetworkInterface", "InvalidSubnetID.NotFound") <= 2

    run_virtual(scenario())


# --- security groups ------------------------------------------------------------------------------------------


def test_a_deleted_security_group_stops_creation_with_its_reason_and_a_new_one_with_the_tags_mends_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        tags = {"use": "pods"}
        group = scene.model.create_security_group(scene.vpc, "pods", tags=tags).id
        interfaces = {"firstIndex": 1, "securityGroupSelector": {"tags": tags}}
        await scene.install(interfaces=interfaces, pool=NO_BUFFER)
        await scene.node("n")
        scene.operator()
        await asyncio.sleep(5)
        scene.model.delete_security_group(group)
        await scene.pods("n", 5)
        await says(scene, "SecurityGroupsMissing")
        await asyncio.sleep(120)
        assert "use=pods" in await says(scene, "SecurityGroupsMissing", within_s=1)
        tried = scene.calls("CreateNetworkInterface", "InvalidGroup.NotFound")
        assert tried <= 8
        await asyncio.sleep(300)
        assert scene.calls("CreateNetworkInterface", "InvalidGroup.NotFound") == tried  # known: not asked again
        mended = scene.model.create_security_group(scene.vpc, "pods-2", tags=tags).id
        await provisioned(scene, 5, within_s=90)
        assert [each.groups for each in scene.attached("n") if each.tags] == [(mended,)]
        assert not scene.detached()

    run_virtual(scenario())


# --- what an instance may hold --------------------------------------------------------------------------------


def test_an_unknown_type_costs_one_targeted_call_however_many_nodes_ask() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.extra_types["new.large"] = make_type("new.large", cards=(2,), ipv4=6)
        await scene.install(pool=NO_BUFFER | {"minAllocate": 10})
        for number in range(50):
            await scene.node(f"n{number}", "new.large")
        scene.operator()
        for number in range(50):
            await provisioned(scene, 10, f"n{number}")
        assert scene.calls("DescribeInstanceTypes") == 1
        assert {(await scene.eninode(name)).status.capacity.slots for name in scene.instances} == {10}

    run_virtual(scenario())


def test_a_type_that_ec2_does_not_know_either_is_asked_for_once_and_said() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for number in range(50):
            instance = await scene.node(f"n{number}")
            facts = {"id": instance, "type": "made.up", "availabilityZone": ZONE}
            await scene.spec(f"n{number}", instance=facts | {"vpcID": scene.vpc, "subnetID": scene.subnet})
        scene.operator()
        for number in range(50):
            assert "made.up" in await says(scene, "LimitsUnknown", f"n{number}")
        await asyncio.sleep(600)
        assert scene.calls("DescribeInstanceTypes") == 1

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("UnauthorizedOperation", 403, "EC2 refused DescribeInstanceTypes: UnauthorizedOperation"),
        ("InternalError", 500, "EC2 does not answer DescribeInstanceTypes: InternalError"),
    ],
)
def test_limits_that_ec2_does_not_tell_are_asked_for_ever_less_often_and_nodes_say_what_it_answered(
    code: str, status: int, words: str
) -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.extra_types["new.large"] = make_type("new.large", cards=(2,), ipv4=6)
        await scene.install(pool=NO_BUFFER | {"minAllocate": 8})
        for number in range(20):
            await scene.node(f"n{number}", "new.large")
        scene.physics.add(Fault("DescribeInstanceTypes", code=code, http_status=status))
        scene.operator()
        for number in range(20):
            assert words in await says(scene, "LimitsUnknown", f"n{number}")
        await asyncio.sleep(300)
        assert 8 <= scene.calls("DescribeInstanceTypes", code) <= 28
        await asyncio.sleep(3600)
        assert scene.calls("DescribeInstanceTypes", code) <= 60  # 65 minutes, 20 nodes
        scene.physics.remove()
        for number in range(20):
            await provisioned(scene, 8, f"n{number}", within_s=330)

    run_virtual(scenario())


def test_where_ec2_refuses_what_our_table_allows_it_is_asked_once_and_its_numbers_are_used() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.extra_types["m5.large"] = make_type("m5.large", cards=(2,), ipv4=6)  # the table says 3 ENIs of 10
        await scene.install(pool=NO_BUFFER | {"minAllocate": 8})
        for number in range(10):
            await scene.node(f"n{number}")
        scene.operator()
        for number in range(10):
            await provisioned(scene, 8, f"n{number}", within_s=60)
        assert scene.calls("DescribeInstanceTypes") == 1
        assert {(await scene.eninode(name)).status.capacity.slots for name in scene.instances} == {10}
        assert not scene.detached()
        await scene.pods("n0", 12)
        await says(scene, "AtCapacity", "n0")

    run_virtual(scenario())


def test_limits_and_capacity_follow_a_new_type_after_stop_and_start_and_what_is_beyond_them_is_stated() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool=NO_BUFFER)
        instance = await scene.node("n")
        await scene.pods("n", 27)
        scene.operator()
        await provisioned(scene, 27)

        async def becomes(kind: str) -> None:
            scene.model.instances[instance].type = kind
            facts = {"id": instance, "type": kind, "availabilityZone": ZONE, "vpcID": scene.vpc}
            await scene.spec("n", instance=facts | {"subnetID": scene.subnet})

        await becomes("m5.2xlarge")  # 4 ENIs of 15
        await scene.pods("n", 20, prefix="more")
        await provisioned(scene, 47)
        assert (await scene.eninode("n")).status.capacity.slots == 56
        assert await condition(scene, "OverLimit") is None
        await becomes("t3.small")  # 3 ENIs of 4: EC2 may refuse this, a hand may not
        stated = await scene.until(lambda: condition(scene, "OverLimit"), "OverLimit", 10)
        over = await condition(scene, "OverLimit")
        assert stated < 10
        assert over is not None
        assert (over.status, over.reason) == ("True", "LimitExceeded")
        assert "t3.small may hold 4" in over.message
        assert await scene.provisioned("n") == 47  # what is there works, and stays
        assert await scene.ready_reason("n") == "PoolFilled"
        await scene.pods("n", 5, prefix="last")
        await says(scene, "AtCapacity")
        await becomes("m5.2xlarge")
        await provisioned(scene, 52)
        assert await condition(scene, "OverLimit") is None

    run_virtual(scenario())


def test_only_cards_of_the_class_are_used_each_with_its_own_indexes_and_no_device_key_twice() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.extra_types["two.cards"] = make_type("two.cards", cards=(2, 3), ipv4=4)
        await scene.install(interfaces={"cards": [0]}, pool=NO_BUFFER)
        await scene.node("n", "two.cards")
        await scene.pods("n", 20)
        scene.operator()
        await provisioned(scene, 6)
        await says(scene, "AtCapacity")

        def places() -> list[tuple[int, int]]:
            return sorted((each.attachment.card, each.attachment.index) for each in scene.attached("n"))

        assert places() == [(0, 0), (0, 1)]
        await scene.set_class(interfaces={"cards": [0, 1]})
        await provisioned(scene, 15)
        assert places() == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
        published = [(each.card, each.index) for each in (await scene.eninode("n")).status.interfaces]
        assert published == places()
        assert (await scene.eninode("n")).status.capacity.slots == 15

    run_virtual(scenario())


def test_excluded_and_ipv6_only_enis_hold_their_places_are_never_published_and_break_nothing() -> None:
    async def scenario() -> None:
        scene = Scene(ipv6=True)
        await scene.install(interfaces={"excludeTags": {"no": "touch"}}, pool=NO_BUFFER)
        instance = await scene.node("n", "m5.xlarge")  # 4 ENIs of 15
        excluded = scene.model.place_interface(scene.subnet, count=2, tags={"no": "touch"})
        ipv6_only = scene.model.place_interface(scene.subnet, ipv4=False)
        scene.model.attach_network_interface(excluded.id, instance, 1)
        scene.model.attach_network_interface(ipv6_only.id, instance, 2)
        await scene.pods("n", 40)
        scene.operator()
        await provisioned(scene, 28)
        await says(scene, "AtCapacity")
        status = (await scene.eninode("n")).status
        assert [each.index for each in status.interfaces] == [0, 3]
        assert status.capacity.slots == 28
        kept = {each.id: each for each in scene.attached("n")}
        assert kept[excluded.id].addresses == excluded.addresses
        assert kept[ipv6_only.id].addresses == ()
        assert refusals(scene) == set()

    run_virtual(scenario())


def test_the_own_address_of_secondary_enis_serves_pods_where_the_class_says_so_and_max_allocate_counts_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(interfaces={"usePrimaryAddress": True}, pool=NO_BUFFER | {"maxAllocate": 12})
        await scene.node("n")
        await scene.pods("n", 30)
        scene.operator()
        await provisioned(scene, 12)
        await says(scene, "AtCapacity")
        assert await scene.provisioned("n") == 12
        assert sum(len(each.addresses) for each in scene.attached("n")) == 13  # the node's own is never a pod's

    run_virtual(scenario())
