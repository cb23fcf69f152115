"""Tells people, by Events on the Node and its ENINode, when a node begins to wait and when it no longer does."""

from __future__ import annotations

from enitide_api.reasons import Reason
from enitide_ipam.model import Plan
from enitide_kube.events import ObjectRef
from enitide_kube.port import ENINODE, NODE
from enitide_operator.context import Context
from enitide_operator.node_state import NodeState

# Work under way is no news; neither is the calm that follows it.
_CALM = frozenset({None, Reason.FILLING, Reason.POOL_FILLED})


class News:
    """For one node: one Event per change of its reason, not one per pass."""

    def __init__(self, ctx: Context, state: NodeState) -> None:
        self._ctx = ctx
        self._state = state
        self._told: Reason | None = None

    def tell(self, plan: Plan) -> None:
        """After each pass that speaks; `plan` carries the reason that is shown."""
        wait = plan.wait
        if wait in _CALM:
            if wait is None and self._told is not None:
                self._told = None
                self._record(Reason.POOL_FILLED, "the node no longer waits", warning=False)
            return
        if wait is not None and wait is not self._told:
            self._told = wait
            self._record(wait, plan.message or str(wait), warning=True)

    def _record(self, reason: Reason, note: str, *, warning: bool) -> None:
        ctx, state = self._ctx, self._state
        node = ctx.nodes.get(state.name)
        refs = [ObjectRef(ENINODE, state.name, uid=state.resource.metadata.uid)]
        if node is not None:
            refs.append(ObjectRef(NODE, state.name, uid=node.metadata.uid))
        for ref in refs:
            ctx.events.record(ref, reason, note, action="Allocate", event_type="Warning" if warning else "Normal")
