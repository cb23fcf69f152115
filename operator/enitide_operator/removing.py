"""Takes ENIs that stand in status.removing from the instance and from EC2; `enitide_ipam.removal` decides every step.

It starts only for what the API server itself said stands there, and keeps nothing that is needed after a crash: the id
is enough to go on. Its calls come with the releases, last of what nodes need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from enitide_api.errors import EC2Ambiguous, EC2Error, EC2NotFound, InternalError, NotLeading
from enitide_api.logging import get_logger
from enitide_ipam.model import Attachment, DeleteInterface, DetachInterface
from enitide_ipam.removal import Removal, next_removal
from enitide_ipam.saga import Step, StepKind
from enitide_kube.backoff import Backoff
from enitide_operator.context import Context
from enitide_operator.ec2.budget import RELEASE
from enitide_operator.node_state import NodeState

_log = get_logger(__name__)

LAPSE_S = 1.0
_BACKOFF = Backoff(base_s=2.0, cap_s=120.0)


class RemovalRunner:
    """Removals of one node. `wake` is called when one has ended, or cannot go on for now."""

    def __init__(self, ctx: Context, state: NodeState, wake: Callable[[], None]) -> None:
        self._ctx = ctx
        self._state = state
        self._wake = wake
        self._running: set[str] = set()

    def due(self) -> tuple[str, ...]:
        """Ids that stand in status.removing and that nothing works on yet."""
        standing = self._state.published.removing
        return tuple(each for each in standing if each not in self._running and each not in self._state.removed)

    def start(self, eni_id: str) -> None:
        """Begin, or go on with, one that stands in the accepted status."""
        self._running.add(eni_id)
        self._ctx.tasks.spawn(self._run(eni_id), name=f"{self._state.name}: remove {eni_id}")

    async def _run(self, eni_id: str) -> None:
        removal = _Removal(self._ctx, self._state, self._wake, eni_id)
        try:
            if await removal.run():
                self._state.removed.add(eni_id)
                # what else of it stands in `releasing` is settled by a fresh look at the instance
                self._state.read_after = self._ctx.now()
        except Exception as error:
            key = ("Removal", eni_id)
            self._state.troubles.failed(key, InternalError(str(error)), self._ctx.now(), self._ctx.rng)
            raise
        finally:
            self._running.discard(eni_id)
            self._wake()


class _Removal:
    def __init__(self, ctx: Context, state: NodeState, wake: Callable[[], None], eni_id: str) -> None:
        self._ctx = ctx
        self._node = state
        self._wake = wake
        self._removal = Removal(eni_id)
        self._instance_id = state.resource.status.instance_id or state.instance_id
        self._key = ("Removal", eni_id)
        self._failures = 0

    async def run(self) -> bool:
        """Until it is gone or hands are kept off (True), or the term has ended (False)."""
        ctx = self._ctx
        while not ctx.term.ended:
            self._removal = replace(self._removal, eni=ctx.world.get(self._removal.eni_id))
            step = next_removal(self._removal, self._instance_id, ctx.plan_settings, ctx.now())
            if step.kind is StepKind.FINISHED:
                self._node.troubles.worked(self._key)
                _log.info("interface removed", node=self._node.name, interface=self._removal.eni_id, why=step.reason)
                return True
            try:
                await (self._read(step.not_before) if step.kind is StepKind.REREAD else self._call(step))
            except NotLeading:
                await asyncio.sleep(LAPSE_S)  # the Lease may yet be renewed within this term
            except EC2Error as error:
                await self._failed(error)
        return False

    async def _read(self, not_before: float) -> None:
        ctx, eni_id = self._ctx, self._removal.eni_id
        await asyncio.sleep(max(0.0, not_before - ctx.now()))
        read = await ctx.reader.of_interface(eni_id)
        ctx.world.merge_some(read)
        since, removal = self._removal.ambiguous_since, self._removal
        sure = since is not None and read.asked_at >= since + ctx.plan_settings.call_timeout_s
        detaching = any(each.attachment is Attachment.DETACHING for each in read.items)
        self._removal = replace(
            removal,
            looked_at=read.asked_at,
            ambiguous_since=None if sure else since,
            empty=0 if read.items else removal.empty + 1,
            polls=removal.polls + detaching,
        )
        if not read.items and read.asked_at >= ctx.world.settled_at_of(eni_id):
            ctx.world.deleted(eni_id, ctx.now())

    async def _call(self, step: Step) -> None:
        ctx, action = self._ctx, step.action
        if isinstance(action, DetachInterface):
            await ctx.gateway.detach(action.attachment_id, RELEASE, self._on_wait)
            ctx.world.detaching(action.eni_id, ctx.now())
        elif isinstance(action, DeleteInterface):
            await ctx.gateway.delete(action.eni_id, RELEASE, self._on_wait)
            self._deleted(action.eni_id)
        else:
            raise TypeError(f"no step of a removal: {action!r}")
        self._failures = 0
        self._node.troubles.worked(self._key)

    def _deleted(self, eni_id: str) -> None:
        ctx = self._ctx
        eni = ctx.world.get(eni_id)
        if eni is not None:
            held = eni.beside_own
            singles = (eni.primary, *eni.addresses)
            ctx.book.credit(eni.subnet_id, 1 + held, ctx.now(), singles=singles, prefixes=eni.prefixes)
            ctx.metrics.deleted(eni.subnet_id, held)
        ctx.world.deleted(eni_id, ctx.now())
        self._removal = replace(self._removal, empty=2)  # EC2's own word needs no reading

    async def _failed(self, error: EC2Error) -> None:
        """Read before anything else; then try again, ever later."""
        ctx = self._ctx
        if isinstance(error, EC2Ambiguous):
            self._removal = replace(self._removal, ambiguous_since=ctx.now())
        self._failures += 1
        _log.warning(
            "removal waits", node=self._node.name, interface=self._removal.eni_id, reason=error.reason, why=str(error)
        )
        self._node.troubles.waiting(self._key, error)
        self._wake()
        if not isinstance(error, EC2NotFound | EC2Ambiguous):
            await asyncio.sleep(_BACKOFF.delay_s(min(self._failures, 8), ctx.rng))
        await self._look_again()

    async def _look_again(self) -> None:
        """What was believed may be wrong: forget it, so that the next step is a read."""
        ctx, eni_id = self._ctx, self._removal.eni_id
        if self._removal.ambiguous_since is not None:
            return
        try:
            await self._read(max(ctx.now(), ctx.world.settled_at_of(eni_id)))
        except EC2Error as error:
            self._node.troubles.waiting(self._key, error)
            await asyncio.sleep(_BACKOFF.delay_s(min(self._failures, 8), ctx.rng))

    def _on_wait(self, error: EC2Error) -> None:
        self._node.troubles.waiting(self._key, error)
        self._wake()
