"""SubnetReports under virtual time: they say what EC2 has, cost few writes, and go on after a restart."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_api.errors import KubeNotFound
from enitide_api.resources import decode
from enitide_api.subnetreport import SubnetReport
from enitide_ipam.block_text import Look, counts, read
from enitide_kube.port import SUBNETREPORT
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Fault

pytestmark = pytest.mark.sim


async def report(scene: Scene, name: str = "") -> SubnetReport | None:
    try:
        return decode(await scene.kube.get(SUBNETREPORT, name or scene.subnet), SubnetReport)
    except KubeNotFound:
        return None


async def written(scene: Scene, name: str = "", within_s: float = 120) -> SubnetReport:
    async def check() -> bool:
        found = await report(scene, name)
        return found is not None and bool(found.status.map)

    await scene.until(check, "the report is written, with its map", within_s)
    found = await report(scene, name)
    assert found is not None
    return found


def writes(scene: Scene) -> int:
    return sum(
        n
        for (_, verb, kind, _), n in scene.store.requests.items()
        if kind == "SubnetReport" and verb in {"create", "patch", "delete"}
    )


def test_a_report_says_what_is_left_and_who_holds_the_rest() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/22")
        await scene.install()
        await scene.node("n")
        scene.model.create_network_interface(scene.subnet, secondary_count=6)
        theirs = {"enitide.io/cluster": "other"}
        scene.model.create_network_interface(scene.subnet, secondary_count=2, tags=theirs)
        scene.operator()
        await asyncio.sleep(30)
        found = await written(scene)
        ours = sum(len(eni.addresses) for eni in scene.attached("n"))
        free = scene.model.describe_subnets().items[0].free
        addresses = found.status.addresses
        assert (addresses.total, addresses.free, addresses.reserved) == (1024, free, 5)
        assert (addresses.ours, addresses.other_clusters, addresses.foreign) == (ours, 3, 7)
        assert [(each.name, each.addresses) for each in found.status.clusters] == [("other", 3)]
        cells = read(found.status.map)
        blocks = found.status.prefixes
        assert blocks is not None
        assert len(cells) == blocks.total == 64
        assert counts(cells)[Look.WHOLE] == blocks.whole
        assert sum(each.free for each in cells) == free
        assert {each.type: each.status for each in found.status.conditions} == {"Room": "True", "WholePrefixes": "True"}
        assert found.spec.cidr == "10.0.0.0/22"
        assert found.spec.vpc_id == scene.vpc

    run_virtual(scenario())


def test_planning_of_nodes_without_prefixes_rests_on_no_map() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        operator = scene.operator()
        await written(scene)
        book = operator.engine._ctx.book
        assert book.map_of(scene.subnet) is not None
        assert book.subnets(scene.vpc, scene.unix())[0].blocks is None

    run_virtual(scenario())


def test_an_idle_subnet_costs_no_write_and_one_reading_an_hour() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.operator(drift_interval=36000)
        await written(scene)
        await asyncio.sleep(120)
        before, reads = writes(scene), scene.calls("DescribeNetworkInterfaces")
        await asyncio.sleep(3 * 3600)
        # once an hour the forecast knows of more, and the map is observed anew
        assert writes(scene) - before <= 8
        leaks = 3 * 3600 / 240  # the sweep's own looks, at most
        assert scene.calls("DescribeNetworkInterfaces") - reads <= 4 + leaks + 1

    run_virtual(scenario())


def test_a_busy_subnet_is_written_at_most_once_a_minute() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        operator = scene.operator()
        await written(scene)
        before = writes(scene)
        for number in range(120):  # every ten seconds something is taken
            operator.engine._ctx.book.took(scene.subnet, [f"10.0.9.{number}"], [], scene.unix())
            await asyncio.sleep(10)
        assert 12 <= writes(scene) - before <= 21

    run_virtual(scenario())


def test_growth_is_foretold_and_the_past_outlives_the_operator() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/23")
        await scene.install()
        await scene.node("n")
        operator = scene.operator("op-1")
        await written(scene)
        for hour in range(10):
            if hour == 5:
                await operator.stop()
                operator = scene.operator("op-2")
            for _ in range(6):
                scene.model.create_network_interface(scene.subnet, secondary_count=4)
                await asyncio.sleep(600)
        await asyncio.sleep(3700)  # EC2's counts are read hourly
        found = await report(scene)
        assert found is not None
        told = found.status.forecast
        assert told is not None
        assert told.hours > 9
        assert told.per_hour == pytest.approx(30, rel=0.25)
        assert told.confidence in {"medium", "high"}
        assert told.full_at is not None

    run_virtual(scenario())


def test_a_subnet_that_runs_full_says_so() -> None:
    async def scenario() -> None:
        scene = Scene(subnet_cidr="10.0.0.0/28")
        await scene.install()
        await scene.node("n")
        scene.model.create_network_interface(scene.subnet, secondary_count=9)
        scene.operator()
        found = await written(scene)
        said = {each.type: (each.status, each.reason) for each in found.status.conditions}
        assert said == {"Room": ("False", "SubnetExhausted"), "WholePrefixes": ("False", "NoWholePrefix")}

    run_virtual(scenario())


def test_a_report_follows_its_subnet_and_goes_with_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        other = scene.model.create_subnet(scene.vpc, "10.0.16.0/24", "us-west-2a").id
        unused = scene.model.create_subnet(scene.vpc, "10.0.17.0/24", "us-west-2b").id
        await scene.node("n")
        scene.operator(discovery_interval=600)
        await written(scene)
        await written(scene, other)  # same zone, same route table: nodes can use it
        assert await report(scene, unused) is None
        scene.model.delete_subnet(other)

        async def gone() -> bool:
            return await report(scene, other) is None

        await scene.until(gone, "the report is gone", 1500)
        await scene.kube.delete(SUBNETREPORT, scene.subnet)
        await scene.spec("n", demand={"inUse": 8, "cooling": 0, "waiting": 0})
        await written(scene, within_s=300)

    run_virtual(scenario())


def test_reports_that_cannot_be_written_hold_back_nothing_else() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.store.faults.add(KubeFault(kind="SubnetReport", code=403, times=None, client="op"))
        scene.operator()
        await asyncio.sleep(300)
        assert await scene.provisioned("n") == 8
        assert await report(scene) is None
        scene.store.faults.clear()
        await written(scene)

    run_virtual(scenario())


def test_without_a_map_the_counts_are_told_alone() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        code = "UnauthorizedOperation"
        scene.physics.add(Fault("GetSubnetCidrReservations", code=code, http_status=403))
        scene.operator()
        await asyncio.sleep(200)
        found = await report(scene)
        assert found is not None
        assert found.status.addresses.free == scene.model.describe_subnets().items[0].free
        assert found.status.addresses.ours is None
        assert not found.status.map

    run_virtual(scenario())


def test_the_setting_turns_reports_off() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.operator(subnet_reports=False)
        await asyncio.sleep(300)
        assert writes(scene) == 0

    run_virtual(scenario())
