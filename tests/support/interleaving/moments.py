"""What happens in one interleaving, by name, so that something else can be made to happen right then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

from enitide_api.resources import ENINode, decode
from enitide_kube.port import ENINODE
from enitide_lab.apistore.table import Stored, Watcher
from support.interleaving.ground import NODES, Ground

SOON_S = 12.0  # a pod's end leads to a release within that: cool-down, the agent's next report, the delay


class Moments:
    """`VERB before` and `VERB after` of each mutating call and status write, and the words of `handed_over`."""

    def __init__(self, ground: Ground) -> None:
        """The nodes must be there. All that happens is counted in the ground's tally."""
        self._tally = ground.tally
        self._hurry: tuple[str, asyncio.Event] | None = None
        store = ground.scene.store
        rtype = store.type_of(ENINODE)
        before = {name: ground.eninode(name) for name in NODES}

        def on_event(_type: str, stored: Stored) -> None:
            new = decode(stored.raw(rtype), ENINode)
            old, before[new.metadata.name] = before[new.metadata.name], new
            for what in handed_over(old, new):
                self.happened(what)

        store.watch(Watcher(rtype, store.selector(rtype, "", "", ""), on_event, lambda _status: None), store.version)

    def happened(self, what: str) -> None:
        """Just now."""
        self._tally[what] += 1
        if self._hurry is not None and self._hurry[0] == what:
            self._hurry[1].set()

    async def until(self, what: str, within_s: float = SOON_S) -> None:
        """Until that happens next, or that long."""
        self._hurry = (what, asyncio.Event())
        await within(self._hurry[1].wait(), within_s)
        self._hurry = None


def handed_over(old: ENINode, new: ENINode) -> Iterator[str]:
    """What the change of an ENINode means for the release of addresses."""
    asked, asks = (each.status.reclaim.count if each.status.reclaim else 0 for each in (old, new))
    if asks > asked:
        yield "reclaimed"
    if asks < asked and old.status.releasing == new.status.releasing:
        yield "withdrawn"
    if set(new.spec.yielded) - set(old.spec.yielded):
        yield "yielded"
    if set(new.status.releasing) - set(old.status.releasing):
        yield "moved"


async def within(work: Coroutine[Any, Any, Any], seconds: float) -> None:
    """Await it for so long at most."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return
