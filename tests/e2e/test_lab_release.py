"""The real agent and datapath while ENIs go: idle ones are detached and deleted, pods on others notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.consistency import settle
from support.lab import LabDriver, lab_up, until, why_not

from enitide_kube.port import ENICLASS

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

NODE = "node-1"


@pytest.fixture(scope="module")
def lab() -> Iterator[LabDriver]:
    with lab_up("release", ("m5.large",)) as driver:
        yield driver


async def test_idle_enis_go_while_pods_run_and_come_again_when_they_are_wanted(lab: LabDriver) -> None:
    quick = {"pool": {"preAllocate": 2, "maxAboveWatermark": 0}, "cooldown": "1s"}
    async with lab.kube() as kube:
        release = {"release": {"delay": "2s", "idleInterfaceDelay": "5s"}}
        await kube.patch(ENICLASS, "default", {"spec": quick | release})
        await lab.run({f"p-{number}": NODE for number in range(20)}, 60)
        assert len(lab.enis(NODE)) == 3
        for number in range(4, 20):
            await lab.remove(kube, f"p-{number}")

        async def one_left() -> bool:
            status = (await lab.eninode(NODE))["status"]
            return len(lab.enis(NODE)) == len(status["interfaces"]) == 1 and not status.get("removing")

        await until(one_left, 120, "the idle ENIs are gone")
        survivors = [lab.sandbox(f"p-{number}") for number in range(4)]
        assert all(survivors)
        await settle(lab)
        await lab.run({f"q-{number}": NODE for number in range(12)}, 60)
        await asyncio.sleep(1)
        await settle(lab)
