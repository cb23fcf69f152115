"""Random interleavings as a Hypothesis state machine: every rule is one thing that happens, and then a while passes.

The rules choose what happens and when; what must hold is `checks`'. One machine is one interleaving.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Fault
from support.interleaving import choices, compound
from support.interleaving.ground import Setup
from support.interleaving.one import OneWorld
from support.interleaving.world import World


class Interleaving(OneWorld):
    """One interleaving."""

    @initialize(setup=choices.setups)
    def begin(self, setup: Setup) -> None:
        """A small cluster with full pools."""
        self.make(setup)

    # --- pods ----------------------------------------------------------------------------------------------------

    @rule(node=choices.nodes, count=st.integers(1, 5), then=choices.whiles)
    def pods_come(self, *, node: str, count: int, then: float) -> None:
        self.do(then, lambda world: world.kubelets[node].start(count))

    @rule(moment=choices.tight, count=st.integers(1, 6), then=choices.whiles)
    def pods_come_in_the_middle(self, *, moment: str, count: int, then: float) -> None:
        async def come(world: World) -> None:
            await world.moments.until(moment)
            world.burst(count)

        self.do(then, come)

    @rule(
        node=choices.nodes,
        count=st.integers(1, 6),
        oldest=st.booleans(),
        object_first=st.booleans(),
        then=choices.whiles,
    )
    def pods_go(self, *, node: str, count: int, oldest: bool, object_first: bool, then: float) -> None:
        def go(world: World) -> None:
            names = list(world.kubelets[node].pods)
            for name in names[:count] if oldest else names[::-1][:count]:
                world.kubelets[node].end(name, object_first=object_first)

        self.do(then, go)

    @rule(
        pre=st.integers(0, 3), above=st.integers(0, 2), maximum=st.sampled_from((None, None, 3, 5)), then=choices.whiles
    )
    def the_class_changes(self, *, pre: int, above: int, maximum: int | None, then: float) -> None:
        self.do(then, lambda world: world.levels(preAllocate=pre, maxAboveWatermark=above, maxAllocate=maximum))

    # --- time ----------------------------------------------------------------------------------------------------

    @rule(then=choices.whiles)
    def a_while_passes(self, then: float) -> None:
        self.do(then)

    @rule(moment=choices.moments)
    def until(self, moment: str) -> None:
        self.do(0.0, lambda world: world.moments.until(moment))

    # --- crashes and leaders -------------------------------------------------------------------------------------

    @rule(
        calls=st.integers(0, 3), moment=choices.sides, burst=st.integers(0, 4), wait=st.booleans(), then=choices.whiles
    )
    def the_leader_dies(self, *, calls: int, moment: str, burst: int, wait: bool, then: float) -> None:
        async def die(world: World) -> None:
            world.burst(burst)
            await world.kill_leader(calls, moment, wait=wait)

        self.do(then, die)

    @rule(moment=choices.steps, delay_s=st.sampled_from((60.0, 50.0)), burst=st.integers(0, 6), then=choices.whiles)
    def the_leader_dies_and_its_write_comes_late(self, *, moment: str, delay_s: float, burst: int, then: float) -> None:
        async def die(world: World) -> None:
            await world.kill_leader_writing(moment, delay_s)
            world.burst(burst)

        self.do(then, die)

    @rule(wait=st.booleans(), then=choices.whiles)
    def the_leader_changes(self, *, wait: bool, then: float) -> None:
        self.do(then, lambda world: world.change_leader(wait=wait))

    @rule(then=choices.whiles)
    def the_operator_is_replaced(self, then: float) -> None:
        self.do(then, World.replace_operator)

    @rule(node=choices.nodes, at=choices.records, pods=st.integers(0, 3), down_s=choices.whiles, then=choices.whiles)
    def an_agent_dies(self, *, node: str, at: str, pods: int, down_s: float, then: float) -> None:
        async def die(world: World) -> None:
            world.kubelets[node].start(pods)
            await world.kill_agent(node, at, down_s)

        self.do(then, die)

    # --- others, and what several things together do -------------------------------------------------------------

    @rule(count=st.integers(1, 3), addresses=st.integers(0, 4), then=choices.whiles)
    def strangers_come(self, *, count: int, addresses: int, then: float) -> None:
        self.do(then, lambda world: compound.strangers_come(world, count, addresses))

    @rule(count=st.integers(1, 3), then=choices.whiles)
    def strangers_go(self, *, count: int, then: float) -> None:
        self.do(then, lambda world: compound.strangers_go(world, count))

    @rule(count=st.integers(1, 2), then=choices.whiles)
    def enis_are_leaked(self, *, count: int, then: float) -> None:
        self.do(then, lambda world: compound.leak(world, count))

    @rule(lag=choices.lags, then=choices.whiles)
    def a_standby_that_lags_takes_over(self, *, lag: compound.Lag, then: float) -> None:
        self.do(then, lambda world: compound.a_standby_lags(world, lag))

    @rule(again=choices.agains, then=choices.whiles)
    def addresses_are_asked_for_again(self, *, again: compound.Again, then: float) -> None:
        self.do(then, lambda world: compound.asked_again(world, again))

    # --- weather -------------------------------------------------------------------------------------------------

    @rule(
        client=choices.clients,
        kind=choices.kinds,
        what=st.sampled_from(("lose", "double", "again")),
        times=st.integers(1, 3),
        then=choices.whiles,
    )
    def a_watch_errs(self, *, client: str, kind: str, what: str, times: int, then: float) -> None:
        self.do(then, lambda world: world.sky(client, kind).err(what, times))

    @rule(
        client=choices.clients, kind=choices.kinds, late_s=st.sampled_from((0.0, 0.2, 3.0, 20.0)), then=choices.whiles
    )
    def a_watch_is_late(self, *, client: str, kind: str, late_s: float, then: float) -> None:
        self.do(then, lambda world: setattr(world.sky(client, kind), "late_s", late_s))

    @rule(kind=st.sampled_from(("ENINode", "Pod", "*")), expired=st.booleans(), then=choices.whiles)
    def watches_end(self, *, kind: str, expired: bool, then: float) -> None:
        def end(world: World) -> None:
            store = world.scene.store
            (store.expire_watches if expired else store.drop_watches)(kind)

        self.do(then, end)

    @rule(fault=choices.ec2_faults, burst=st.integers(0, 4), then=choices.whiles)
    def ec2_errs(self, *, fault: Fault, burst: int, then: float) -> None:
        def err(world: World) -> None:
            world.scene.physics.add(fault)
            world.burst(burst)

        self.do(then, err)

    @rule(seconds=st.sampled_from((0.0, 2.0, 5.0)), then=choices.whiles)
    def reads_lag(self, *, seconds: float, then: float) -> None:
        self.do(then, lambda world: setattr(world.scene.model, "visible_after_s", seconds))

    @rule(fault=choices.kube_faults, then=choices.whiles)
    def the_api_server_errs(self, *, fault: KubeFault, then: float) -> None:
        self.do(then, lambda world: world.scene.store.faults.add(fault))
