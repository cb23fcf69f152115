"""Prefixes and packing, through operator and EC2 under virtual time. EC2's own choice of addresses is the worst one."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import ZONE, Scene
from support.virtual_loop import run_virtual

pytestmark = pytest.mark.sim

NO_BUFFER = {"preAllocate": 0, "maxAboveWatermark": 0}


def whole(scene: Scene, subnet: str = "") -> int:
    return scene.model.describe_subnets([subnet or scene.subnet]).items[0].whole_prefixes


def held(scene: Scene, node: str = "n") -> tuple[int, int]:
    """Single addresses and prefixes that EC2 has on the node's ENIs."""
    enis = scene.attached(node)
    return sum(len(each.addresses) - 1 for each in enis), sum(len(each.prefixes) for each in enis)


async def filled(scene: Scene, count: int, node: str = "n", *, within_s: float = 30.0, alone: bool = True) -> None:
    async def enough() -> bool:
        return await scene.provisioned(node) >= count

    await scene.until(enough, f"{count} addresses", within_s)
    await asyncio.sleep(3)
    if alone:
        await scene.check_sound()


async def started(scene: Scene, pods: int, *, room: tuple[int, int] | None = None, **pool: int) -> None:
    await scene.install(prefixDelegation=True, pool=NO_BUFFER | pool)
    await scene.node("n")
    if room is not None:
        scene.model.set_subnet_room(scene.subnet, *room)
    await scene.pods("n", pods)
    scene.operator()


def test_single_addresses_go_by_name_into_broken_blocks_and_the_last_whole_28_stays_whole() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/24")
        await started(scene, 30, room=(72, 2), maxAllocate=20)
        await filled(scene, 20)
        assert held(scene) == (4, 1)
        assert whole(scene) == 1  # one /28 is ours; left to EC2, the single ones would have broken the other
        assert scene.calls("AssignPrivateIpAddresses") == 2

    run_virtual(scenario())


def test_a_prefix_on_a_new_eni_in_a_sibling_subnet_comes_before_singles_and_its_own_address_breaks_nothing() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/24")
        sibling = scene.model.create_subnet(scene.vpc, "10.0.1.0/24", ZONE).id
        scene.model.set_subnet_room(sibling, 40, 2)
        await scene.install(prefixDelegation=True, pool=NO_BUFFER)
        await scene.node("n")
        scene.model.set_subnet_room(scene.subnet, 60, 0)
        await scene.pods("n", 10)
        scene.operator()
        await filled(scene, 16)
        assert held(scene) == (0, 1)
        assert [each.subnet_id for each in scene.attached("n")] == [scene.subnet, sibling]
        assert whole(scene, sibling) == 1

    run_virtual(scenario())


def test_where_ec2_takes_no_name_beside_prefixes_one_refusal_teaches_it_for_all_nodes() -> None:
    async def scenario() -> None:
        from enitide_lab.ec2model import Fault

        scene = Scene(subnet_cidr="10.0.0.0/24")
        sibling = scene.model.create_subnet(scene.vpc, "10.0.1.0/24", ZONE).id
        scene.model.set_subnet_room(sibling, 100, 5)
        scene.physics.add(Fault("CreateNetworkInterface", code="InvalidParameterCombination", times=1))
        await scene.install(prefixDelegation=True, pool=NO_BUFFER)
        await scene.node("n")
        await scene.node("m")
        scene.model.set_subnet_room(scene.subnet, 60, 0)
        await scene.pods("n", 10)
        scene.operator()
        await filled(scene, 16, within_s=15)
        assert whole(scene, sibling) == 3  # the prefix, and what EC2's own choice of an address broke
        await scene.pods("m", 10)
        await filled(scene, 16, "m", within_s=15)
        assert scene.calls("CreateNetworkInterface") == 2
        assert scene.calls("CreateNetworkInterface", "InvalidParameterCombination") == 1

    run_virtual(scenario())


