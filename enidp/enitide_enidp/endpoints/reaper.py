"""Deletes host veths behind the answer: the kernel waits a grace period for each (15 to 20 ms), and no DEL should.

A veth that comes here has lost its routes and its endpoint record already, so nothing passes through it. What a crash
leaves undeleted is found by the next sweep, since its owner holds nothing.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from enitide_api.errors import NetlinkFailed
from enitide_api.logging import get_logger
from enitide_enidp.netlink import pod

_log = get_logger("reaper")


class Reaper:
    """One deletion at a time, in a thread of its own (the kernel would serialise them anyway)."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reaper")
        self._pending: dict[int, tuple[str, asyncio.Future[None]]] = {}

    @property
    def pending(self) -> frozenset[int]:
        """Host ifindexes that are about to go."""
        return frozenset(self._pending)

    def take(self, ifindex: int, netns: str) -> asyncio.Future[None]:
        """Delete it soon. `netns`, where known, lets the next ADD of that namespace wait for it."""
        known = self._pending.get(ifindex)
        if known is not None:
            return known[1]
        task = asyncio.ensure_future(self._delete(ifindex))
        self._pending[ifindex] = (netns, task)
        return task

    async def settled(self, netns: str) -> None:
        """Until nothing of this namespace is left to delete (nor what came from an unknown one)."""
        waiting = [task for where, task in self._pending.values() if where in (netns, "")]
        if waiting:
            await asyncio.gather(*waiting)

    async def close(self) -> None:
        """Finish what was begun."""
        await asyncio.gather(*(task for _, task in self._pending.values()))
        self._thread.shutdown(wait=True)

    async def _delete(self, ifindex: int) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, pod.delete, ifindex)
        except NetlinkFailed as error:
            _log.warning("veth not deleted; the sweep will try again", ifindex=ifindex, error=str(error))
        finally:
            self._pending.pop(ifindex, None)
