"""Terms never overlap in mutations: a leader that is stopped before its next call, and wakes up when another one leads.

Real processes, a real SIGSTOP. The stopped leader stands right before one call of every kind: each of them was refused
for rate and waits in the gateway to be sent again. The Lease is shortened while its holder is stopped, so that the
follower need not wait for 45 s; the stopped leader's own term is waited for in full.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from support.processes import Stage, stage, until

from enitide_kube.lease import CALL_MAX_S, TERM_AFTER_RENEWAL_S
from enitide_kube.port import ENICLASS, ENINODE, LEASE

pytestmark = pytest.mark.e2e

STUCK = {
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
}


async def test_a_leader_that_wakes_up_after_its_term_sends_nothing_and_nothing_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    async with stage(tmp_path) as scene:
        instances = {name: await scene.node(name) for name in ("filling", "attaching", "releasing")}
        first = scene.start_operator("AKIAFIRST")
        await until(lambda: _filled(scene, instances), "three pools are filled")
        await _stand_before_every_call(scene, instances)

        first.pause()
        stopped_at = time.monotonic()
        before = len(scene.mutations_by("AKIAFIRST"))
        scene.control.remove_faults()
        await scene.kube.patch(
            LEASE, "enitide-operator", {"spec": {"leaseDurationSeconds": 1}}, namespace="kube-system"
        )
        second = scene.start_operator("AKIASECOND")
        await until(lambda: _settled(scene, instances), "the second operator has finished everything", 45)
        seen = {name: await scene.eninode(name) for name in instances}

        await asyncio.sleep(max(0.0, stopped_at + TERM_AFTER_RENEWAL_S - CALL_MAX_S + 1 - time.monotonic()))
        first.resume()
        await until(lambda: _said(first.log, '"following"'), "the first operator knows that it follows")
        await asyncio.sleep(2)  # time in which it could send what it had in hand
        assert len(scene.mutations_by("AKIAFIRST")) == before
        assert {name: await scene.eninode(name) for name in instances} == seen
        await _sound(scene, instances)

        # and it is well: it takes over when the second one goes, and finds nothing to do
        assert second.terminate() == 0
        await until(lambda: _said(first.log, '"leading"', times=2), "the first operator leads again")
        await asyncio.sleep(2)
        assert len(scene.mutations_by("AKIAFIRST")) == before
        await _sound(scene, instances)


async def _stand_before_every_call(scene: Stage, instances: dict[str, str]) -> None:
    """Bring the leader right before a Create, an Attach, an Assign and an Unassign that EC2 refuses for rate."""
    scene.control.add_fault(verb="AttachNetworkInterface", code="RequestLimitExceeded", http_status=503)
    scene.control.add_fault(verb="UnassignPrivateIpAddresses", code="RequestLimitExceeded", http_status=503)
    await scene.pods("attaching", 12)

    async def attaching() -> bool:
        return bool(scene.detached())

    await until(attaching, "an ENI is made and cannot be attached")
    node = await scene.eninode("releasing")
    addresses = list(node.status.interfaces[0].addresses)
    pool = {"preAllocate": 2, "maxAboveWatermark": 0}
    excess = {"pool": pool, "release": {"enabled": True, "delay": "1s", "idleInterfaceDelay": "10m"}}
    await scene.kube.patch(ENICLASS, "default", {"spec": excess})

    async def asked() -> bool:
        reclaim = (await scene.eninode("releasing")).status.reclaim
        return reclaim is not None and reclaim.count > 0

    await until(asked, "the operator asks for addresses back")
    await scene.kube.patch(ENINODE, "releasing", {"spec": {"yielded": addresses[:3]}})
    for verb in ("CreateNetworkInterface", "AssignPrivateIpAddresses"):
        scene.control.add_fault(verb=verb, code="RequestLimitExceeded", http_status=503)
    await scene.pods("filling", 16)

    async def stuck() -> bool:
        refused = {c["verb"] for c in scene.mutations_by("AKIAFIRST") if c["outcome"] == "RequestLimitExceeded"}
        return refused >= STUCK

    await until(stuck, "every kind of call stands before EC2")


async def _filled(scene: Stage, instances: dict[str, str]) -> bool:
    nodes = [await scene.eninode(name) for name in instances]
    return all(node.status.capacity.provisioned >= 8 for node in nodes)


async def _settled(scene: Stage, instances: dict[str, str]) -> bool:
    nodes = {name: await scene.eninode(name) for name in instances}
    return (
        nodes["filling"].status.capacity.provisioned >= 16
        and nodes["attaching"].status.capacity.provisioned >= 12
        and not any(node.status.pending or node.status.releasing for node in nodes.values())
        and not scene.detached()
    )


async def _said(log: Path, text: str, times: int = 1) -> bool:
    return (await asyncio.to_thread(log.read_text)).count(text) >= times


async def _sound(scene: Stage, instances: dict[str, str]) -> None:
    """EC2 holds exactly what is published: nothing lost, doubled, left lying about or unassigned while published."""
    everything: Counter[str] = Counter()
    for name, instance in instances.items():
        status = (await scene.eninode(name)).status
        in_ec2 = {
            eni["NetworkInterfaceId"]: {p["PrivateIpAddress"] for p in eni["PrivateIpAddresses"] if not p["Primary"]}
            for eni in scene.interfaces(instance)
        }
        assert {each.id: set(each.addresses) for each in status.interfaces} == in_ec2
        everything.update(address for each in status.interfaces for address in each.addresses)
    assert max(everything.values()) == 1
    assert not scene.detached()
