"""What to do for a node now and what to say of it: pure glue between a snapshot and the decisions of `enitide_ipam`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from msgspec.structs import replace as replace_struct

from enitide_api.durations import seconds
from enitide_api.reasons import Reason
from enitide_api.resources import ENINodeStatus, Reclaim
from enitide_ipam import handover, tide
from enitide_ipam.capacity import (
    is_excluded,
    is_managed,
    may_use_prefixes,
    provisioned_addresses,
    whole_prefix_exists,
)
from enitide_ipam.model import CreateInterface, NodeSnapshot, Plan, PlanSettings, SubnetView
from enitide_ipam.plan import Tide, node_tide
from enitide_ipam.removal import idle_due, next_idle_at
from enitide_ipam.retiring import idle_since, may_go
from enitide_ipam.saga import intent_of
from enitide_ipam.stamps import stamp, unix
from enitide_ipam.status import conditions, wanted_status
from enitide_ipam.subnets import eligible
from enitide_kube.objects import Node, instance_of
from enitide_operator.node_state import Summary
from enitide_operator.trouble import Trouble

# Reasons that only say that work is under way: a trouble says more.
_VAGUE = frozenset({None, Reason.FILLING, Reason.EC2_AMBIGUOUS})


@dataclass(frozen=True, slots=True)
class Outlook:
    """`plan` with the reason to show, the status to write, and when to look again without a cause (Unix seconds).

    `excess_since`, `idle_since`: to hand to the next snapshot.
    """

    plan: Plan
    wanted: ENINodeStatus
    summary: Summary
    excess_since: float | None
    look_again_at: float | None
    idle_since: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What `outlook` needs beside the snapshot. `state`: its tide."""

    subnets: tuple[SubnetView, ...]
    state: Tide | None
    vpc_cidrs: tuple[str, ...]
    report_interval_s: float
    settings: PlanSettings
    trouble: Trouble | None
    now: float
    elastic_trouble: Trouble | None = None


def mismatch(node: Node | None, instance_id: str) -> str:
    """Why this ENINode must not be acted on, as a sentence; '' if Node and ENINode name the same instance."""
    if node is None:
        return "there is no Node of this name"
    provider = node.spec.provider_id
    if instance_of(provider) == instance_id and instance_id:
        return ""
    return f"Node.spec.providerID is {provider or 'empty'}, spec.instance.id is {instance_id or 'empty'}"


def explained(plan: Plan, state: Tide | None, trouble: Trouble | None) -> Plan:
    """The plan, its reason replaced by what really keeps the node short."""
    short = state is None or state.provisioned < state.marks.low
    # "full" foretells: while addresses are still to come, what keeps them from coming is the reason
    foretold = plan.wait is Reason.AT_CAPACITY and state is not None and state.ahead > 0
    if trouble is None or not short or not (foretold or plan.wait in _VAGUE):
        return plan
    return replace(plan, wait=trouble.reason, message=trouble.message)


def unpublished(view: Outlook, stuck: Trouble | None) -> Outlook:
    """What people are told where the status cannot be written: that, unless the node waits for something of its own."""
    if stuck is None or view.plan.wait not in _VAGUE:
        return view
    plan = replace(view.plan, wait=stuck.reason, message=f"the status cannot be written: {stuck.message}")
    return replace(view, plan=plan, summary=replace(view.summary, wait=stuck.reason))


def _elastic_explained(plan: Plan, trouble: Trouble | None) -> Plan:
    """The plan, with what keeps EC2 from associating the Elastic IP."""
    if plan.elastic is None or plan.elastic.address or trouble is None or plan.elastic.reason is not Reason.FILLING:
        return plan
    return replace(plan, elastic=replace(plan.elastic, reason=trouble.reason, message=trouble.message))


def tide_of(snapshot: NodeSnapshot, subnets: tuple[SubnetView, ...]) -> Tide | None:
    """Marks and capacity; None while limits or ENIs are unknown."""
    if snapshot.limits is None or snapshot.enis_asked_at is None:
        return None
    return node_tide(snapshot, snapshot.limits, subnets)


def lacking(state: Tide | None) -> int:
    """Addresses that the node is below its low tide now, whatever is on its way."""
    return 0 if state is None else max(0, state.marks.low - state.provisioned)


def maps_needed(snapshot: NodeSnapshot, subnets: tuple[SubnetView, ...]) -> tuple[tuple[str, ...], bool]:
    """The subnets whose /28 map this node's plan rests on; and whether maps that are old are not good enough.

    None for a node that cannot use prefixes. Before single addresses are taken in a prefix's place, old maps are asked
    again whether /28s have returned.
    """
    limits, class_ = snapshot.limits, snapshot.class_
    if limits is None or snapshot.enis_asked_at is None or not may_use_prefixes(limits, class_):
        return (), False
    usable = {each.id for each in eligible(subnets, snapshot.instance, class_.interfaces.subnet_selector)}
    usable |= {eni.subnet_id for eni in snapshot.enis if is_managed(eni, class_.interfaces)}
    views = [each for each in subnets if each.id in usable]
    fresh = node_tide(snapshot, limits, subnets).short and not whole_prefix_exists(views)
    return tuple(each.id for each in views), fresh


