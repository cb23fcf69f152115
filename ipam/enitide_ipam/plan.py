"""What a node needs from EC2, all at once: existing ENIs first, then as many new ones as needed, in parallel.

Pure. Pending and running work is part of the snapshot and counted, so that nothing is ordered twice. Release is not
planned here (`handover`), nor the steps of one intent (`saga`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from enitide_api.reasons import Reason
from enitide_api.resources import PendingInterface
from enitide_ipam import tide
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.capacity import NodeCapacity, is_managed, may_use_prefixes, node_capacity, whole_prefix_exists
from enitide_ipam.elastic import choose as choose_elastic
from enitide_ipam.filling import Filling, NewInterface, Refused
from enitide_ipam.groups import GroupChoice
from enitide_ipam.groups import choose as choose_groups
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import (
    TAG_CLUSTER,
    TAG_INSTANCE,
    TAG_NODE,
    TAG_TOKEN,
    Action,
    AssignAddresses,
    AssignIPv6Prefix,
    AssignPrefixes,
    CreateInterface,
    ElasticView,
    FinishOrUndoPending,
    GroupView,
    NodeSnapshot,
    Plan,
    PlanSettings,
    Reread,
    SetDeleteOnTermination,
    SubnetView,
)
from enitide_ipam.retiring import held_on_retired, still_leaving
from enitide_ipam.saga import intent_of
from enitide_ipam.subnets import eligible


@dataclass(frozen=True, slots=True)
class Tide:
    """A node's marks beside what it has: `expected` includes ENIs on order and requests under way.

    `held`: addresses that pods hold on ENIs which the class does not admit any more. `maximum`: maxAllocate;
    `marks.maximum` is what of it is left beside what nobody uses any more and EC2 still has there. `leaving`: how much
    of that is about to go.
    """

    marks: tide.Levels
    capacity: NodeCapacity
    expected: int
    room: int
    held: int = 0
    maximum: int | None = None
    leaving: int = 0

    @property
    def provisioned(self) -> int:
        """Addresses that count against the marks now."""
        return self.capacity.provisioned + self.held

    @property
    def short(self) -> bool:
        """Below `low` even when all that is under way has come."""
        return self.expected < self.marks.low

    @property
    def maximum_reached(self) -> bool:
        """Whether maxAllocate, and not the places for addresses, is what holds it back."""
        return self.marks.maximum is not None and self.marks.maximum <= self.expected + self.room

    @property
    def ahead(self) -> int:
        """Addresses beyond the provisioned ones that it can still come to hold: on order, or in free slots."""
        return self.expected - self.provisioned + self.room


def plan_node(
    snapshot: NodeSnapshot,
    subnets: Iterable[SubnetView],
    groups: Iterable[GroupView],
    settings: PlanSettings,
    now: float,
    *,
    elastic_ips: Iterable[ElasticView] | None = None,
    state: Tide | None = None,
) -> Plan:
    """The actions that bring the node to its tide, and the reason for what they do not cover.

    `subnets` carry free counts after local debit; the caller debits `debits(plan)` before anything else plans.
    `elastic_ips`: those with the tags that the class asks for, None while they are not read. `state`: the node's tide,
    where the caller has it already.
    """
    known_subnets = tuple(subnets)
    elastic = choose_elastic(snapshot, elastic_ips)
    blocked = _blocked(snapshot, settings, now)
    if blocked is not None:
        return replace(blocked, elastic=elastic)
    if snapshot.limits is None:
        filled = _limits_unknown(snapshot)
    else:
        state = state or node_tide(snapshot, snapshot.limits, known_subnets)
        selector = snapshot.class_.interfaces.security_group_selector
        chosen = choose_groups(groups, snapshot.instance.vpc_id, selector, snapshot.enis)
        filled = _fill(_Work(snapshot, snapshot.limits, state, known_subnets, chosen, settings, now))
    repairs = (*_intents(snapshot), *_flags(snapshot, settings), *_ipv6(snapshot, known_subnets))
    public = (elastic.action,) if elastic is not None and elastic.action is not None else ()
    if not repairs and elastic is None:
        return filled
    return replace(filled, actions=(*filled.actions, *repairs, *public), elastic=elastic)


def _limits_unknown(snapshot: NodeSnapshot) -> Plan:
    known = snapshot.instance.type or "(empty)"
    why = f", and {snapshot.limits_error}" if snapshot.limits_error else ""
    return Plan((), Reason.LIMITS_UNKNOWN, f"instance type {known} is not in the table of limits{why}")


def node_tide(snapshot: NodeSnapshot, limits: InstanceLimits, subnets: Iterable[SubnetView]) -> Tide:
    """Marks and capacity of a node, with everything under way counted once."""
    class_ = snapshot.class_
    capacity = snapshot_capacity(snapshot, limits, subnets)
    under_way = sum(_brings(action) for action in snapshot.in_flight if not isinstance(action, CreateInterface))
    # what pods hold on ENIs that the class does not admit any more counts; the rest there is neither had nor free
    held, idle = held_on_retired(snapshot)
    prefixes = may_use_prefixes(limits, class_)
    marks = tide.levels(snapshot.demand, snapshot.bound, class_.pool, prefix_delegation=prefixes)
    released = still_leaving(snapshot)
    if marks.maximum is not None:
        # the levels stand as if it were gone already, but nothing is taken in its place before it is
        marks = replace(marks, maximum=max(0, marks.maximum - released - idle))
    expected = capacity.provisioned + capacity.expected + under_way + held
    leaving = released + (idle if class_.release.enabled else 0)
    return Tide(marks, capacity, expected, capacity.room, held, class_.pool.max_allocate, leaving)


def snapshot_capacity(snapshot: NodeSnapshot, limits: InstanceLimits, subnets: Iterable[SubnetView]) -> NodeCapacity:
    """`node_capacity` of a snapshot, with the rule of which subnets say that a slot can hold a prefix."""
    candidates = eligible(subnets, snapshot.instance, snapshot.class_.interfaces.subnet_selector)
    return node_capacity(
        limits,
        snapshot.class_,
        snapshot.enis,
        prefix_room=whole_prefix_exists(candidates),
        releasing=snapshot.releasing,
        pending=ordered_interfaces(snapshot),
        requested=_requested(snapshot),
        removing=snapshot.removing,
    )


def ordered_interfaces(snapshot: NodeSnapshot) -> tuple[PendingInterface, ...]:
    """Intents, and ENIs ordered so recently that their intent has not been read back yet."""
    known = {intent.token for intent in snapshot.pending}
    fresh = [
        intent_of(action, "")
        for action in snapshot.in_flight
        if isinstance(action, CreateInterface) and action.token not in known
    ]
    return (*snapshot.pending, *fresh)


def _requested(snapshot: NodeSnapshot) -> dict[str, int]:
    """Slots that requests under way will fill, by ENI."""
    slots: dict[str, int] = {}
    for action in snapshot.in_flight:
        if isinstance(action, AssignAddresses | AssignPrefixes):
            slots[action.eni_id] = slots.get(action.eni_id, 0) + action.count
    return slots


def debits(plan: Plan) -> dict[str, tuple[int, int]]:
    """What the plan's actions take, by subnet id: (addresses, whole /28s). An ENI's own address is in the first."""
    taken: dict[str, tuple[int, int]] = {}
    for action in plan.actions:
        if isinstance(action, AssignAddresses):
            addresses, prefixes = action.count, 0
        elif isinstance(action, AssignPrefixes):
            addresses, prefixes = PREFIX_SIZE * action.count, action.count
        elif isinstance(action, CreateInterface):
            addresses, prefixes = 1 + action.gives, action.prefixes
        else:
            continue
        before = taken.get(action.subnet_id, (0, 0))
        taken[action.subnet_id] = (before[0] + addresses, before[1] + prefixes)
    return taken


# --- what stops everything -----------------------------------------------------------------------------------------


def _blocked(snapshot: NodeSnapshot, settings: PlanSettings, now: float) -> Plan | None:
    """Nothing is sent for a node whose instance or ENIs are not known for sure."""
    if not snapshot.instance.id:
        return Plan(wait=Reason.IDENTITY_EMPTY, message="the agent has not published an instance id")
    if snapshot.instance_missing:
        # what stands half made for it is undone all the same: nobody else would
        why = f"EC2 does not know instance {snapshot.instance.id}"
        return Plan(tuple(_intents(snapshot)), Reason.INSTANCE_MISSING, why)
    tokens = tuple(sorted(intent.token for intent in snapshot.pending))
    if snapshot.enis_asked_at is None:
        why = f"the ENIs of instance {snapshot.instance.id} have not been read yet"
        return Plan((Reread(now, why, tokens),), Reason.FILLING, why)
    if snapshot.ambiguous_since is not None:
        sure_at = snapshot.ambiguous_since + settings.call_timeout_s
        if snapshot.enis_asked_at < sure_at:
            why = "the outcome of a call is unknown: the ENIs are read again one call time-out later"
            return Plan((Reread(sure_at, why, tokens),), Reason.EC2_AMBIGUOUS, why)
    return None


# --- repairs: what stands and is not as it should be -----------------------------------------------------------------


def _intents(snapshot: NodeSnapshot) -> Iterable[Action]:
    for intent in sorted(snapshot.pending, key=lambda each: each.token):
        if intent.token not in snapshot.running:
            yield FinishOrUndoPending(intent, "an intent stands and nothing works on it")


def _flags(snapshot: NodeSnapshot, settings: PlanSettings) -> Iterable[Action]:
    """Delete-on-termination of ENIs that are ours, as the class says now."""
    wanted = snapshot.class_.interfaces.delete_on_termination
    changing = {each.eni_id for each in snapshot.in_flight if isinstance(each, SetDeleteOnTermination)}
    for eni in sorted(snapshot.enis, key=lambda each: each.id):
        if not is_managed(eni, snapshot.class_.interfaces) or eni.delete_on_termination == wanted:
            continue
        cluster = eni.tags.get(TAG_CLUSTER, "")
        ours = bool(eni.token) and cluster == settings.cluster_name and eni.id not in snapshot.removing
        if ours and eni.id not in changing and eni.token not in snapshot.running:
            yield SetDeleteOnTermination(eni.id, eni.attachment_id, wanted, "as the class says")


def _ipv6(snapshot: NodeSnapshot, subnets: Iterable[SubnetView]) -> Iterable[Action]:
    """One /80 for each managed ENI whose subnet has IPv6."""
    if snapshot.limits is not None and snapshot.limits.ipv6_per_interface < 1:
        return
    with_ipv6 = {subnet.id for subnet in subnets if subnet.ipv6_cidr}
    asked = {each.eni_id for each in snapshot.in_flight if isinstance(each, AssignIPv6Prefix)}
    for eni in sorted(snapshot.enis, key=lambda each: each.id):
        lacks = not eni.ipv6_prefixes and eni.subnet_id in with_ipv6 and eni.id not in {*asked, *snapshot.removing}
        if lacks and is_managed(eni, snapshot.class_.interfaces):
            yield AssignIPv6Prefix(eni.id, "the subnet has IPv6")


# --- filling ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Work:
    """What filling works from."""

    snapshot: NodeSnapshot
    limits: InstanceLimits
    state: Tide
    subnets: tuple[SubnetView, ...]
    groups: GroupChoice
    settings: PlanSettings
    now: float


def _fill(work: _Work) -> Plan:
    state = work.state
    if tide.at_capacity(state.marks, state.expected, state.room):
        return _full(work, state.expected, ())
    count = tide.take(state.marks, state.expected, state.room)
    if not count:
        return Plan()
    sheet = _place(work, count)
    actions = _requests(sheet, state)
    actions += [_create(work, new, number) for number, new in enumerate(sheet.new)]
    return _explained(sheet, work, actions)


def _place(work: _Work, count: int) -> Filling:
    """Prefixes wherever they can be had, then single addresses for the rest."""
    snapshot, state = work.snapshot, work.state
    sheet = Filling(
        instance=snapshot.instance,
        class_=snapshot.class_,
        capacity=state.capacity,
        eni_subnets={eni.id: eni.subnet_id for eni in snapshot.enis},
        subnets=work.subnets,
        per_eni=work.limits.ipv4_per_interface - 1,
        budget=None if state.marks.maximum is None else state.marks.maximum - state.expected,
        name_beside_prefixes=work.settings.name_beside_prefixes,
    )
    groups = work.groups
    no_groups = Refused(groups.reason, groups.message) if groups.reason is not None else None
    if may_use_prefixes(work.limits, snapshot.class_):
        whole, _ = tide.prefixes_and_singles(count, state.expected, state.marks.maximum)
        sheet.place(whole, prefixes=True, may_create=no_groups)
    if sheet.gained < count:
        sheet.place(count - sheet.gained, prefixes=False, may_create=no_groups)
    return sheet


def _requests(sheet: Filling, state: Tide) -> list[Action]:
    why = f"{state.expected} addresses, low tide {state.marks.low}, high tide {state.marks.high}"
    actions: list[Action] = []
    for each in sheet.requests:
        if each.prefixes:
            actions.append(AssignPrefixes(each.eni_id, each.subnet_id, each.count, why))
        else:
            actions.append(AssignAddresses(each.eni_id, each.subnet_id, each.count, why, each.names))
    return actions


def _create(work: _Work, new: NewInterface, number: int) -> CreateInterface:
    snapshot, settings = work.snapshot, work.settings
    policy = snapshot.class_.interfaces
    card, index = new.place
    instance_id = snapshot.instance.id
    identity = "|".join((settings.nonce, instance_id, snapshot.version, repr(work.now), str(number), str(new.place)))
    token = "enitide-" + hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    tags = {**policy.tags, TAG_NODE: snapshot.name, TAG_INSTANCE: instance_id, TAG_TOKEN: token}
    if settings.cluster_name:
        tags[TAG_CLUSTER] = settings.cluster_name
    return CreateInterface(
        token=token,
        subnet_id=new.subnet.id,
        card=card,
        index=index,
        groups=work.groups.ids,
        addresses=0 if new.prefixes else new.count,
        prefixes=new.count if new.prefixes else 0,
        ipv6=bool(new.subnet.ipv6_cidr),
        tags=tags,
        delete_on_termination=policy.delete_on_termination,
        description=f"enitide {snapshot.name}",
        reason=f"card {card}, index {index} in {new.subnet.id}",
        names=new.names,
    )


def _full(work: _Work, count: int, actions: tuple[Action, ...]) -> Plan:
    """For a node that wants more than the `count` addresses it comes to, and has no room: for good, or for a moment."""
    state = work.state
    going = {eni.id for eni in work.snapshot.enis} & set(work.snapshot.removing)
    if state.maximum_reached and state.leaving and state.maximum is not None and count < state.maximum:
        message = f"maxAllocate {state.maximum} also counts what is being released, until EC2 has it back"
        return Plan(actions, Reason.FILLING, message)
    if going and not actions and not state.maximum_reached:  # not for want of places
        message = f"the place of {', '.join(sorted(going))} is about to come free"
        return Plan(wait=Reason.FILLING, message=message)
    return Plan(actions, Reason.AT_CAPACITY, capacity_sentence(state, work.limits))


def _explained(sheet: Filling, work: _Work, actions: list[Action]) -> Plan:
    """The plan, waiting for a reason only if it leaves the node below its low tide."""
    message = "; ".join(dict.fromkeys(each.message for each in sheet.refused))
    count = work.state.expected + sheet.gained
    if count >= work.state.marks.low:
        return Plan(tuple(actions), None, message)
    if not sheet.refused:  # every slot is filled by this very plan
        return _full(work, count, tuple(actions))
    return Plan(tuple(actions), sheet.refused[-1].reason, message)


def capacity_sentence(state: Tide, limits: InstanceLimits) -> str:
    """Why the node cannot have more; no number that changes with every pod."""
    if state.maximum_reached and state.maximum == state.marks.maximum:
        return f"maxAllocate {state.maximum} is reached"
    if state.maximum_reached:
        return f"maxAllocate {state.maximum} is reached; it counts idle addresses of ENIs that the class does not admit"
    return f"all {state.capacity.slots} address slots of this {limits.type} are taken"


def _brings(action: Action) -> int:
    """Addresses for pods that an action brings, without an ENI's own."""
    if isinstance(action, AssignAddresses):
        return action.count
    if isinstance(action, AssignPrefixes):
        return PREFIX_SIZE * action.count
    return action.gives if isinstance(action, CreateInterface) else 0
