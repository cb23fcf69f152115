"""One world of its own for each interleaving: its loop, its files, its end. The rules are `machine`'s."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from enitide_lab.virtual_time import VirtualLoop
from support.interleaving.ground import Setup
from support.interleaving.kernel import no_netlink
from support.interleaving.world import World

_TMPFS = "/dev/shm" if Path("/dev/shm").is_dir() else None


class OneWorld(RuleBasedStateMachine):
    """`finished` counts the interleavings of this process that ended whole, `tally` what happened in them."""

    finished: ClassVar[int] = 0
    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._stack.enter_context(no_netlink())
        self._loop = VirtualLoop()
        self._folder = Path(tempfile.mkdtemp(prefix="interleaving-", dir=_TMPFS))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.world: World | None = None

    def make(self, setup: Setup) -> None:
        """The world, and its beginning."""

        async def begin() -> None:
            self.world = World(setup, self._folder)
            await self.world.begin()

        self._loop.run_until_complete(begin())

    def do(self, then: float, what: Callable[[World], Any] = lambda _world: None) -> None:
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
                self.do(0.0, World.calm)
                is_whole = True
        finally:
            self._close()
        if is_whole and self.world is not None:
            OneWorld.finished += 1
            OneWorld.tally.update(self.world.tally)

    def _close(self) -> None:
        if self.world is not None:
            self._loop.run_until_complete(self.world.end())
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()
        self._stack.close()
