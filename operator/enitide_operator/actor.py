"""One node's actor: the only task that decides for this node. It is woken by any news, looks at everything, and acts.

Level-triggered: a pass compares wanted with actual and never asks what woke it. Its order is fixed: independent calls
go out first (no status write has to wait for them, nor they for it), then the status is written, and only what was
accepted there is acted upon: intents become ENIs, released addresses are unassigned. An error here ends this pass only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from enitide_api.errors import NotLeading
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_api.resources import ENINode
from enitide_ipam import handover
from enitide_ipam.elastic import choose as choose_elastic
from enitide_ipam.elastic import first_eni
from enitide_ipam.model import (
    AssociateElasticIP,
    CreateInterface,
    FinishOrUndoPending,
    NodeSnapshot,
    Plan,
    Reread,
    SubnetView,
    Unassign,
)
from enitide_ipam.plan import Tide, plan_node
from enitide_ipam.stamps import unix
from enitide_operator.book import Ticket
from enitide_operator.classes import Governing
from enitide_operator.context import Context
from enitide_operator.decision import (
    Facts,
    Outlook,
    blocked,
    lacking,
    maps_needed,
    mismatch,
    outlook,
    tide_of,
    unpublished,
)
from enitide_operator.executor import Executor
from enitide_operator.news import News
from enitide_operator.node_state import NodeState
from enitide_operator.preview import NodePreview, preview_node
from enitide_operator.publisher import Publisher
from enitide_operator.reading import NodeReader
from enitide_operator.removing import RemovalRunner
from enitide_operator.saga import SagaRunner
from enitide_operator.tainting import Tainter
from enitide_operator.trouble import Trouble, key_of

_log = get_logger(__name__)

QUIET_S = 2.0  # a first reading under way is not worth a write of its own
BUG_PAUSE_S = 30.0
LAPSE_S = 1.0
_STARVING = frozenset({Reason.SUBNET_EXHAUSTED, Reason.NO_WHOLE_PREFIX})
_UNMATCHED = frozenset({Reason.NO_ELIGIBLE_SUBNET, Reason.SECURITY_GROUPS_MISSING, Reason.EC2_NOT_FOUND})


class Actor:
    """`run()` as a task; `offer` newer versions; `wake` for any other news."""

    def __init__(self, ctx: Context, resource: ENINode) -> None:
        now = ctx.now()
        self._ctx = ctx
        self.state = NodeState(resource.metadata.name, resource, first_seen_at=now, releasing_accepted_at=now)
        self.state.unmet_since = now
        self._woken = asyncio.Event()
        self._woken.set()
        self._woken_s = asyncio.get_running_loop().time()
        self._executor = Executor(ctx, self.state, self.wake)
        self._reader = NodeReader(ctx, self.state, self.wake)
        self._publisher = Publisher(ctx, self.state)
        self._sagas = SagaRunner(ctx, self.state, lambda: self._snapshot(self._governing()), self.wake)
        self._removals = RemovalRunner(ctx, self.state, self.wake)
        self._news = News(ctx, self.state)
        self._tainter = Tainter(ctx, self.state.name, self.wake)
        self._look_at: float | None = None

    def wake(self) -> None:
        """Something may have changed."""
        if self._woken.is_set():
            self._ctx.metrics.folded.inc()
            return
        self._woken_s = asyncio.get_running_loop().time()
        self._woken.set()

    def offer(self, resource: ENINode) -> None:
        """A version from the watch."""
        if self.state.take(resource, self._ctx.now()):
            self.wake()

    def demand_changed(self) -> None:
        """Pods were bound to the node, or left it."""
        self.class_changed()

    def class_changed(self) -> None:
        """Some class has changed, perhaps ours."""
        if self.state.unmet_since is None:
            self.state.unmet_since = self._ctx.now()
        self.wake()

    def elastic_read(self, tags: Mapping[str, str]) -> None:
        """Elastic IPs with these tags were read."""
        wanted = self._governing().spec.interfaces.elastic_ip_selector.tags
        if wanted == tags and not self.state.resource.status.public_ip:
            self.wake()

    def read_again(self) -> None:
        """Drift: read this node's ENIs when the next batch goes, if they are ours to read."""
        if self.state.enis_asked_at is not None and not self._mismatch():
            self._reader.start(self._ctx.now())

    async def run(self) -> None:
        """Until cancelled, or until the term has ended."""
        while not self._ctx.term.ended:
            await self._rest()
            if self._woken.is_set():
                self._ctx.metrics.pass_latency.observe(asyncio.get_running_loop().time() - self._woken_s)
            self._woken.clear()
            try:
                await self._pass()
            except NotLeading:
                # the Lease may yet be renewed within this term; until then nothing is planned
                self._look_at = self._ctx.now() + LAPSE_S
            except Exception as error:  # noqa: BLE001  # one node's bug must not stop the others
                self._ctx.metrics.internal_errors.inc()
                _log.error("pass failed", node=self.state.name, reason=Reason.INTERNAL, exc_info=error)
                self._look_at = self._ctx.now() + BUG_PAUSE_S

    async def _rest(self) -> None:
        delay_s = None if self._look_at is None else max(0.0, self._look_at - self._ctx.now())
        try:
            async with asyncio.timeout(delay_s):
                await self._woken.wait()
        except TimeoutError:
            return

    def preview(self) -> NodePreview:
        """What the next pass would do, with nothing done."""
        governing = self._governing()
        return preview_node(self._ctx, self.state, governing, self._snapshot(governing))

    # --- one pass --------------------------------------------------------------------------------------------------

    async def _pass(self) -> None:
        ctx, state = self._ctx, self.state
        ctx.term.require()
        began_s = asyncio.get_running_loop().time()
        governing = self._governing()
        why = self._blocked(governing)
        snapshot = self._snapshot(governing)
        view = blocked(snapshot, state.resource.status, why, ctx.now()) if why else self._decide(snapshot)
        ctx.metrics.pass_seconds.observe(asyncio.get_running_loop().time() - began_s)
        state.summarise(unpublished(view, self._publisher.stuck()).summary, ctx.now())
        state.excess_since, state.idle_since = view.excess_since, view.idle_since
        self._look_at = _earliest(self._next_look(view), self._taint(governing, view))
        if self._quiet(view):
            return
        await self._publish(view)
        self._tell(view)
        if why is None:
            await self._release()

    def _decide(self, snapshot: NodeSnapshot) -> Outlook:
        """Plan, send what is independent of the status, and see what follows."""
        ctx, state, now = self._ctx, self.state, self._ctx.now()
        vpc_id = snapshot.instance.vpc_id
        subnets = ctx.book.subnets(vpc_id, now)
        if {each.subnet_id for each in snapshot.enis} - {each.id for each in subnets}:
            ctx.discovery.starving(vpc_id, whole=True)  # an ENI in a subnet we have not read cannot be published
        state_now = tide_of(snapshot, subnets)
        plan = self._plan(snapshot, subnets, state_now, now)
        state.troubles.prune({key_of(each) for each in plan.actions} | {("Publish", "")}, now)
        free = tuple(each for each in plan.actions if not state.troubles.holds(key_of(each), now))
        if len(free) < len(plan.actions):
            plan = replace(plan, actions=free)
        state.lack = lacking(state_now) if free else 0
        self._send(plan, snapshot)
        in_flight = tuple(state.in_flight.values())
        sent = in_flight != snapshot.in_flight
        planned = replace(snapshot, in_flight=in_flight) if sent else snapshot
        facts = Facts(
            subnets=subnets,
            state=tide_of(planned, subnets) if sent else state_now,
            vpc_cidrs=ctx.book.cidrs(vpc_id),
            report_interval_s=ctx.report_interval_s(),
            settings=ctx.plan_settings,
            trouble=state.troubles.worst(now),
            now=now,
            elastic_trouble=self._elastic_trouble(snapshot),
        )
        return outlook(planned, plan, facts)

    def _plan(self, snapshot: NodeSnapshot, subnets: tuple[SubnetView, ...], state: Tide | None, now: float) -> Plan:
        ctx = self._ctx
        tags, first = snapshot.class_.interfaces.elastic_ip_selector.tags, first_eni(snapshot)
        elastic_ips = ctx.elastic.want(tags) if tags and not (first and first.elastic_ip) else None
        needed, fresh = maps_needed(snapshot, subnets)
        if not ctx.maps.want(needed, fresh=fresh):
            why = f"the /28 maps of {', '.join(needed)} are being read"
            return Plan(wait=Reason.FILLING, message=why, elastic=choose_elastic(snapshot, elastic_ips))
        settings = ctx.plan_settings
        if settings.name_beside_prefixes != ctx.book.name_beside_prefixes:
            settings = replace(settings, name_beside_prefixes=ctx.book.name_beside_prefixes)
        groups = ctx.book.groups(snapshot.instance.vpc_id)
        plan = plan_node(snapshot, subnets, groups, settings, now, elastic_ips=elastic_ips, state=state)
        if plan.elastic is not None and plan.elastic.reason is Reason.NO_ELASTIC_IP:
            ctx.elastic.starving(tags)
        return plan

    def _elastic_trouble(self, snapshot: NodeSnapshot) -> Trouble | None:
        first = first_eni(snapshot)
        return None if first is None else self.state.troubles.of((AssociateElasticIP.__name__, first.id))

    def _send(self, plan: Plan, snapshot: NodeSnapshot) -> None:
        """What needs no word in the status first."""
        for action in plan.actions:
            if isinstance(action, Reread):
                self._reader.start(action.not_before, action.tokens)
            elif isinstance(action, FinishOrUndoPending):
                self._sagas.start(action.intent)
            elif isinstance(action, CreateInterface):
                continue
            else:
                self._executor.start(action)
        if self.state.read_after is not None and not self.state.troubles.holds(("Reread", ""), self._ctx.now()):
            self._reader.start(self.state.read_after, [each.token for each in snapshot.pending])

    async def _publish(self, view: Outlook) -> None:
        """Write; then act on what was accepted. Orders whose intent was not accepted are forgotten."""
        ctx, state = self._ctx, self.state
        if self._publisher.held():
            return
        orders = [each for each in view.plan.actions if isinstance(each, CreateInterface)]
        tickets = {each.token: ctx.book.debit(each) for each in orders}
        moved = view.wanted.releasing != state.resource.status.releasing
        try:
            accepted = await self._publisher.write(view.wanted)
        except BaseException:
            self._refund(tickets)
            raise
        if not accepted:
            self._refund(tickets)
            if self._publisher.held():
                # The answer may be lost and the intents stand: they are ours and no call was sent for them, so that
                # their ENIs can be made as soon as the watch shows them, not only once EC2 was read for traces.
                state.orders |= {each.token: each for each in orders}
            else:
                self.wake()
            return
        standing = {each.token for each in state.resource.status.pending} | state.running
        state.orders = {token: order for token, order in state.orders.items() if token in standing}
        self._met(view)
        self._first_address()
        if moved:
            state.releasing_accepted_at = ctx.now()
        for order in orders:
            state.orders[order.token], state.tickets[order.token] = order, tickets[order.token]
        for intent in state.resource.status.pending:
            if intent.token in state.orders and intent.token not in state.ended:
                self._sagas.start(intent)

    async def _release(self) -> None:
        """Unassign what stands in the accepted `releasing`, one call per ENI at a time, and remove ENIs in `removing`.

        What was only wanted to stand there does not count: a write that was not accepted changed nothing there.
        """
        unassigns, removals = self._due_unassigns(), self._removals.due()
        if not unassigns and not removals:
            return
        if not await self._publisher.sure():
            self.wake()
            return
        for action in unassigns:
            self._executor.start(action)
        for eni_id in removals:
            self._removals.start(eni_id)

    def _due_unassigns(self) -> tuple[Unassign, ...]:
        if self.state.instance_missing or self.state.ambiguous_since is not None:
            return ()
        busy = {getattr(each, "eni_id", "") for each in self.state.in_flight.values()}
        busy |= set(self.state.published.removing)  # what they hold goes with them
        enis = self._ctx.world.enis_of(self.state.instance_id)
        now = self._ctx.now()
        due: dict[str, Unassign] = {}
        for action in handover.unassign(self.state.published.releasing, enis):
            if action.eni_id not in busy and not self.state.troubles.holds(key_of(action), now):
                due.setdefault(action.eni_id, action)
        return tuple(due.values())

    def _refund(self, tickets: Mapping[str, Ticket]) -> None:
        for ticket in tickets.values():
            self._ctx.book.refund(ticket)

    # --- what a pass sees --------------------------------------------------------------------------------------------

    def _governing(self) -> Governing:
        return self._ctx.classes.governing(self._ctx.labels(self.state.name))

    def _snapshot(self, governing: Governing) -> NodeSnapshot:
        limits = self._ctx.discovery.limits(self.state.resource.spec.instance.type)
        return self.state.snapshot(self._ctx, governing, limits)

    def _blocked(self, governing: Governing) -> Plan | None:
        """Why nothing may be decided for this node, as a plan without actions; None if it may."""
        ctx, instance = self._ctx, self.state.resource.spec.instance
        if not instance.id or not instance.vpc_id:
            return Plan(wait=Reason.IDENTITY_EMPTY, message="the agent has not published its instance and VPC")
        why = self._mismatch()
        if why:
            return Plan(wait=Reason.INSTANCE_MISMATCH, message=why)
        if governing.problem:
            return Plan(wait=Reason.CLASS_INVALID, message=f"ENIClass {governing.name}: {governing.problem}")
        error = ctx.discovery.want_vpc(instance.vpc_id)
        if ctx.book.knows(instance.vpc_id):
            return None
        if self.state.enis_asked_at is None and not self.state.troubles.holds(("Reread", ""), ctx.now()):
            self._reader.start(ctx.now())  # beside the reading of the VPC
        if error is not None:
            return Plan(wait=error.reason, message=str(error))
        return Plan(wait=Reason.FILLING, message=f"{instance.vpc_id} is being read")

    def _mismatch(self) -> str:
        ctx, name = self._ctx, self.state.name
        why = mismatch(ctx.nodes.get(name), self.state.instance_id)
        rivals = ctx.claims.rivals(name)
        if why or not rivals:
            return why
        return f"{self.state.instance_id} is also claimed by {', '.join(rivals)}: neither is acted on"

    def _quiet(self, view: Outlook) -> bool:
        """Whether only the first readings are awaited, and not for long yet."""
        known = self.state.enis_asked_at is not None and self._ctx.book.knows(self.state.resource.spec.instance.vpc_id)
        fresh = self._ctx.now() < self.state.first_seen_at + QUIET_S
        return not known and fresh and view.plan.wait is Reason.FILLING

    def _next_look(self, view: Outlook) -> float | None:
        """When to look again without a cause (Unix seconds); also keeps the VPC's reading going while we starve."""
        ctx, state, now = self._ctx, self.state, self._ctx.now()
        vpc_id = state.resource.spec.instance.vpc_id
        if view.plan.wait in _STARVING | _UNMATCHED:
            ctx.discovery.starving(vpc_id, whole=view.plan.wait in _UNMATCHED)
        moments = [view.look_again_at, state.troubles.next_at(now)]
        if self._quiet(view):
            moments.append(state.first_seen_at + QUIET_S)
        return _earliest(*moments)

    def _tell(self, view: Outlook) -> None:
        """Once it is known whether the status could be written: a node whose status stands still waits for that."""
        told = unpublished(view, self._publisher.stuck())
        self.state.summarise(told.summary, self._ctx.now())
        self._news.tell(told)
        retry_at = self.state.troubles.next_at(self._ctx.now())
        self._look_at = _earliest(self._look_at, self._news.look_again_at(), retry_at)

    def _taint(self, governing: Governing, view: Outlook) -> float | None:
        return self._tainter.see(view.summary.to_give, governing.spec.pool.pre_allocate)

    def _first_address(self) -> None:
        """Measure, once a node: from its registration to the first address that its agent may use."""
        state = self.state
        if state.had_address or not state.resource.status.capacity.provisioned:
            return
        state.had_address = True
        born = state.resource.metadata.creation_timestamp
        if born:
            self._ctx.metrics.first_address.observe(max(0.0, self._ctx.now() - unix(born)))

    def _met(self, view: Outlook) -> None:
        """Measure, if the status that stands now meets the last change of demand."""
        state = self.state
        done = not view.summary.needed and view.plan.wait in {None, Reason.AT_CAPACITY} and not state.in_flight
        if state.unmet_since is not None and done:
            self._ctx.metrics.publish_seconds.observe(self._ctx.now() - state.unmet_since)
            state.unmet_since = None


def _earliest(*moments: float | None) -> float | None:
    return min((each for each in moments if each is not None), default=None)
