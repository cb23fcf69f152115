"""Background tasks that cannot fail unseen: a bug in one is logged with its traceback, counted, and ends it alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from enitide_api.logging import get_logger

_log = get_logger(__name__)


class Tasks:
    """Spawn, and later cancel or drain together. `on_bug` counts."""

    def __init__(self, on_bug: Callable[[], None]) -> None:
        self._on_bug = on_bug
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run it beside the caller."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        """Cancel all that still run."""
        for task in tuple(self._tasks):
            task.cancel()

    async def drain(self, timeout_s: float) -> bool:
        """Wait until all have ended; whether they did in time."""
        pending = set(self._tasks)
        if pending:
            _, pending = await asyncio.wait(pending, timeout=timeout_s)
        return not pending

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._on_bug()
            _log.error("task failed", task=task.get_name(), exc_info=error)
