"""Things that break a rule only when several of them meet: each is one order of events, its times are drawn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from enitide_ipam.model import TAG_CLUSTER, TAG_NODE
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import ModelError
from support.interleaving.moments import within

if TYPE_CHECKING:
    from support.interleaving.world import World


async def a_standby_lags(world: World, moment: str, late_s: float, pause_s: float, burst: int) -> None:
    """One stands ready whose watch is late, and leads soon after that moment: what it knows is old."""
    old = world.leader() or world.operators[0]
    standby = next((each for each in world.operators if each is not old), None) or world.start_operator()
    await within(standby.engine.synced(), 5.0)
    world.weather.over(standby.name, "ENINode").late_s = late_s
    await world.moments.until(moment, 20.0)
    await asyncio.sleep(pause_s)
    world.burst(burst)
    await asyncio.sleep(pause_s)
    await within(old.stop(), 40.0)
    old.crash()
    world.operators.remove(old)


async def asked_again(world: World, moment: str, cut_off_s: float, come: int, stay: int, pause_s: float) -> None:
    """A request for addresses is taken back and made again while the agents' writes do not come through."""
    await world.moments.until(moment, 20.0)
    names = {name: [kubelet.start() for _ in range(come)] for name, kubelet in world.kubelets.items()}
    await asyncio.sleep(pause_s)
    for name in world.kubelets:
        world.scene.store.faults.add(KubeFault(kind="ENINode", delay_s=cut_off_s, client=f"agent-{name}"))
    await asyncio.sleep(pause_s)
    for name, kubelet in world.kubelets.items():
        for each in names[name][stay:]:
            kubelet.end(each, object_first=True)


def strangers_come(world: World, count: int, addresses: int) -> None:
    """ENIs of others take addresses of the subnet, as long as there are some."""
    model, scene = world.scene.model, world.scene
    for _ in range(count):
        try:
            eni = model.create_network_interface(
                scene.subnet, groups=(scene.group,), secondary_count=addresses, tags={TAG_CLUSTER: "another"}
            )
        except ModelError:
            return
        world.strangers.add(eni.id)
        world.tally["stranger comes"] += 1


def strangers_go(world: World, count: int) -> None:
    """Some of them give theirs back."""
    for each in sorted(world.strangers)[:count]:
        world.strangers.remove(each)
        world.scene.model.delete_network_interface(each)
        world.tally["stranger goes"] += 1


def leak(world: World, count: int) -> None:
    """ENIs of ours that nobody speaks of, as an operator of old would have left them."""
    scene = world.scene
    tags = {TAG_CLUSTER: "sim", TAG_NODE: "gone"}
    for _ in range(count):
        try:
            eni = scene.model.create_network_interface(scene.subnet, groups=(scene.group,), tags=tags)
        except ModelError:
            return
        world.leaks.add(eni.id)
        world.tally["leak left"] += 1
