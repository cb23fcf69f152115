"""Things that break a rule only when several of them meet: each is one order of events, its times are drawn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enitide_ipam.model import TAG_CLUSTER, TAG_NODE
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import ModelError
from support.interleaving.moments import within

if TYPE_CHECKING:
    from support.interleaving.world import World

CROWD = 32  # more than a small subnet has addresses


@dataclass(frozen=True, slots=True)
class Lag:
    """`burst` pods of a node go; from `sees_s` after `moment` on a standby sees all `late_s` late.

    Then as many come, and it leads soon after. `is_crowded`: the subnet has no other address than theirs.
    """

    node: str
    is_crowded: bool
    moment: str
    sees_s: float
    late_s: float
    burst: int
    pause_s: float


async def a_standby_lags(world: World, lag: Lag) -> None:
    """An operator that stands ready begins to lag in the middle of a release, and then leads by what it knows."""
    old = world.leader() or world.operators[0]
    standby = next((each for each in world.operators if each is not old), None) or world.start_operator()
    await within(standby.engine.synced(), 5.0)
    if lag.is_crowded:
        strangers_come(world, CROWD, 0)
    kubelet = world.kubelets[lag.node]
    for name in list(kubelet.pods)[: lag.burst]:
        kubelet.end(name, object_first=False)
    await world.moments.until(lag.moment)
    await asyncio.sleep(lag.sees_s)
    for kind in ("ENINode", "Pod"):
        world.weather.over(standby.name, kind).late_s = lag.late_s
    await asyncio.sleep(lag.pause_s)
    kubelet.start(lag.burst)
    await asyncio.sleep(lag.pause_s)
    await within(old.stop(), 40.0)
    old.crash()
    world.operators.remove(old)


@dataclass(frozen=True, slots=True)
class Again:
    """Pods of each node `go`, so that addresses are yielded; then so many `come`, and all but those that `stay` go.

    `at_the_write`: they come just when the operator writes what it makes of that. Meanwhile the agents' writes do not
    come through for `cut_off_s`.
    """

    go: int
    at_the_write: bool
    cut_off_s: float
    come: int
    stay: int
    pause_s: float


async def asked_again(world: World, again: Again) -> None:
    """A request for addresses is taken back and made again while the agents cannot say what they use."""
    for kubelet in world.kubelets.values():
        for each in list(kubelet.pods)[: again.go]:
            kubelet.end(each, object_first=False)
    await world.moments.until("yielded")
    if again.at_the_write:
        await world.moments.until("PATCH before", 5.0)
    names = {name: kubelet.start(again.come) for name, kubelet in world.kubelets.items()}
    await asyncio.sleep(again.pause_s)
    for name in world.kubelets:
        world.scene.store.faults.add(KubeFault(kind="ENINode", delay_s=again.cut_off_s, client=f"agent-{name}"))
    await asyncio.sleep(again.pause_s)
    for name, kubelet in world.kubelets.items():
        for each in names[name][again.stay :]:
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
