"""What is read of a crowded account: pages, and only what is ours to know."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_ipam.model import TAG_CLUSTER, TAG_TOKEN
from enitide_lab.ec2model import port

pytestmark = pytest.mark.sim

PAGE = 20


class Watch:
    """Notes what every listing of ENIs asked for and got."""

    def __init__(self, scene: Scene) -> None:
        self.asked: list[tuple[dict[str, Any], int | None]] = []
        self.seen: set[str] = set()
        real = scene.model.describe_network_interfaces

        def describe(*args: Any, **options: Any) -> Any:
            page = real(*args, **options)
            self.asked.append((dict(options.get("filters") or {}), options.get("max_results")))
            self.seen |= {each.id for each in page.items}
            return page

        scene.model.describe_network_interfaces = describe  # type: ignore[method-assign]


def test_a_crowded_account_is_read_in_pages_and_enis_of_others_are_never_listed(monkeypatch: Any) -> None:
    monkeypatch.setattr(port, "PAGE", PAGE)

    async def scenario() -> None:
        scene = Scene()
        await scene.install(interfaces={"subnetSelector": {"ids": [scene.subnet]}})
        elsewhere = scene.model.create_subnet(scene.vpc, "10.0.128.0/20", "us-west-2a").id
        foreign = {scene.model.create_network_interface(elsewhere).id for _ in range(1500)}
        tags = {TAG_CLUSTER: "sim", TAG_TOKEN: "gone"}
        for _ in range(90):
            scene.model.create_network_interface(scene.subnet, groups=(scene.group,), tags=tags)
        for number in range(50):
            await scene.node(f"n{number}")
        watch = Watch(scene)
        operator = scene.operator(drift_interval=120)

        async def filled() -> bool:
            return all([await scene.provisioned(name) >= 8 for name in scene.instances])

        await scene.until(filled, "all pools", 60)
        listings = len(watch.asked)
        assert listings == 3, "50 nodes are one question: three pages of 20"
        await asyncio.sleep(900)
        assert not watch.seen & foreign
        for filters, most in watch.asked:
            assert filters, "unfiltered"
            assert most == PAGE
        assert scene.physics.largest_reply <= PAGE
        assert operator.metrics.swept._value.get() == 90
        print(f"{len(watch.asked)} listings in 15 minutes, the largest of {scene.physics.largest_reply}")

    run_virtual(scenario())
