"""Reads one node's ENIs into the world, and is not fooled: one empty answer is no proof that an instance is gone.

At most one reading per node is under way. An instance counts as missing only when two listings of its ENIs, seconds
apart, were empty and EC2, asked for the instance itself, does not know it or says that it is terminated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from enitide_api.errors import EC2Error, InternalError
from enitide_api.logging import get_logger
from enitide_operator.context import Context
from enitide_operator.node_state import NodeState

_log = get_logger(__name__)

EMPTY_AGAIN_S = 3.0
MISSING_AGAIN_S = 60.0
_GONE = frozenset({"shutting-down", "terminated"})
_KEY = ("Reread", "")


class NodeReader:
    """For one node. `wake` is called when something was learnt."""

    def __init__(self, ctx: Context, state: NodeState, wake: Callable[[], None]) -> None:
        self._ctx = ctx
        self._state = state
        self._wake = wake
        self._task: asyncio.Task[None] | None = None
        self._not_before = 0.0

    def start(self, not_before: float, tokens: Collection[str] = ()) -> None:
        """Read not before that moment (Unix seconds), and ENIs made for these intents too.

        A reading that waits for a later moment is moved forward; one that is under way is enough if it was allowed.
        """
        if self._state.empty_reads and self._state.read_after is not None:
            not_before = max(not_before, self._state.read_after)
        if self._task is not None and not self._task.done():
            if not_before >= self._not_before:
                return
            self._task.cancel()
        self._not_before = not_before
        name = f"{self._state.name}: read"
        self._task = self._ctx.tasks.spawn(self._read(not_before, tuple(sorted(tokens))), name)

    async def _read(self, not_before: float, tokens: tuple[str, ...]) -> None:
        ctx, state = self._ctx, self._state
        await asyncio.sleep(max(0.0, not_before - ctx.now()))
        instance_id = state.instance_id
        # from here on it is under way: an earlier wish cannot hurry it
        self._not_before = 0.0
        try:
            asked = [ctx.reader.of_instance(instance_id), *(ctx.reader.of_token(token) for token in tokens)]
            listing, *some = await asyncio.gather(*asked)
            if instance_id != state.instance_id:
                return
            for each in some:
                ctx.world.merge_some(each)
            if listing.items:
                ctx.world.merge_instance(instance_id, listing)
                self._learnt(listing.asked_at)
            else:
                await self._empty(instance_id)
            state.troubles.worked(_KEY)
            ctx.metrics.node_reads.labels("ok").inc()
        except EC2Error as error:
            ctx.metrics.node_reads.labels(error.reason).inc()
            state.troubles.failed(_KEY, error, ctx.now(), ctx.rng)
            _log.warning("read failed", node=state.name, reason=error.reason, why=str(error))
        except Exception as error:
            state.troubles.failed(_KEY, InternalError(str(error)), ctx.now(), ctx.rng)
            raise
        finally:
            if self._task is asyncio.current_task():
                self._task = None
            self._wake()

    def _learnt(self, asked_at: float) -> None:
        state = self._state
        state.enis_asked_at = asked_at
        state.empty_reads = 0
        state.instance_missing = False
        if state.read_after is not None and asked_at >= state.read_after:
            state.read_after = None
        timeout_s = self._ctx.plan_settings.call_timeout_s
        if state.ambiguous_since is not None and asked_at >= state.ambiguous_since + timeout_s:
            state.ambiguous_since = None

    async def _empty(self, instance_id: str) -> None:
        ctx, state = self._ctx, self._state
        state.empty_reads += 1
        again_s = EMPTY_AGAIN_S
        if state.empty_reads >= 2:
            found = await ctx.gateway.instances((instance_id,))
            state.instance_missing = all(each.state in _GONE for each in found.items if each.id == instance_id)
            base_s = MISSING_AGAIN_S if state.instance_missing else EMPTY_AGAIN_S
            again_s = base_s * min(state.empty_reads - 1, 10)
        state.read_after = ctx.now() + again_s
