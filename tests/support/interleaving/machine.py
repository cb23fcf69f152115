"""Random interleavings as a Hypothesis state machine: every rule is one thing that happens, and then a while passes.

The rules choose what happens and when; what must hold is `World`'s. One machine is one interleaving.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Fault
from enitide_lab.virtual_time import VirtualLoop
from support.interleaving import choices, compound
from support.interleaving.ground import Setup
from support.interleaving.kernel import no_netlink
from support.interleaving.world import World

_TMPFS = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Interleaving(RuleBasedStateMachine):
    """One interleaving. `finished` counts those of this process that ended whole, `tally` what happened in them."""

    finished: ClassVar[int] = 0
    tally: ClassVar[Counter[str]] = Counter()
    _numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._stack.enter_context(no_netlink())
        self._loop = VirtualLoop()
        self._folder = Path(tempfile.mkdtemp(prefix="interleaving-", dir=_TMPFS))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.world: World | None = None

    @initialize(setup=choices.setups)
    def begin(self, setup: Setup) -> None:
        """A small cluster with full pools."""

        async def make() -> None:
            self.world = World(setup, self._folder)
            await self.world.begin()

        self._loop.run_until_complete(make())

    # --- pods ----------------------------------------------------------------------------------------------------

    @rule(node=choices.nodes, count=st.integers(1, 5), then=choices.whiles)
    def pods_come(self, node: str, count: int, then: float) -> None:
        self._do(then, lambda world: [world.kubelets[node].start() for _ in range(count)])

    @rule(moment=choices.tight, count=st.integers(1, 6), then=choices.whiles)
    def pods_come_in_the_middle(self, moment: str, count: int, then: float) -> None:
        async def come(world: World) -> None:
            await world.moments.until(moment, 20.0)
            world.burst(count)

        self._do(then, come)

    @rule(
        node=choices.nodes,
        count=st.integers(1, 6),
        oldest=st.booleans(),
        object_first=st.booleans(),
        then=choices.whiles,
    )
    def pods_go(self, node: str, count: int, oldest: bool, object_first: bool, then: float) -> None:
        def go(world: World) -> None:
            names = list(world.kubelets[node].pods)
            for name in names[:count] if oldest else names[::-1][:count]:
                world.kubelets[node].end(name, object_first=object_first)

        self._do(then, go)

    @rule(
        pre=st.integers(0, 3), above=st.integers(0, 2), maximum=st.sampled_from((None, None, 3, 5)), then=choices.whiles
    )
    def the_class_changes(self, pre: int, above: int, maximum: int | None, then: float) -> None:
        self._do(then, lambda world: world.levels(preAllocate=pre, maxAboveWatermark=above, maxAllocate=maximum))

    # --- time ----------------------------------------------------------------------------------------------------

    @rule(then=choices.whiles)
    def a_while_passes(self, then: float) -> None:
        self._do(then)

    @rule(moment=choices.moments)
    def until(self, moment: str) -> None:
        self._do(0.0, lambda world: world.moments.until(moment, 20.0))

    # --- crashes and leaders -------------------------------------------------------------------------------------

    @rule(calls=st.integers(0, 3), moment=st.sampled_from(("before", "after")), wait=st.booleans(), then=choices.whiles)
    def the_leader_dies(self, calls: int, moment: str, wait: bool, then: float) -> None:
        self._do(then, lambda world: world.kill_leader(calls, moment, wait=wait))

    @rule(moment=choices.steps, delay_s=st.sampled_from((60.0, 50.0)), burst=st.integers(0, 6), then=choices.whiles)
    def the_leader_dies_and_its_write_comes_late(self, moment: str, delay_s: float, burst: int, then: float) -> None:
        async def die(world: World) -> None:
            await world.kill_leader_writing(moment, delay_s)
            world.burst(burst)

        self._do(then, die)

    @rule(wait=st.booleans(), then=choices.whiles)
    def the_leader_changes(self, wait: bool, then: float) -> None:
        self._do(then, lambda world: world.change_leader(wait=wait))

    @rule(then=choices.whiles)
    def the_operator_is_replaced(self, then: float) -> None:
        self._do(then, World.replace_operator)

    @rule(
        node=choices.nodes,
        at=st.sampled_from(("", "before", "torn", "after")),
        down_s=choices.whiles,
        then=choices.whiles,
    )
    def an_agent_dies(self, node: str, at: str, down_s: float, then: float) -> None:
        self._do(then, lambda world: world.kill_agent(node, at, down_s))

    # --- others, and what several things together do -------------------------------------------------------------

    @rule(count=st.integers(1, 3), addresses=st.integers(0, 4), then=choices.whiles)
    def strangers_come(self, count: int, addresses: int, then: float) -> None:
        self._do(then, lambda world: compound.strangers_come(world, count, addresses))

    @rule(count=st.integers(1, 3), then=choices.whiles)
    def strangers_go(self, count: int, then: float) -> None:
        self._do(then, lambda world: compound.strangers_go(world, count))

    @rule(count=st.integers(1, 2), then=choices.whiles)
    def enis_are_leaked(self, count: int, then: float) -> None:
        self._do(then, lambda world: compound.leak(world, count))

    @rule(
        moment=choices.tight,
        late_s=st.sampled_from((20.0, 60.0)),
        pause_s=choices.whiles,
        burst=st.integers(0, 6),
        then=choices.whiles,
    )
    def a_standby_that_lags_takes_over(
        self, moment: str, late_s: float, pause_s: float, burst: int, then: float
    ) -> None:
        self._do(then, lambda world: compound.a_standby_lags(world, moment, late_s, pause_s, burst))

    @rule(
        moment=choices.tight,
        cut_off_s=st.sampled_from((5.0, 20.0)),
        come=st.integers(1, 6),
        stay=st.integers(0, 3),
        pause_s=choices.whiles,
        then=choices.whiles,
    )
    def addresses_are_asked_for_again(
        self, moment: str, cut_off_s: float, come: int, stay: int, pause_s: float, then: float
    ) -> None:
        self._do(then, lambda world: compound.asked_again(world, moment, cut_off_s, come, stay, pause_s))

    # --- weather -------------------------------------------------------------------------------------------------

    @rule(
        client=choices.clients,
        kind=choices.kinds,
        what=st.sampled_from(("lose", "double", "again")),
        then=choices.whiles,
    )
    def a_watch_errs(self, client: str, kind: str, what: str, then: float) -> None:
        self._do(then, lambda world: world.sky(client, kind).err(what))

    @rule(
        client=choices.clients, kind=choices.kinds, late_s=st.sampled_from((0.0, 0.2, 3.0, 20.0)), then=choices.whiles
    )
    def a_watch_is_late(self, client: str, kind: str, late_s: float, then: float) -> None:
        self._do(then, lambda world: setattr(world.sky(client, kind), "late_s", late_s))

    @rule(kind=st.sampled_from(("ENINode", "Pod", "*")), expired=st.booleans(), then=choices.whiles)
    def watches_end(self, kind: str, expired: bool, then: float) -> None:
        def end(world: World) -> None:
            store = world.scene.store
            (store.expire_watches if expired else store.drop_watches)(kind)

        self._do(then, end)

    @rule(fault=choices.ec2_faults, then=choices.whiles)
    def ec2_errs(self, fault: Fault, then: float) -> None:
        self._do(then, lambda world: world.scene.physics.add(fault))

    @rule(seconds=st.sampled_from((0.0, 2.0, 5.0)), then=choices.whiles)
    def reads_lag(self, seconds: float, then: float) -> None:
        self._do(then, lambda world: setattr(world.scene.model, "visible_after_s", seconds))

    @rule(fault=choices.kube_faults, then=choices.whiles)
    def the_api_server_errs(self, fault: KubeFault, then: float) -> None:
        self._do(then, lambda world: world.scene.store.faults.add(fault))

    # --- inside --------------------------------------------------------------------------------------------------

    def _do(self, then: float, what: Callable[[World], Any] = lambda _world: None) -> None:
        """One thing happens, and a while passes."""

        async def happen() -> None:
            assert self.world is not None
            result = what(self.world)
            if asyncio.iscoroutine(result):
                await result
            await asyncio.sleep(then)

        self._loop.run_until_complete(happen())
        assert self.world is not None
        if self.world.checks.broken:
            raise AssertionError("\n".join(self.world.checks.broken))

    def teardown(self) -> None:
        """All must be whole once the weather is good; then everything is taken down."""
        is_whole = False
        try:
            if self.world is not None and not self.world.checks.broken:
                self._do(0.0, World.calm)
                is_whole = True
        finally:
            self._close()
        if is_whole and self.world is not None:
            type(self).finished += 1
            type(self).tally.update(self.world.tally)

    def _close(self) -> None:
        if self.world is not None:
            self._loop.run_until_complete(self.world.end())
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()
        self._stack.close()