def outlook(snapshot: NodeSnapshot, plan: Plan, facts: Facts) -> Outlook:
    """The status that follows from the plan, releases included."""
    now, cluster = facts.now, facts.settings.cluster_name
    state = facts.state
    shown = _elastic_explained(explained(plan, state, facts.trouble), facts.elastic_trouble)
    since, reclaim = _reclaim(snapshot, state, now)
    ordered = [intent_of(each, stamp(now)) for each in plan.actions if isinstance(each, CreateInterface)]
    planned = replace(snapshot, pending=(*snapshot.pending, *ordered)) if ordered else snapshot
    # a changed class alone is no question: an agent with nothing to report has no answer to write
    silent = handover.is_silent(snapshot.published, None, snapshot.agent_wrote_at, now) and handover.has_answer(
        snapshot.published, snapshot.yielded, snapshot.demand, snapshot.busy
    )
    idle = idle_since(snapshot, cluster, now)
    if idle != snapshot.idle_since:
        snapshot = replace(snapshot, idle_since=idle)
    wanted = wanted_status(
        planned,
        facts.subnets,
        state,
        shown,
        reclaim=reclaim,
        vpc_cidrs=facts.vpc_cidrs,
        report_interval_s=facts.report_interval_s,
        agent_silent=silent,
        now=now,
        cluster=cluster,
        leaving=idle_due(snapshot, state, now),
    )
    if snapshot.enis_asked_at is None:
        # nothing was read since this process leads: what stands published stands
        published = snapshot.published
        wanted = replace_struct(wanted, interfaces=published.interfaces, capacity=published.capacity)
    else:
        wanted = _released(wanted, snapshot, cluster)
    summary = _summary(snapshot, state, shown, wanted)
    look_at = _look_again(wanted, snapshot, since, now)
    return Outlook(shown, wanted, summary, since, look_at, snapshot.idle_since)


def blocked(snapshot: NodeSnapshot, status: ENINodeStatus, plan: Plan, now: float) -> Outlook:
    """For a node that must not be acted on: all that is published stays, only the conditions say why."""
    said = conditions(status.conditions, None, plan, status.capacity.provisioned, agent_silent=False, now=now)
    provisioned = status.capacity.provisioned
    to_give = tide.to_give(snapshot.demand, snapshot.bound, provisioned)
    summary = Summary(provisioned=provisioned, to_give=to_give, wait=plan.wait)
    wanted = replace_struct(status, conditions=said)
    return Outlook(plan, wanted, summary, snapshot.excess_since, None, snapshot.idle_since)


def _reclaim(snapshot: NodeSnapshot, state: Tide | None, now: float) -> tuple[float | None, Reclaim | None]:
    """Since when there is an excess, and what status.reclaim should say."""
    current = snapshot.published.reclaim
    if state is None:
        return snapshot.excess_since, current
    provisioned = state.provisioned
    since = handover.excess_since(state.marks, provisioned, snapshot.excess_since, now)
    policy = snapshot.class_.release
    return since, handover.reclaim(state.marks, provisioned, policy, current=current, since=since, now=now)


def _released(wanted: ENINodeStatus, snapshot: NodeSnapshot, cluster: str) -> ENINodeStatus:
    """`wanted`, with what was yielded and asked for taken out of interfaces."""
    accepted = handover.accept(wanted, snapshot.yielded, wanted.reclaim, snapshot.busy, _bounds(snapshot, cluster))
    if accepted is None:
        return wanted
    use_primary = snapshot.class_.interfaces.use_primary_address
    provisioned = provisioned_addresses(accepted.interfaces, use_primary_address=use_primary)
    return replace_struct(
        wanted,
        interfaces=accepted.interfaces,
        releasing=accepted.releasing,
        removing=accepted.removing,
        reclaim=accepted.reclaim,
        capacity=replace_struct(wanted.capacity, provisioned=provisioned),
    )


def _bounds(snapshot: NodeSnapshot, cluster: str) -> handover.Bounds:
    """What may go as a whole, and what EC2 is asked nothing of: excluded ENIs, or all where release is off."""
    class_ = snapshot.class_
    ids = {eni.id for eni in snapshot.enis}
    if not class_.release.enabled:
        return handover.Bounds(untouched=frozenset(ids))
    removable = {eni.id for eni in snapshot.enis if may_go(eni, class_, cluster)}
    excluded = {eni.id for eni in snapshot.enis if is_excluded(eni, class_.interfaces)}
    return handover.Bounds(frozenset(removable), frozenset(excluded))


def _summary(snapshot: NodeSnapshot, state: Tide | None, plan: Plan, wanted: ENINodeStatus) -> Summary:
    provisioned = wanted.capacity.provisioned
    to_give = tide.to_give(snapshot.demand, snapshot.bound, provisioned)
    if state is None or snapshot.instance_missing:
        return Summary(provisioned=provisioned, to_give=to_give, wait=plan.wait)
    return Summary(
        provisioned=provisioned,
        needed=tide.needed(state.marks, provisioned, state.ahead),
        to_give=to_give,
        candidates=sum(free > 0 for free in state.capacity.free_by_eni.values()),
        places=len(state.capacity.places),
        at_capacity=plan.wait is Reason.AT_CAPACITY,
        wait=plan.wait,
    )


def _look_again(wanted: ENINodeStatus, snapshot: NodeSnapshot, since: float | None, now: float) -> float | None:
    """When a delay of the release ends, so that it is not noticed only by chance."""
    idle_at = next_idle_at(snapshot, now)
    if since is None or not snapshot.class_.release.enabled:
        return idle_at
    delay_s = seconds(snapshot.class_.release.delay)
    moments = [since + delay_s, *([idle_at] if idle_at is not None else [])]
    if wanted.reclaim is not None:
        asked_at = unix(wanted.reclaim.since)
        moments += [asked_at + delay_s, asked_at + handover.SILENT_AFTER_S]
    return min((each for each in moments if each > now), default=None)
