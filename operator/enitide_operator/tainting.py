"""Keeps one node's taint as decided: reads the Node, patches the list it read, and tries again on fresh state.

Only with the setting `taint_nodes`. At most one attempt per node is under way; what it could not do is tried again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from enitide_api.errors import KubeConflict, KubeError, KubeInvalid, KubeNotFound, NotLeading
from enitide_api.logging import get_logger
from enitide_kube.backoff import Backoff
from enitide_kube.port import NODE
from enitide_operator.context import FIELD_MANAGER, Context
from enitide_operator.taints import decide, is_tainted, operations

_log = get_logger(__name__)

TRIES = 6
_CONTENDED = Backoff(base_s=0.05, cap_s=1.0)
_FAILED = Backoff(base_s=2.0, cap_s=120.0)


class Tainter:
    """For one node. `see` after each pass; `wake` is called when an attempt has ended."""

    def __init__(self, ctx: Context, name: str, wake: Callable[[], None]) -> None:
        self._ctx = ctx
        self._name = name
        self._wake = wake
        self._some: bool | None = None
        self._since = ctx.now()
        self._task: asyncio.Task[None] | None = None
        self._wrote: bool | None = None  # what our last write said, until the watch shows it
        self._failures = 0
        self._not_before = 0.0

    def see(self, to_give: int, buffer: int) -> float | None:
        """Decide, start what is to be done, and say when to look again without a cause (Unix seconds)."""
        ctx, now = self._ctx, self._ctx.now()
        node = ctx.nodes.get(self._name)
        if not ctx.settings.taint_nodes or node is None:
            return None
        if self._some is not (to_give > 0):
            self._some, self._since = to_give > 0, now
        carried = is_tainted(node)
        view = decide(tainted=carried, to_give=to_give, buffer=buffer, since=self._since, now=now)
        if self._wrote is carried:
            self._wrote = None
        if view.tainted is carried or view.tainted is self._wrote:
            return view.look_again_at
        if self._task is None or self._task.done():
            if now < self._not_before:
                return self._not_before
            self._task = ctx.tasks.spawn(self._bring(tainted=view.tainted), name=f"{self._name}: taint")
        return view.look_again_at

    async def _bring(self, *, tainted: bool) -> None:
        try:
            await bring(self._ctx, self._name, tainted=tainted)
            self._wrote, self._failures = tainted, 0
        except NotLeading:
            return
        except KubeError as error:
            self._failures += 1
            self._not_before = self._ctx.now() + _FAILED.delay_s(self._failures, self._ctx.rng)
            _log.warning("taint not written", node=self._name, reason=error.reason, why=str(error))
        self._wake()


async def bring(ctx: Context, name: str, *, tainted: bool) -> None:
    """Have the Node carry our taint, or not. `KubeError` when that could not be had in a few tries.

    A test that fails is answered with 422 (Invalid), and so is a patch that is wrong in itself: only fresh state tells
    them apart, so either is tried again a bounded number of times.
    """
    for attempt in range(1, TRIES + 1):
        try:
            node: dict[str, Any] = json.loads(await ctx.kube.get(NODE, name))
        except KubeNotFound:
            return
        patch = operations(node, tainted=tainted)
        if not patch:
            return
        ctx.term.require()
        try:
            await ctx.kube.patch(NODE, name, patch, field_manager=FIELD_MANAGER)
        except (KubeConflict, KubeInvalid) as error:
            ctx.metrics.wrote(NODE.kind, error.reason)
            if attempt == TRIES:
                raise
            await asyncio.sleep(_CONTENDED.delay_s(attempt, ctx.rng))
        except KubeNotFound:
            return
        except KubeError as error:
            ctx.metrics.wrote(NODE.kind, error.reason)
            raise
        else:
            ctx.metrics.wrote(NODE.kind, "ok")
            _log.info("taint", node=name, on=tainted)
            return