def test_without_any_whole_28_exactly_what_is_wanted_is_packed_and_prefixes_are_used_again_when_they_return() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/24")
        await scene.install(prefixDelegation=True, pool=NO_BUFFER)
        await scene.node("n")
        scene.model.set_subnet_room(scene.subnet, 60, 0)
        await scene.pods("n", 6)
        scene.operator()
        await filled(scene, 6)
        assert held(scene) == (6, 0)
        assert not scene.calls("AssignPrivateIpAddresses", "InsufficientCidrBlocks")
        scene.model.set_subnet_room(scene.subnet, 90, 3)
        await asyncio.sleep(600)
        await scene.pods("n", 3, prefix="more")
        await filled(scene, 22)
        assert held(scene) == (6, 1)

    run_virtual(scenario())


def test_a_subnet_that_lost_its_28s_behind_our_back_costs_one_refusal_then_the_map_is_read_again() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/24")
        await started(scene, 10)
        await filled(scene, 16)
        scene.model.set_subnet_room(scene.subnet, 60, 0)
        await scene.pods("n", 10, prefix="more")
        await filled(scene, 20)
        assert held(scene) == (4, 1)
        assert scene.calls("AssignPrivateIpAddresses", "InsufficientCidrBlocks") == 1
        await scene.pods("n", 1, prefix="last")
        await filled(scene, 21)
        assert scene.calls("AssignPrivateIpAddresses", "InsufficientCidrBlocks") == 1

    run_virtual(scenario())


@pytest.mark.parametrize("hidden", [False, True], ids=["seen by a re-read", "another account's, in no read"])
def test_an_address_that_someone_took_meanwhile_leads_to_another_choice_never_to_a_stuck_node(hidden: bool) -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/24")
        await scene.install(prefixDelegation=True, pool=NO_BUFFER)
        await scene.node("n")
        scene.model.set_subnet_room(scene.subnet, 60, 0)
        await scene.pods("n", 2)
        scene.operator()
        await filled(scene, 2)
        taken = [int(address.rpartition(".")[2]) for each in scene.attached("n") for address in each.addresses]
        for number in range(max(taken) + 1, max(taken) + 5):  # what would be picked next
            if not scene.model.subnets[scene.subnet].map.taken(0x0A000000 + number):
                scene.model.place_interface(scene.subnet, address=f"10.0.0.{number}", hidden=hidden)
        await scene.pods("n", 4, prefix="more")
        await filled(scene, 6, within_s=15, alone=False)
        assert held(scene) == (6, 0)
        assert 1 <= scene.calls("AssignPrivateIpAddresses", "InvalidIPAddress.InUse") <= 2

    run_virtual(scenario())


def test_reservations_are_respected_without_one_refused_call() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/24")
        await scene.install(prefixDelegation=True, pool=NO_BUFFER | {"maxAllocate": 25})
        await scene.node("n")
        model = scene.model
        model.create_subnet_cidr_reservation(scene.subnet, "10.0.0.64/28", "prefix")
        model.create_subnet_cidr_reservation(scene.subnet, "10.0.0.128/25", "explicit")
        model.set_subnet_room(scene.subnet, 12, 0)
        assert whole(scene) == 1  # the reserved one: EC2 counts none of its addresses as free
        await scene.pods("n", 40)
        scene.operator()
        await filled(scene, 25)
        assert held(scene) == (9, 1)
        assert [each.prefixes for each in scene.attached("n")] == [("10.0.0.64/28",), ()]
        assert {outcome for (_, outcome), count in scene.physics.counts.items() if count} == {"ok"}

    run_virtual(scenario())


def test_a_cluster_without_prefix_delegation_and_reports_reads_no_map() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.operator(subnet_reports=False)
        await filled(scene, 8)
        await asyncio.sleep(7200)
        assert not scene.calls("GetSubnetCidrReservations")

    run_virtual(scenario())


def test_only_subnets_of_the_class_are_mapped_hourly_and_20000_foreign_enis_elsewhere_are_never_listed() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/22")
        elsewhere = scene.model.create_subnet(scene.vpc, "10.0.128.0/17", "us-west-2b").id
        for _ in range(20_000):
            scene.model.place_interface(elsewhere)
        await started(scene, 4)
        await filled(scene, 16, alone=False)
        await asyncio.sleep(10)
        assert scene.calls("GetSubnetCidrReservations") == 1
        await asyncio.sleep(3 * 3600)
        assert 3 <= scene.calls("GetSubnetCidrReservations") <= 5
        listed = [call.items for call in scene.physics.calls if call.verb == "DescribeNetworkInterfaces"]
        assert max(listed) == 1  # the node's one ENI, however it is asked for

    run_virtual(scenario())


