"""Hands and accidents: instances, ENIs, subnets and groups that vanish, change or are claimed twice."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.pool_agents import NodeAgent
from support.virtual_loop import run_virtual

from enitide_kube.port import ENICLASS, ENINODE, NODE

pytestmark = pytest.mark.sim


async def _has(scene: Scene, node: str, at_least: int) -> bool:
    return await scene.provisioned(node) >= at_least


async def _says(scene: Scene, node: str, reason: str) -> bool:
    return await scene.ready_reason(node) == reason


def _touched(scene: Scene, since: int) -> list[str]:
    """Mutating calls that were sent since then."""
    return [call.verb for call in list(scene.physics.calls)[since:] if not call.verb.startswith(("Describe", "Get"))]


def test_for_an_instance_that_vanished_nothing_is_ordered_and_the_reason_is_told() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.node("other")
        scene.operator(drift_interval=60)
        await scene.until(lambda: _has(scene, "n", 8), "the pool", 30)
        scene.model.terminate_instances((scene.instances["n"],))
        await scene.until(lambda: _says(scene, "n", "InstanceMissing"), "the reason", 300)
        sent = len(scene.physics.calls)
        await scene.pods("n", 20)
        await asyncio.sleep(1800)
        assert _touched(scene, sent) == []
        assert await _says(scene, "other", "PoolFilled")

    run_virtual(scenario())


def test_an_eni_attached_by_hand_serves_and_is_never_removed() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(release={"delay": "30s", "idleInterfaceDelay": "60s"})
        await scene.node("n")
        agent = NodeAgent(scene, "n")
        scene.operator(drift_interval=60)
        await scene.until(lambda: _has(scene, "n", 8), "the pool", 30)
        made = scene.model.create_network_interface(scene.subnet, groups=(scene.group,), secondary_count=3)
        scene.model.attach_network_interface(made.id, scene.instances["n"], 2)
        await scene.until(lambda: _has(scene, "n", 11), "it is seen and published", 300)
        await agent.use(10)
        await scene.until(lambda: _has(scene, "n", 18), "and filled like any other", 60)
        assert len(scene.attached("n")) == 2
        await agent.use(0)

        async def given_back() -> bool:
            return await scene.provisioned("n") == 8

        await scene.until(given_back, "its addresses go back", 600)
        await asyncio.sleep(1800)
        assert made.id in {each.id for each in scene.attached("n")}
        assert scene.calls("DetachNetworkInterface") == 0
        assert agent.lost == []

    run_virtual(scenario())


@pytest.mark.parametrize("how", ["detached", "deleted"])
def test_an_eni_that_is_detached_or_deleted_by_hand_is_replaced_and_not_published_any_more(how: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 12)
        scene.operator(drift_interval=60)
        await scene.until(lambda: _has(scene, "n", 12), "two ENIs", 30)
        await asyncio.sleep(30)
        second = next(each for each in scene.attached("n") if each.attachment and each.attachment.index)
        assert second.attachment is not None
        scene.model.detach_network_interface(second.attachment.id, force=True)
        await asyncio.sleep(1)
        if how == "deleted":
            scene.model.delete_network_interface(second.id)

        async def replaced() -> bool:
            shown = {each.id for each in (await scene.eninode("n")).status.interfaces}
            return second.id not in shown and await _has(scene, "n", 12)

        await scene.until(replaced, "another in its place", 300)
        await asyncio.sleep(900)
        assert not scene.detached()
        await scene.check_sound()

    run_virtual(scenario())


def test_a_deleted_subnet_is_no_place_for_new_enis_and_the_next_one_that_matches_is() -> None:
    async def scenario() -> None:
        scene = Scene()
        first, second = (
            scene.model.create_subnet(scene.vpc, cidr, "us-west-2a", tags={"for": "pods"}).id
            for cidr in ("10.0.64.0/20", "10.0.96.0/24")
        )
        await scene.install(interfaces={"subnetSelector": {"tags": {"for": "pods"}}})
        await scene.node("n")
        scene.operator()
        await scene.until(lambda: _has(scene, "n", 8), "the pool", 30)
        scene.model.delete_subnet(first)  # the roomier one; the operator has read it
        await scene.pods("n", 12)
        await scene.until(lambda: _has(scene, "n", 12), "an ENI in the other", 120)
        assert second in {each.subnet_id for each in scene.attached("n")}
        assert scene.calls("CreateNetworkInterface", "InvalidSubnetID.NotFound") <= 2
        await scene.check_sound()

    run_virtual(scenario())


def test_a_deleted_subnet_that_was_the_only_match_is_told_and_nothing_is_put_in_its_place() -> None:
    async def scenario() -> None:
        scene = Scene()
        only = scene.model.create_subnet(scene.vpc, "10.0.64.0/24", "us-west-2a").id
        await scene.install(interfaces={"subnetSelector": {"ids": [only]}})
        await scene.node("n")
        scene.operator()
        await scene.until(lambda: _has(scene, "n", 8), "the pool", 30)
        scene.model.delete_subnet(only)
        await scene.pods("n", 12)
        await scene.until(lambda: _says(scene, "n", "NoEligibleSubnet"), "the reason", 180)
        assert len(scene.attached("n")) == 1
        assert not scene.detached()

    run_virtual(scenario())


def test_a_deleted_security_group_is_told_and_never_replaced_by_another() -> None:
    async def scenario() -> None:
        scene = Scene()
        group = scene.model.create_security_group(scene.vpc, "pods").id
        await scene.install(interfaces={"securityGroupSelector": {"ids": [group]}})
        await scene.node("n")
        scene.operator()
        await scene.until(lambda: _has(scene, "n", 8), "the pool", 30)
        scene.model.delete_security_group(group)
        await scene.pods("n", 12)
        await scene.until(lambda: _says(scene, "n", "SecurityGroupsMissing"), "the reason", 180)
        assert len(scene.attached("n")) == 1
        again = scene.model.create_security_group(scene.vpc, "pods").id
        await scene.kube.patch(
            ENICLASS, "default", {"spec": {"interfaces": {"securityGroupSelector": {"ids": [again]}}}}
        )
        await scene.until(lambda: _has(scene, "n", 12), "an ENI with the right group", 300)
        await scene.check_sound()

    run_virtual(scenario())


@pytest.mark.parametrize(("before", "after", "slots"), [("m5.xlarge", "m5.large", 27), ("m5.large", "m5.xlarge", 56)])
def test_a_type_that_changes_after_stop_and_start_is_counted_anew_and_no_pod_is_hurt(
    before: str, after: str, slots: int
) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n", before)
        agent = NodeAgent(scene, "n")
        await agent.use(12)
        scene.operator()
        await scene.until(lambda: _has(scene, "n", 16), "the pool", 30)
        await asyncio.sleep(30)
        held = set(agent.held())
        agent.silence(silent=True)  # it starts anew and would write what it reads
        scene.model.instances[scene.instances["n"]].type = after
        await scene.spec("n", instance={"type": after})  # the agent's metadata, read at its start

        async def counted() -> bool:
            return (await scene.eninode("n")).status.capacity.slots == slots

        await scene.until(counted, "slots of the new type", 30)
        await asyncio.sleep(900)
        assert held <= set(agent.held())
        assert agent.lost == []

    run_virtual(scenario())


def test_of_two_nodes_that_claim_one_instance_neither_is_acted_on_and_both_say_why() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for name in ("a", "b"):
            await scene.node(name)
        scene.operator(cluster_name="", drift_interval=60)
        for name in ("a", "b"):
            await scene.until(lambda name=name: _has(scene, name, 8), "the pools", 30)
        stolen = scene.instances["a"]
        await scene.replace_node("b", stolen)
        await scene.spec("b", instance={"id": stolen})
        for name, other in (("a", "b"), ("b", "a")):
            await scene.until(lambda name=name: _says(scene, name, "InstanceMismatch"), "the reason", 30)
            conditions = {each.type: each for each in (await scene.eninode(name)).status.conditions}
            assert f"also claimed by {other}" in conditions["Ready"].message
        sent = len(scene.physics.calls)
        await scene.pods("a", 20)
        await scene.pods("b", 20)
        await asyncio.sleep(1500)
        assert _touched(scene, sent) == []
        reads = [call for call in list(scene.physics.calls)[sent:] if call.verb == "DescribeNetworkInterfaces"]
        assert len(reads) <= 1, "a drift reading a minute would be 25; the subnet is read once an hour"
        assert await scene.provisioned("a") == 8  # what is published stays
        await scene.kube.delete(NODE, "b")
        await scene.until(lambda: _has(scene, "a", 20), "the other goes on", 60)

    run_virtual(scenario())


def test_an_eninode_alone_that_claims_anothers_instance_keeps_nobody_from_anything() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for name in ("a", "b"):
            await scene.node(name)
        scene.operator()
        await scene.spec("b", instance={"id": scene.instances["a"]})  # its Node says otherwise
        await scene.until(lambda: _says(scene, "b", "InstanceMismatch"), "the reason", 30)
        await scene.pods("a", 20)
        await scene.until(lambda: _has(scene, "a", 20), "the other is served", 60)
        await scene.kube.delete(ENINODE, "b")

    run_virtual(scenario())
