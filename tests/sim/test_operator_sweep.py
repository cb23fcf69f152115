"""Leaked ENIs and ENINodes of the dead are collected, and nothing else ever is."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene, SimOperator
from support.virtual_loop import run_virtual

from enitide_api.errors import KubeNotFound
from enitide_api.resources import Condition
from enitide_ipam.model import TAG_CLUSTER, TAG_NODE, TAG_TOKEN
from enitide_kube.port import LEASE, NODE
from enitide_lab.ec2model import Effect, Fault
from enitide_operator.cli.collect import read_cluster
from enitide_operator.cli.status import report

pytestmark = pytest.mark.sim


def _leak(scene: Scene, count: int, cluster: str = "sim", node: str = "gone") -> list[str]:
    """Loose ENIs with the tags that a crashed operator leaves."""
    made = []
    for number in range(count):
        tags = {TAG_CLUSTER: cluster, TAG_NODE: node, TAG_TOKEN: f"{cluster}-{node}-{number}"}
        tags = {key: value for key, value in tags.items() if value}
        made.append(scene.model.create_network_interface(scene.subnet, groups=(scene.group,), tags=tags).id)
    return made


def _loose(scene: Scene) -> set[str]:
    return {each.id for each in scene.detached()}


def _sweep(operator: SimOperator) -> Condition | None:
    return next((each for each in operator.engine.conditions if each.type == "Sweep"), None)


@pytest.mark.parametrize("budget", [{}, {"all": {"rate": 4, "burst": 20}}], ids=["documented", "4 a second"])
def test_500_leaked_enis_are_gone_within_15_minutes_and_no_other_clusters_is_touched(budget: dict) -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.physics.throttle(on=True)
        await scene.install()
        await scene.node("n")
        _leak(scene, 500)
        spared = {*_leak(scene, 20, "other"), *_leak(scene, 20, "sim-2"), *_leak(scene, 20, "")}
        scene.operator(budget=budget)

        async def swept() -> bool:
            return _loose(scene) == spared

        took_s = await scene.until(swept, "the leaks are gone", 900)
        assert took_s < 300
        assert scene.calls("DeleteNetworkInterface", "RequestLimitExceeded") == 0
        assert scene.calls("DeleteNetworkInterface") == 500
        print(f"500 leaks took {took_s:.0f} s; {scene.calls('DescribeNetworkInterfaces')} listings")
        await asyncio.sleep(3600)
        assert _loose(scene) == spared
        # nothing to do costs a dozen looks an hour
        assert scene.calls("DescribeNetworkInterfaces") < 40

    run_virtual(scenario())


def test_nodes_that_want_addresses_come_before_the_sweep() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        _leak(scene, 300)
        scene.operator(budget={"all": {"rate": 2, "burst": 5}})

        async def sweeping() -> bool:
            return scene.calls("DeleteNetworkInterface") > 20

        await scene.until(sweeping, "the sweep is at work", 300)
        await scene.node("n")

        async def filled() -> bool:
            return await scene.provisioned("n") >= 8

        assert await scene.until(filled, "the node is served", 60) < 15
        assert len(_loose(scene)) > 100

    run_virtual(scenario())


def test_an_eni_whose_attach_hangs_for_minutes_is_no_leak() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 20)
        scene.physics.add(Fault("AttachNetworkInterface", code="RequestLimitExceeded", http_status=503, for_s=900))
        scene.operator()
        await asyncio.sleep(880)
        made = _loose(scene)
        assert len(made) == 2

        async def filled() -> bool:
            return await scene.provisioned("n") == 24

        await scene.until(filled, "they are attached after all", 200)
        assert made <= {each.id for each in scene.attached("n")}
        assert scene.calls("DeleteNetworkInterface") == 0

    run_virtual(scenario())


def test_an_eni_of_ours_that_someone_detached_is_collected() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 12)
        scene.operator(drift_interval=60)

        async def filled() -> bool:
            return await scene.provisioned("n") >= 12 and len(scene.attached("n")) == 2

        await scene.until(filled, "two ENIs", 30)
        ours = next(each for each in scene.attached("n") if each.attachment and each.attachment.index)
        assert ours.attachment is not None
        scene.model.detach_network_interface(ours.attachment.id)

        async def replaced() -> bool:
            return await filled() and ours.id not in {each.id for each in (await scene.eninode("n")).status.interfaces}

        await scene.until(replaced, "another stands in its place", 300)

        async def gone() -> bool:
            return not _loose(scene)

        await scene.until(gone, "it is collected", 600)
        await scene.check_sound()

    run_virtual(scenario())


def test_empty_stale_and_failing_listings_delete_nothing_and_say_why() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        leaked = set(_leak(scene, 3))
        scene.physics.add(Fault("DescribeNetworkInterfaces", code="UnauthorizedOperation", for_s=600))
        operator = scene.operator()
        await asyncio.sleep(590)
        assert _loose(scene) == leaked
        told = _sweep(operator)
        assert told is not None
        assert (told.status, told.reason) == ("False", "Unauthorized")
        scene.physics.add(Fault("DeleteNetworkInterface", code="UnauthorizedOperation", times=3))

        async def gone() -> bool:
            return not _loose(scene)

        await scene.until(gone, "they are deleted in the end", 1500)
        await asyncio.sleep(300)
        told = _sweep(operator)
        assert told is not None
        assert (told.status, told.reason) == ("True", "LeaksSwept")

    run_virtual(scenario())


def test_without_a_cluster_name_the_sweep_is_off_and_says_so_on_the_lease_in_metrics_and_to_people() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        leaked = set(_leak(scene, 2)) | set(_leak(scene, 2, ""))
        operator = scene.operator(cluster_name="")
        await asyncio.sleep(1800)
        assert _loose(scene) == leaked
        told = _sweep(operator)
        assert told is not None
        assert (told.status, told.reason) == ("False", "NoClusterName")
        labels = {"type": "Sweep", "reason": "NoClusterName"}
        assert operator.metrics.registry.get_sample_value("enitide_operator_condition", labels) == 0.0
        cluster = await read_cluster(scene.kube, namespace="kube-system", lease="enitide-operator", pods=False)
        shown = report(cluster, scene.loop.wall())
        assert any("NoClusterName" in each["detail"] for each in shown["checks"])
        assert shown["healthy"]  # off by choice

    run_virtual(scenario())


def test_a_new_leader_counts_sightings_anew_and_writes_its_own_conditions() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        _leak(scene, 1)
        first = scene.operator("first")
        await asyncio.sleep(40)
        first.crash()
        await asyncio.sleep(5)
        scene.operator("second")

        async def gone() -> bool:
            return not _loose(scene)

        assert await scene.until(gone, "the leak is gone", 300) > 60
        lease = await scene.kube.get(LEASE, "enitide-operator", namespace="kube-system")
        assert b"LeaksSwept" in lease

    run_virtual(scenario())


# --- ENINodes of the dead ---


async def _gone(scene: Scene, name: str) -> bool:
    try:
        await scene.eninode(name)
    except KubeNotFound:
        return True
    return False


def test_the_eninode_of_a_dead_instance_without_a_node_is_collected() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for name in ("dead", "lives"):
            await scene.node(name)
        scene.operator()
        await asyncio.sleep(30)
        scene.model.terminate_instances((scene.instances["dead"],))
        for name in ("dead", "lives"):
            await scene.kube.delete(NODE, name)
        took_s = await scene.until(lambda: _gone(scene, "dead"), "it is collected", 600)
        assert took_s >= 120  # without a Node for a minute, and EC2 asked twice a minute apart
        await asyncio.sleep(3600)
        assert not await _gone(scene, "lives")

    run_virtual(scenario())


def test_an_eninode_that_was_orphaned_before_this_operator_began_is_collected_too() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("dead")
        scene.model.terminate_instances((scene.instances["dead"],))
        await scene.kube.delete(NODE, "dead")
        scene.operator()
        await scene.until(lambda: _gone(scene, "dead"), "it is collected", 600)

    run_virtual(scenario())


def test_empty_answers_alone_collect_no_eninode() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for name in ("a", "b"):
            await scene.node(name)
        scene.operator()
        await asyncio.sleep(30)
        # for an hour EC2 says that it knows nothing, but a's Node is there; b's instance is asked for once emptily
        fault = scene.physics.add(Fault("DescribeInstances", effect=Effect.EMPTY))
        await scene.kube.delete(NODE, "b")

        async def asked_once() -> bool:
            return scene.calls("DescribeInstances") == 1

        await scene.until(asked_once, "EC2 is asked", 300)
        scene.physics.remove(fault)
        await asyncio.sleep(3600)
        assert not await _gone(scene, "a")
        assert not await _gone(scene, "b")

    run_virtual(scenario())


def test_a_node_that_only_the_watch_has_lost_keeps_its_eninode() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        operator = scene.operator()
        await asyncio.sleep(30)
        scene.model.terminate_instances((scene.instances["n"],))
        fleet = operator.engine._fleet
        assert fleet is not None
        fleet._leftovers.orphaned("n")  # as told by a watch that lags behind: the Node was made anew since
        await asyncio.sleep(1200)
        assert scene.calls("DescribeInstances") >= 2
        assert not await _gone(scene, "n")
        await scene.kube.delete(NODE, "n")
        await scene.until(lambda: _gone(scene, "n"), "once the API server says so too", 900)

    run_virtual(scenario())
