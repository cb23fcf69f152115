"""Drives one intent from Create to a published ENI, or back to nothing; `enitide_ipam.saga` decides every step.

It starts only when the API server has accepted the intent in status.pending. It holds nothing that is needed after a
crash: intent and token tag are enough to go on. An ENI that could not be attached is deleted before the intent goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from enitide_api.errors import (
    EC2Ambiguous,
    EC2Error,
    EC2IndexOccupied,
    EC2NotFound,
    EC2Throttled,
    EC2Unauthorized,
    EC2Unavailable,
    InternalError,
    NotLeading,
)
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.resources import PendingInterface
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.model import (
    Action,
    AttachInterface,
    CreateInterface,
    DeleteInterface,
    DetachInterface,
    NodeSnapshot,
)
from enitide_ipam.saga import SagaState, StepKind, next_step
from enitide_kube.backoff import Backoff
from enitide_operator.context import Context
from enitide_operator.ec2.budget import Order, new_work
from enitide_operator.executor import Stopwatch, mild, note_refusal
from enitide_operator.node_state import NodeState

_log = get_logger(__name__)

# EC2 may not know an ENI yet that it has just made; and what took no effect is worth trying again with an ENI in hand.
_AGAIN = (EC2Throttled, EC2Unavailable, EC2Unauthorized)
_NOT_YET_TRIES = 4
LAPSE_S = 1.0
_BACKOFF = Backoff(base_s=1.0, cap_s=30.0)


class SagaRunner:
    """Sagas of one node. `snapshot` gives the node as of now; `wake` is called after every step."""

    def __init__(
        self, ctx: Context, state: NodeState, snapshot: Callable[[], NodeSnapshot], wake: Callable[[], None]
    ) -> None:
        self._ctx = ctx
        self._state = state
        self._snapshot = snapshot
        self._wake = wake

    def start(self, intent: PendingInterface) -> None:
        """Begin, or go on with, an intent that stands in the accepted status."""
        if intent.token in self._state.running:
            return
        self._state.running.add(intent.token)
        saga = _Saga(self._ctx, self._state, self._snapshot, self._wake, intent)
        self._ctx.tasks.spawn(saga.run(), name=f"{self._state.name}: {intent.token}")


class _Saga:
    def __init__(
        self,
        ctx: Context,
        state: NodeState,
        snapshot: Callable[[], NodeSnapshot],
        wake: Callable[[], None],
        intent: PendingInterface,
    ) -> None:
        self._ctx = ctx
        self._node = state
        self._snapshot = snapshot
        self._wake = wake
        self._order = state.orders.get(intent.token)
        self._gain = intent.count * (PREFIX_SIZE if intent.prefixes else 1)
        self._saga = SagaState(intent=intent, create=self._order)
        # whatever step fails, it is this subnet's next ENI that is held back
        self._key = ("CreateInterface", intent.subnet_id)
        self._failures = 0

    async def run(self) -> None:
        """Until published, undone, or no longer ours to do."""
        token, node = self._saga.intent.token, self._node
        try:
            while not self._ctx.term.ended:
                if await self._step_in_term():
                    node.ended.add(token)
                    if self._saga.refused is None:
                        node.troubles.worked(self._key)
                    else:
                        node.troubles.eased(self._key, self._ctx.now())
                    return
                self._wake()
        except Exception as error:
            key = ("FinishOrUndoPending", token)
            node.troubles.failed(key, InternalError(str(error)), self._ctx.now(), self._ctx.rng)
            raise
        finally:
            node.running.discard(token)
            node.orders.pop(token, None)
            ticket = node.tickets.pop(token, None)
            if ticket is not None:
                self._ctx.book.refund(ticket)  # what was made is settled by now
            self._wake()

    async def _step_in_term(self) -> bool:
        try:
            return await self._step()
        except NotLeading:
            await asyncio.sleep(LAPSE_S)  # the Lease may yet be renewed within this term
            return False

    async def _step(self) -> bool:
        """One step; whether it was the last."""
        ctx = self._ctx
        self._saga = replace(self._saga, eni=ctx.world.by_token(self._saga.intent.token))
        step = next_step(self._saga, self._snapshot(), ctx.plan_settings, ctx.now())
        if step.kind is StepKind.REREAD:
            await self._reread(step.not_before)
            return False
        if step.kind is StepKind.CALL:
            assert step.action is not None
            await self._call(step.action)
            return False
        _log.info("interface done", node=self._node.name, token=self._saga.intent.token, how=step.kind, why=step.reason)
        return True

    async def _reread(self, not_before: float) -> None:
        ctx = self._ctx
        await asyncio.sleep(max(0.0, not_before - ctx.now()))
        try:
            read = await ctx.reader.of_token(self._saga.intent.token)
        except EC2Error as error:
            await self._pause(("Reread", ""), error)
            return
        self._node.troubles.worked(("Reread", ""))
        ctx.world.merge_some(read)
        self._saga = replace(self._saga, looked_at=read.asked_at)
        since = self._saga.ambiguous_since
        if since is not None and read.asked_at >= since + ctx.plan_settings.call_timeout_s:
            self._saga = replace(self._saga, ambiguous_since=None)

    async def _call(self, action: Action) -> None:
        watch, outcome = Stopwatch(self._ctx, action), "ok"
        try:
            await self._send(action)
        except EC2Ambiguous as error:
            outcome = error.reason
            self._saga = replace(self._saga, ambiguous_since=self._ctx.now())
            self._node.troubles.waiting(self._key, error)
            token = self._saga.intent.token
            _log.warning("outcome unknown", node=self._node.name, token=token, reason=error.reason, why=str(error))
        except EC2Error as error:
            _log.warning(
                "call failed", node=self._node.name, action=type(action).__name__, reason=error.reason, why=str(error)
            )
            watch.stop(error.reason)  # before the pause that may follow
            await self._refused(action, error)
            return
        else:
            self._failures = 0
            self._node.troubles.eased(self._key, self._ctx.now())
        watch.stop(outcome)

    async def _send(self, action: Action) -> None:
        ctx, world = self._ctx, self._ctx.world
        if isinstance(action, CreateInterface):
            eni = await ctx.gateway.create(action, new_work(self._gain, self._node.lack, calls=2), self._on_wait)
            world.made(eni, ctx.now())
            ctx.metrics.made(eni.subnet_id, eni.beside_own)
            singles = (eni.primary, *eni.addresses)
            if action.token in self._node.tickets:
                ctx.book.settle(self._node.tickets[action.token], ctx.now(), singles, eni.prefixes)
            else:
                ctx.book.took(eni.subnet_id, singles, eni.prefixes, ctx.now())
        elif isinstance(action, AttachInterface):
            attachment_id = await ctx.gateway.attach(action, Order(0, self._gain), self._on_wait)
            place = (action.card, action.index)
            world.attached(action.eni_id, attachment_id, action.instance_id, place, ctx.now())
        elif isinstance(action, DetachInterface):
            await ctx.gateway.detach(action.attachment_id, Order(0), self._on_wait)
            world.detaching(action.eni_id, ctx.now())
        elif isinstance(action, DeleteInterface):
            await ctx.gateway.delete(action.eni_id, Order(0), self._on_wait)
            self._deleted(action)
        else:
            raise TypeError(f"no step of a saga: {action!r}")

    def _deleted(self, action: DeleteInterface) -> None:
        eni = self._ctx.world.get(action.eni_id)
        if eni is not None:
            held = eni.beside_own
            singles = (eni.primary, *eni.addresses)
            self._ctx.book.credit(eni.subnet_id, 1 + held, self._ctx.now(), singles=singles, prefixes=eni.prefixes)
            self._ctx.metrics.deleted(eni.subnet_id, held)
        self._ctx.world.deleted(action.eni_id, self._ctx.now())
        self._ctx.metrics.undone.inc()
        if self._saga.refused is None:
            # undone is undone: the order must not be sent again, nor another one like it at once
            self._saga = replace(self._saga, refused=Reason.INDEX_OCCUPIED)
            if self._saga.bad_indexes:
                card = self._saga.intent.card
                full = EC2IndexOccupied(f"EC2 takes no ENI at any free device index of card {card}")
                self._node.troubles.failed(self._key, full, self._ctx.now(), self._ctx.rng)

    async def _refused(self, action: Action, error: EC2Error) -> None:
        """What the refusal of one step means for the saga."""
        made = not isinstance(action, CreateInterface)
        if isinstance(action, DeleteInterface) and isinstance(error, EC2NotFound):
            self._deleted(action)
            return
        if isinstance(error, EC2IndexOccupied) and isinstance(action, AttachInterface):
            self._saga = replace(self._saga, bad_indexes=self._saga.bad_indexes | {action.index})
            self._node.read_after = max(self._ctx.now(), self._ctx.world.settled_at(self._node.instance_id))
            return
        self._failures += 1
        not_yet = type(error) is EC2NotFound and self._failures < _NOT_YET_TRIES
        if made and (isinstance(error, _AGAIN) or isinstance(action, DeleteInterface) or not_yet):
            await self._pause(self._key, error)
            return
        note_refusal(self._ctx, self._node, self._order or action, error)
        self._node.troubles.failed(self._key, mild(self._order or action, error), self._ctx.now(), self._ctx.rng)
        self._saga = replace(self._saga, refused=error.reason)

    def _on_wait(self, error: EC2Error) -> None:
        self._node.troubles.waiting(self._key, error)
        self._wake()

    async def _pause(self, key: tuple[str, str], error: EC2Error) -> None:
        self._failures += 1
        self._node.troubles.waiting(key, error)
        self._wake()
        await asyncio.sleep(_BACKOFF.delay_s(min(self._failures, 8), self._ctx.rng))
