"""What a scrape says is what the world has: every value is compared with EC2's model or the API store."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.operator_sim import Scene, SimOperator
from support.virtual_loop import run_virtual

from enitide_lab.ec2model import Fault

pytestmark = pytest.mark.sim
P = "enitide_operator_"


def scrape(operator: SimOperator) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Name without prefix -> labels -> value, as Prometheus would read it."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    text = generate_latest(operator.metrics.registry).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name.removeprefix(P)][tuple(sorted(sample.labels.items()))] = sample.value
    return found


def by(samples: dict[tuple[tuple[str, str], ...], float], label: str) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for labels, value in samples.items():
        found[dict(labels)[label]] += value
    return found


async def _filled(scene: Scene, name: str, count: int) -> None:
    async def check() -> bool:
        return await scene.provisioned(name) >= count

    await scene.until(check, f"{count} addresses on {name}", 120)
    await asyncio.sleep(20)


def test_nodes_addresses_enis_and_subnets_are_as_ec2_has_them() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("a")
        await scene.node("b")
        await scene.pods("a", 12)
        await scene.spec("b", demand={"inUse": 3, "cooling": 2, "waiting": 0})
        operator = scene.operator()
        await _filled(scene, "a", 16)
        seen = scrape(operator)
        attached = [*scene.attached("a"), *scene.attached("b")]
        held = sum(len(eni.addresses) - 1 for eni in attached)
        assert by(seen["nodes"], "state") == {"total": 2, "in-deficit": 0, "at-capacity": 0, "tainted": 0}
        assert by(seen["addresses"], "state") == {"provisioned": held, "in-use": 3, "cooling": 2, "needed": 0}
        assert by(seen["interfaces"], "state") == {"published": len(attached), "pending": 0}
        # m5.large: 3 ENIs of 10 addresses, one of them the ENI's own
        assert seen["interface_candidates"][()] == sum(len(eni.addresses) < 10 for eni in attached)
        assert seen["empty_interface_slots"][()] == 2 * 3 - len(attached)
        free = scene.model.describe_subnets().items[0].free
        assert by(seen["subnet_free_addresses"], "subnet") == {scene.subnet: free}
        assert by(seen["addresses_allocated_total"], "subnet") == {scene.subnet: held}
        assert by(seen["interfaces_created_total"], "subnet") == {scene.subnet: len(attached) - 2}
        assert by(seen["ec2_calls_total"], "verb") == {
            verb: scene.calls(verb) for verb in by(seen["ec2_calls_total"], "verb")
        }
        assert seen["first_address_seconds_count"][()] == 2
        assert seen["leader"][()] == 1

    run_virtual(scenario())


def test_addresses_that_went_back_are_counted_where_they_went() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"preAllocate": 2, "maxAboveWatermark": 0}, release={"delay": "5s"})
        await scene.node("n")
        await scene.spec("n", demand={"inUse": 6, "cooling": 0, "waiting": 0})
        operator = scene.operator()
        await _filled(scene, "n", 8)
        await scene.spec("n", demand={"inUse": 1, "cooling": 0, "waiting": 0})
        await asyncio.sleep(60)
        assert scrape(operator)["reclaim_age_seconds"][()] > 40  # nobody answers
        interface = (await scene.eninode("n")).status.interfaces[0]
        await scene.spec("n", yielded=list(interface.addresses[:5]))
        await asyncio.sleep(20)
        seen = scrape(operator)
        assert by(seen["addresses_released_total"], "subnet") == {scene.subnet: 5}
        assert seen["reclaim_age_seconds"][()] == 0
        assert seen["releasing_age_seconds"][()] == 0
        assert by(seen["release_seconds_count"], "action") == {"Unassign": 1}

    run_virtual(scenario())


def test_throttling_and_a_node_that_waits_are_seen_with_reason_and_age() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("AssignPrivateIpAddresses", code="RequestLimitExceeded", http_status=503))
        operator = scene.operator()
        await asyncio.sleep(45)
        seen = scrape(operator)
        refused = scene.calls("AssignPrivateIpAddresses", "RequestLimitExceeded")
        assert refused > 2
        assert by(seen["ec2_throttled_total"], "verb") == {"AssignPrivateIpAddresses": refused}
        assert by(seen["nodes_waiting"], "reason") == {"Throttled": 1}
        assert 30 < by(seen["nodes_waiting_oldest_seconds"], "reason")["Throttled"] <= 45
        assert by(seen["nodes"], "state")["in-deficit"] == 1
        assert "first_address_seconds_count" in seen
        assert seen["first_address_seconds_count"][()] == 0
        assert by(seen["ec2_budget_rate"], "bucket")["AssignPrivateIpAddresses"] < 5

    run_virtual(scenario())


def test_a_vpc_and_nodes_that_cannot_be_read_grow_old_in_the_metrics() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        operator = scene.operator(drift_interval=60)
        await _filled(scene, "n", 8)
        scene.physics.add(Fault("reads", code="UnauthorizedOperation", http_status=403))
        await asyncio.sleep(600)
        seen = scrape(operator)
        assert seen["node_read_age_seconds"][()] > 480
        assert by(seen["vpc_read_age_seconds"], "vpc")[scene.vpc] > 480
        assert by(seen["node_reads_total"], "outcome")["Unauthorized"] >= 2
        scene.physics.remove()
        await asyncio.sleep(300)
        assert scrape(operator)["node_read_age_seconds"][()] < 200

    run_virtual(scenario())


def test_an_intent_that_stands_is_counted_and_ages() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"minAllocate": 12})
        await scene.node("n")
        scene.physics.add(Fault("AttachNetworkInterface", code="RequestLimitExceeded", http_status=503))
        operator = scene.operator()
        await asyncio.sleep(40)
        seen = scrape(operator)
        assert by(seen["interfaces"], "state")["pending"] == 1
        assert 25 < seen["pending_age_seconds"][()] <= 40

    run_virtual(scenario())


def test_only_the_setting_brings_series_per_node() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.spec("n", demand={"inUse": 3, "cooling": 1, "waiting": 0})
        quiet = scene.operator("op-1")
        await _filled(scene, "n", 8)
        assert not [name for name in scrape(quiet) if name.startswith("node_addresses")]
        await quiet.stop()
        loud = scene.operator("op-2", node_metrics=True)
        await asyncio.sleep(90)
        provisioned = await scene.provisioned("n")
        states = by(scrape(loud)["node_addresses"], "state")
        assert states["provisioned"] == provisioned
        assert states["to-give"] == provisioned - 3 - 1

    run_virtual(scenario())


def test_a_follower_exports_no_fleet_and_no_subnet() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.operator("op-1")
        await _filled(scene, "n", 8)
        follower = scene.operator("op-2")
        await asyncio.sleep(30)
        seen = scrape(follower)
        assert seen["leader"][()] == 0
        assert by(seen["addresses"], "state")["provisioned"] == 0
        assert not seen["subnet_free_addresses"]

    run_virtual(scenario())