def test_a_map_that_may_not_be_read_keeps_no_node_waiting() -> None:
    async def scenario() -> None:
        from enitide_lab.ec2model import Fault

        scene = Scene(subnet_cidr="10.0.0.0/24")
        scene.physics.add(Fault("GetSubnetCidrReservations", code="UnauthorizedOperation", http_status=403))
        await started(scene, 10)
        await filled(scene, 16)
        assert held(scene) == (0, 1)

    run_virtual(scenario())


def test_two_nodes_that_plan_in_the_same_moment_never_name_one_address_twice() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/24")
        await scene.install(prefixDelegation=True, pool=NO_BUFFER)
        names = [f"n{number}" for number in range(8)]
        for name in names:
            await scene.node(name)
            await scene.pods(name, 5)
        scene.model.set_subnet_room(scene.subnet, 50, 0)
        scene.operator()
        for name in names:
            await filled(scene, 5, name)
        assert {outcome for (_, outcome), count in scene.physics.counts.items() if count} == {"ok"}
        assert scene.calls("AssignPrivateIpAddresses") == 8

    run_virtual(scenario())


async def fragmented(scene: Scene) -> None:
    """A node whose 26 pods need the one prefix that is left and ten addresses by name, on its own ENI and a new one."""
    await scene.install(prefixDelegation=True, pool=NO_BUFFER)
    await scene.node("n")
    scene.model.set_subnet_room(scene.subnet, 60, 1)
    await scene.pods("n", 26)


async def settled(scene: Scene) -> bool:
    status = (await scene.eninode("n")).status
    return status.capacity.provisioned >= 26 and not status.pending and held(scene)[1] == 1


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 8))
def test_a_crash_at_any_call_that_names_addresses_ends_in_a_sound_pool(number: int, moment: str) -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/24")
        await fragmented(scene)
        first = scene.operator("first", crash_at=(number, moment))
        await asyncio.wait_for(first.crashed.wait(), 60)
        await asyncio.sleep(5)
        scene.operator("second")
        await scene.until(lambda: settled(scene), "26 addresses", 90)
        await asyncio.sleep(30)
        await scene.check_sound()

    run_virtual(scenario())


@pytest.mark.parametrize("verb", ["CreateNetworkInterface", "AssignPrivateIpAddresses"])
@pytest.mark.parametrize("effect", ["lost", "refuse-after"])
def test_a_lost_answer_to_a_call_that_names_addresses_is_never_doubled(verb: str, effect: str) -> None:
    async def scenario() -> None:
        from enitide_lab.ec2model import Effect, Fault

        scene = Scene(subnet_cidr="10.0.0.0/24")
        await fragmented(scene)
        scene.physics.add(Fault(verb, effect=Effect(effect), code="InternalError", http_status=500, times=1))
        scene.operator()
        await scene.until(lambda: settled(scene), "26 addresses", 120)
        await asyncio.sleep(30)
        await scene.check_sound()
        assert await scene.provisioned("n") <= 27

    run_virtual(scenario())


def test_where_no_map_can_be_read_a_refusal_teaches_and_prefixes_are_tried_again_after_five_minutes() -> None:
    async def scenario() -> None:
        from enitide_lab.ec2model import Fault

        scene = Scene(subnet_cidr="10.0.0.0/24")
        scene.physics.add(Fault("GetSubnetCidrReservations", code="UnauthorizedOperation", http_status=403))
        await started(scene, 4, room=(60, 0))
        await filled(scene, 4)
        await scene.pods("n", 2, prefix="more")
        await filled(scene, 6)
        assert held(scene) == (6, 0)
        assert scene.calls("AssignPrivateIpAddresses", "InsufficientCidrBlocks") == 1
        scene.model.set_subnet_room(scene.subnet, 60, 2)
        await asyncio.sleep(300)
        await scene.pods("n", 1, prefix="last")
        await filled(scene, 22)
        assert held(scene) == (6, 1)

    run_virtual(scenario())
