"""Writes a node's status: a merge patch of what differs, always at the version that the decision rests on.

Unchanged status is never written. Every write is a compare-and-swap: moving yielded addresses to `releasing`, and the
intent of an ENI before its Create, are only as good as the version they were decided at. A conflict is answered by a
fresh read and a new decision, never by writing the old one again.
"""

from __future__ import annotations

import asyncio

from enitide_api.errors import KubeConflict, KubeError
from enitide_api.logging import get_logger
from enitide_api.resources import ENINode, ENINodeStatus, decode
from enitide_ipam.status import changed_parts
from enitide_kube.backoff import Backoff
from enitide_kube.port import ENINODE
from enitide_operator.context import FIELD_MANAGER, Context
from enitide_operator.node_state import NodeState
from enitide_operator.trouble import Trouble

_log = get_logger(__name__)
_KEY = ("Publish", "")
LASTING = 2
_CONTENDED = Backoff(base_s=0.05, cap_s=2.0)


class Publisher:
    """For one node."""

    def __init__(self, ctx: Context, state: NodeState) -> None:
        self._ctx = ctx
        self._state = state
        self._conflicts = 0  # in a row
        self._sure_of = ""  # the version that the API server answered to us last, not through a watch

    def held(self) -> bool:
        """Whether the API server refused or was away so recently that it is too early to try again."""
        return self._state.troubles.holds(_KEY, self._ctx.now())

    def stuck(self) -> Trouble | None:
        """What keeps the status from being written, once it is no passing failure."""
        trouble = self._state.troubles.of(_KEY)
        return trouble if trouble is not None and trouble.failures >= LASTING else None

    async def write(self, wanted: ENINodeStatus) -> bool:
        """Whether the API server now holds `wanted`. False: decide anew (later, where `held`)."""
        ctx, state = self._ctx, self._state
        parts = changed_parts(state.resource.status, wanted)
        if not parts:
            return True
        version = state.resource.metadata.resource_version
        patch = {"metadata": {"resourceVersion": version}, "status": parts}
        ctx.term.require()
        try:
            raw = await ctx.kube.patch(ENINODE, state.name, patch, subresource="status", field_manager=FIELD_MANAGER)
        except KubeConflict:
            ctx.metrics.wrote(ENINODE.kind, "conflict")
            self._conflicts += 1
            if self._conflicts > 1:  # a contended object is not hammered
                await asyncio.sleep(_CONTENDED.delay_s(self._conflicts - 1, ctx.rng))
            await self._refresh()
            return False
        except KubeError as error:  # one that is gone, too: the watch will say so
            self._failed(error)
            return False
        ctx.metrics.wrote(ENINODE.kind, "ok")
        state.troubles.worked(_KEY)
        self._conflicts = 0
        self._saw(decode(raw, ENINode), version)
        return True

    async def sure(self) -> bool:
        """Whether what we hold was said by the API server itself, to us; if not, ask it. False: decide anew.

        A watch may lag by minutes behind another leader: an address it shows in `releasing` may have left since, come
        back and gone to a pod. Whoever unassigns must know better.
        """
        state = self._state
        version = state.resource.metadata.resource_version
        if self._sure_of == version:
            return True
        await self._refresh()
        return self._sure_of == version == state.resource.metadata.resource_version

    def _saw(self, resource: ENINode, asked_with: str) -> None:
        """The server's own answer, asked for while we held the version `asked_with`.

        If the watch brought nothing meanwhile it is taken whatever its number (after a restore versions begin again
        lower); else only if it is newer than what the watch brought.
        """
        unchanged = self._state.resource.metadata.resource_version == asked_with
        self._state.take(resource, self._ctx.now(), authoritative=unchanged)
        self._sure_of = resource.metadata.resource_version

    async def _refresh(self) -> None:
        """The version that we lost against; the watch may bring it later, but we wait for nobody."""
        ctx, state = self._ctx, self._state
        version = state.resource.metadata.resource_version
        try:
            self._saw(decode(await ctx.kube.get(ENINODE, state.name), ENINode), version)
        except KubeError as error:
            self._failed(error)

    def _failed(self, error: KubeError) -> None:
        ctx, state = self._ctx, self._state
        ctx.metrics.wrote(ENINODE.kind, error.reason)
        state.troubles.failed(_KEY, error, ctx.now(), ctx.rng)
        _log.warning("status not written", node=state.name, reason=error.reason, why=str(error))
