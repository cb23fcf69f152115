"""Static public addresses: one Elastic IP with the class's tags on each node's own ENI."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_lab.ec2model import Fault

pytestmark = pytest.mark.sim

TAGS = {"use": "nodes"}


async def started(scene: Scene, nodes: int) -> None:
    await scene.install(interfaces={"elasticIPSelector": {"tags": TAGS}})
    for number in range(nodes):
        await scene.node(f"n{number}")
    scene.operator()


async def public_ip(scene: Scene, node: str) -> str:
    return (await scene.eninode(node)).status.public_ip


async def told(scene: Scene, node: str = "n0") -> tuple[str, str]:
    """The condition's status and reason."""
    conditions = (await scene.eninode(node)).status.conditions
    return next(((each.status, each.reason) for each in conditions if each.type == "ElasticIP"), ("", ""))


async def everyone_has_one(scene: Scene) -> bool:
    found = [await public_ip(scene, name) for name in scene.instances]
    return all(found) and len(set(found)) == len(found)


def test_each_node_gets_one_of_its_own_with_all_the_tags_by_one_read_and_one_call() -> None:
    async def scenario() -> None:
        scene = Scene()
        fitting = {scene.model.allocate_address(tags=TAGS | {"n": str(n)}).address for n in range(20)}
        scene.model.allocate_address(tags={"use": "other"})
        scene.model.allocate_address()
        await started(scene, 20)
        await scene.until(lambda: everyone_has_one(scene), "20 public addresses", 10)
        assert {await public_ip(scene, name) for name in scene.instances} == fitting
        assert {each.elastic_ip for name in scene.instances for each in scene.attached(name)} == fitting
        assert await told(scene) == ("True", "ElasticIPAssociated")
        assert (scene.calls("DescribeAddresses"), scene.calls("AssociateAddress")) == (1, 20)
        await asyncio.sleep(3600)
        assert (scene.calls("DescribeAddresses"), scene.calls("AssociateAddress")) == (1, 20)

    run_virtual(scenario())


def test_without_a_free_one_the_node_says_so_serves_its_pods_and_takes_the_next_that_is_free() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.allocate_address(tags=TAGS)
        await started(scene, 2)

        async def one_waits() -> bool:
            said = {await told(scene, name) for name in ("n0", "n1")}
            return said == {("True", "ElasticIPAssociated"), ("False", "NoElasticIP")}

        await scene.until(one_waits, "one has it, one says why not", 10)
        assert min([await scene.provisioned(name) for name in ("n0", "n1")]) >= 8
        assert {await scene.ready_reason(name) for name in ("n0", "n1")} == {"PoolFilled"}
        scene.model.allocate_address(tags=TAGS)
        await scene.until(lambda: everyone_has_one(scene), "the new one", 70)

    run_virtual(scenario())


def test_one_that_is_there_already_is_adopted_whatever_its_tags() -> None:
    async def scenario() -> None:
        scene = Scene()
        there = scene.model.allocate_address()
        scene.model.allocate_address(tags=TAGS)
        await scene.install(interfaces={"elasticIPSelector": {"tags": TAGS}})
        await scene.node("n0")
        scene.model.associate_address(there.id, scene.attached("n0")[0].id)
        scene.operator()
        await scene.until(lambda: everyone_has_one(scene), "the address", 10)
        assert await public_ip(scene, "n0") == there.address
        assert not scene.calls("AssociateAddress")

    run_virtual(scenario())


def test_where_another_was_faster_the_next_one_is_taken_and_nobodys_is_taken_away() -> None:
    async def scenario() -> None:
        scene = Scene()
        first, second = scene.model.allocate_address(tags=TAGS), scene.model.allocate_address(tags=TAGS)
        theirs = scene.model.place_interface(scene.subnet)
        scene.physics.add(Fault("AssociateAddress", delay_s=2.0, effect="delay", times=1))
        await started(scene, 1)

        async def asked() -> bool:
            return (await told(scene))[1] == "Filling"

        await scene.until(asked, "the call is under way", 10)
        scene.model.associate_address(first.id, theirs.id)
        await scene.until(lambda: everyone_has_one(scene), "another address", 15)
        assert await public_ip(scene, "n0") == second.address
        assert scene.model.describe_addresses()[0].interface_id == theirs.id
        assert scene.calls("AssociateAddress", "Resource.AlreadyAssociated") == 1

    run_virtual(scenario())


def test_a_missing_right_is_the_reason_and_no_pod_waits_for_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.allocate_address(tags=TAGS)
        scene.physics.add(Fault("AssociateAddress", code="UnauthorizedOperation", http_status=403))
        await started(scene, 1)

        async def said() -> bool:
            return await told(scene) == ("False", "Unauthorized")

        await scene.until(said, "the reason", 15)
        assert await scene.provisioned("n0") >= 8
        scene.physics.remove()
        await scene.until(lambda: everyone_has_one(scene), "the address", 120)

    run_virtual(scenario())


def test_one_that_is_taken_away_by_hand_is_replaced_and_a_lost_answer_costs_no_second_one() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.allocate_address(tags=TAGS)
        scene.model.allocate_address(tags=TAGS)
        scene.physics.add(Fault("AssociateAddress", effect="lost", times=1))
        await started(scene, 1)
        await scene.until(lambda: everyone_has_one(scene), "the address", 60)
        held = [each for each in scene.model.describe_addresses() if each.interface_id]
        assert len(held) == 1
        scene.model.disassociate_address(held[0].association_id)

        async def again() -> bool:
            return bool(scene.attached("n0")[0].elastic_ip)

        await scene.until(again, "one is on the ENI again", 800)

    run_virtual(scenario())


def test_a_class_without_the_selector_reads_no_elastic_ips() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.allocate_address(tags=TAGS)
        await scene.install()
        await scene.node("n0")
        scene.operator()
        await asyncio.sleep(60)
        assert await told(scene) == ("", "")
        assert not scene.calls("DescribeAddresses")

    run_virtual(scenario())
