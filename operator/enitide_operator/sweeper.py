"""Finds and deletes leaked ENIs: those with this cluster's own tag that hang on nothing and that nobody will finish.

What is leaked is decided in `enitide_ipam.sweep`. One listing per look, by cluster tag and state, paged: ENIs of others
cost nothing. It looks when a term begins and then regularly, sooner only for what waits for its second sighting.
Deletes come last in the budget, and their failures hold back nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from enitide_api.errors import EC2Error, EC2InUse, EC2NotFound, EnitideError, InternalError, NotLeading
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_ipam.model import TAG_NODE, EniView
from enitide_ipam.sweep import Known, SweepPlan, plan_sweep
from enitide_kube.backoff import Backoff
from enitide_operator.conditions import SWEEP, OperatorConditions
from enitide_operator.context import Context
from enitide_operator.ec2.budget import SWEEP as SWEEP_ORDER
from enitide_operator.ec2.port import InterfaceQuery

_log = get_logger(__name__)

FIRST_S = 30.0  # nodes come first when a term begins
SOON_S = 5.0
AT_ONCE = 16  # deletes under way together
_RETRY = Backoff(base_s=10.0, cap_s=300.0)
_NOT_LEAKED = (EC2NotFound, EC2InUse)  # deleted by someone else, or attached meanwhile


class Sweeper:
    """`run()` as a task of a term. `known(nodes)`: what is written down of ENIs of these nodes, by name.

    `leaked`: how many leaked ENIs the last look found, None before the first.
    """

    def __init__(self, ctx: Context, known: Callable[[Iterable[str]], Known], conditions: OperatorConditions) -> None:
        self._ctx = ctx
        self._known = known
        self._conditions = conditions
        self._seen: Mapping[str, float] = {}
        self._failures = 0
        self.leaked: int | None = None

    async def run(self) -> None:
        """Until the term ends."""
        ctx = self._ctx
        await asyncio.sleep(FIRST_S * ctx.rng.uniform(1.0, 2.0))
        while not ctx.term.ended:
            try:
                wait_s = await self._look()
                self._failures = 0
                self._conditions.tell(SWEEP, Reason.LEAKS_SWEPT, "leaked ENIs are looked for and deleted", ok=True)
            except NotLeading:
                wait_s = SOON_S
            except Exception as found:  # noqa: BLE001 - not even a bug ends the sweep for good
                self._failures += 1
                error = found if isinstance(found, EnitideError) else InternalError(repr(found))
                self._conditions.tell(SWEEP, error.reason, str(error), ok=False)
                wait_s = _RETRY.delay_s(self._failures, ctx.rng)
            await asyncio.sleep(wait_s)

    async def _look(self) -> float:
        """One look and what follows from it; seconds until the next. Raises what kept it from deleting."""
        ctx = self._ctx
        cluster = ctx.plan_settings.cluster_name
        read = await ctx.gateway.interfaces(InterfaceQuery(loose_of=cluster))
        known = self._known({eni.tags.get(TAG_NODE, "") for eni in read.items})
        plan = plan_sweep(read.items, cluster, known, self._seen, read.asked_at)
        self._seen = plan.seen
        self.leaked = len(plan.seen)
        if plan.delete:
            _log.info("deleting leaked interfaces", count=len(plan.delete))
            await self._delete(plan)
        regular_s = ctx.settings.sweep_interval * ctx.rng.uniform(0.9, 1.1)
        if plan.look_again_at is None:
            return regular_s
        return min(regular_s, max(SOON_S, plan.look_again_at - ctx.now() + ctx.rng.uniform(0.0, SOON_S)))

    async def _delete(self, plan: SweepPlan) -> None:
        """All of them, a few at a time. One that fails keeps no other; the first failure is raised at the end."""
        todo = list(reversed(plan.delete))
        failures: list[EnitideError] = []

        async def worker() -> None:
            while todo:
                try:
                    await self._delete_one(todo.pop())
                except (EC2Error, NotLeading) as error:
                    failures.append(error)
                    if isinstance(error, NotLeading):
                        return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(todo))):
                group.create_task(worker())
        if failures:
            raise failures[0]

    async def _delete_one(self, eni: EniView) -> None:
        ctx = self._ctx
        try:
            await ctx.gateway.delete(eni.id, SWEEP_ORDER)
        except _NOT_LEAKED as error:
            _log.info("interface not leaked any more", interface=eni.id, why=str(error))
            return
        except EC2Error as error:
            _log.warning("leaked interface not deleted", interface=eni.id, reason=error.reason, why=str(error))
            raise
        held = eni.beside_own
        ctx.metrics.swept.inc()
        ctx.metrics.deleted(eni.subnet_id, held)
        ctx.world.deleted(eni.id, ctx.now())
        singles = (eni.primary, *eni.addresses)
        ctx.book.credit(eni.subnet_id, 1 + held, ctx.now(), singles=singles, prefixes=eni.prefixes)
        _log.info("leaked interface deleted", interface=eni.id, node=eni.tags.get(TAG_NODE, ""))
