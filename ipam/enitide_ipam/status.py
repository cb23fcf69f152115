"""From the world to ENINode.status: pure, so that equal facts give equal status and unchanged status is not written.

Messages carry no number that changes with every pod: a condition is written when something turned, not as a counter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from enitide_api.durations import duration
from enitide_api.reasons import Reason
from enitide_api.resources import (
    Capacity,
    ClassStatus,
    Condition,
    ENIClassSpec,
    ENINodeStatus,
    Interface,
    IPv6Facts,
    PendingInterface,
    Reclaim,
)
from enitide_ipam.addresses import gateway, ipv6_gateway, ordered_again, ordered_ipv6
from enitide_ipam.capacity import is_managed, over_limit, provisioned_addresses
from enitide_ipam.elastic import first_eni
from enitide_ipam.model import TAG_CLUSTER, EniView, NodeSnapshot, Plan, SubnetView
from enitide_ipam.plan import Tide
from enitide_ipam.retiring import is_ours, is_retired
from enitide_ipam.stamps import stamp

READY = "Ready"
AT_CAPACITY = "AtCapacity"
AGENT_SILENT = "AgentSilent"
_NOTHING = Interface(id="", card=0, index=0)  # as which an ENI counts that was not published before
OVER_LIMIT = "OverLimit"
ELASTIC_IP = "ElasticIP"
FOREIGN_INTERFACE = "ForeignInterface"


def wanted_status(
    snapshot: NodeSnapshot,
    subnets: Iterable[SubnetView],
    state: Tide | None,
    plan: Plan,
    *,
    reclaim: Reclaim | None,
    vpc_cidrs: tuple[str, ...],
    report_interval_s: float,
    agent_silent: bool,
    now: float,
    cluster: str = "",
    leaving: Collection[str] = (),
) -> ENINodeStatus:
    """The whole status. `state`: from `plan.node_tide`, None where limits are unknown (capacity is then left).

    `cluster`: whose ENIs are ours. `leaving`: ids of idle ENIs that are to go.
    """
    published = interfaces(snapshot, subnets, cluster, leaving)
    first = first_eni(snapshot)
    slots, used = snapshot.published.capacity.slots, snapshot.published.capacity.used_slots
    if state is not None:
        slots, used = state.capacity.slots, state.capacity.used_slots
    provisioned = provisioned_addresses(published, use_primary_address=snapshot.class_.interfaces.use_primary_address)
    return ENINodeStatus(
        instance_id=snapshot.instance.id,
        class_=class_status(snapshot.class_name, snapshot.class_generation, snapshot.class_, report_interval_s),
        capacity=Capacity(slots=slots, used_slots=used, provisioned=provisioned),
        interfaces=published,
        pending=still_pending(snapshot, published),
        reclaim=reclaim,
        releasing=snapshot.releasing,
        public_ip=first.elastic_ip if first is not None else "",
        removing=snapshot.removing,
        vpc_cidrs=vpc_cidrs,
        conditions=conditions(
            snapshot.published.conditions,
            state,
            plan,
            provisioned,
            agent_silent=agent_silent,
            over_limit=over_limit(snapshot.limits, snapshot.enis),
            foreign=foreign_sentence(snapshot.enis),
            now=now,
        ),
    )


def interfaces(
    snapshot: NodeSnapshot, subnets: Iterable[SubnetView], cluster: str = "", leaving: Collection[str] = ()
) -> tuple[Interface, ...]:
    """ENIs that serve pods by (card, index); nothing of what is releasing; subnet facts beside each."""
    by_id = {subnet.id: subnet for subnet in subnets}
    before = {each.id: each for each in snapshot.published.interfaces}
    releasing = frozenset(snapshot.releasing)
    shown = sorted(
        (eni for eni in snapshot.enis if publishable(eni, snapshot)), key=lambda eni: (eni.card, eni.index, eni.id)
    )
    return tuple(
        msgspec.structs.replace(
            _interface(eni, by_id[eni.subnet_id], releasing, before.get(eni.id, _NOTHING)),
            ours=is_ours(eni, cluster),
            draining=eni.id in leaving or is_retired(eni, snapshot),
        )
        for eni in shown
        if eni.subnet_id in by_id
    )


def publishable(eni: EniView, snapshot: NodeSnapshot) -> bool:
    """Attached to this instance and managed by its class, or serving still although its class has changed."""
    if eni.instance_id != snapshot.instance.id or eni.id in snapshot.removing:
        return False
    return is_managed(eni, snapshot.class_.interfaces) or is_retired(eni, snapshot)


def foreign_sentence(enis: Iterable[EniView]) -> str:
    """Which ENIs on the instance are another cluster's; '' for none."""
    names = [f"{each.id} ({TAG_CLUSTER}={each.tags.get(TAG_CLUSTER, '')})" for each in enis if each.foreign]
    return f"left alone as another cluster's, their places taken: {', '.join(sorted(names))}" if names else ""


def _interface(eni: EniView, subnet: SubnetView, leaving: frozenset[str], before: Interface) -> Interface:
    ipv6 = None
    if eni.ipv6_prefixes and subnet.ipv6_cidr:
        prefixes = ordered_ipv6(eni.ipv6_prefixes)
        ipv6 = IPv6Facts(cidr=subnet.ipv6_cidr, gateway=ipv6_gateway(subnet.ipv6_cidr), prefixes=prefixes)
    return Interface(
        id=eni.id,
        mac=eni.mac,
        card=eni.card,
        index=eni.index,
        subnet_id=eni.subnet_id,
        primary=eni.primary,
        security_groups=tuple(sorted(eni.groups)),
        cidr=subnet.cidr,
        gateway=gateway(subnet.cidr),
        addresses=ordered_again((each for each in eni.addresses if each not in leaving), before.addresses),
        prefixes=ordered_again((each for each in eni.prefixes if each not in leaving), before.prefixes),
        ipv6=ipv6,
    )


def still_pending(snapshot: NodeSnapshot, published: Iterable[Interface]) -> tuple[PendingInterface, ...]:
    """Intents but those whose ENI is published by this very status."""
    shown = {each.id for each in published}
    arrived = {eni.token for eni in snapshot.enis if eni.id in shown and eni.token}
    return tuple(intent for intent in snapshot.pending if intent.token not in arrived)


def class_status(name: str, generation: int, spec: ENIClassSpec, report_interval_s: float) -> ClassStatus:
    """What both sides need of the governing class."""
    return ClassStatus(
        name=name,
        generation=generation,
        pool=spec.pool,
        prefix_delegation=spec.prefix_delegation,
        cooldown=spec.cooldown,
        report_interval=duration(report_interval_s),
        use_primary_address=spec.interfaces.use_primary_address,
        first_index=spec.interfaces.first_index,
    )


def conditions(
    before: Iterable[Condition],
    state: Tide | None,
    plan: Plan,
    provisioned: int,
    *,
    agent_silent: bool,
    now: float,
    over_limit: str = "",
    foreign: str = "",
) -> tuple[Condition, ...]:
    """Ready and AtCapacity; AgentSilent, OverLimit and ForeignInterface while they are; ElasticIP where asked for.

    `lastTransitionTime` is kept where the status is unchanged. `provisioned`: as published. A node at capacity is
    ready: pods that have addresses run, and STATUS succeeds.
    """
    full = plan.wait is Reason.AT_CAPACITY
    ready = _ready(state, plan, provisioned)
    reason, sentence = Reason.POOL_FILLED, "no pod waits for want of address slots"
    if full:
        reason, sentence = Reason.AT_CAPACITY, plan.message
    wanted = [ready, _condition(AT_CAPACITY, full, reason, sentence)]
    if agent_silent:
        sentence = "the agent has not answered a reclaim for 5 minutes"
        wanted.append(_condition(AGENT_SILENT, True, Reason.AGENT_SILENT, sentence))
    if over_limit:
        wanted.append(_condition(OVER_LIMIT, True, Reason.LIMIT_EXCEEDED, over_limit))
    if foreign:
        wanted.append(_condition(FOREIGN_INTERFACE, True, Reason.FOREIGN_INTERFACE, foreign))
    if plan.elastic is not None:
        elastic = plan.elastic
        wanted.append(_condition(ELASTIC_IP, bool(elastic.address), elastic.reason, elastic.message))
    known = {each.type: each for each in before}
    return tuple(_stamped(each, known.get(each.type), now) for each in wanted)


def _ready(state: Tide | None, plan: Plan, provisioned: int) -> Condition:
    if plan.wait is Reason.AT_CAPACITY:
        return _condition(READY, True, Reason.AT_CAPACITY, plan.message)
    if plan.wait is not None:
        return _condition(READY, False, plan.wait, plan.message)
    if state is not None and provisioned >= state.marks.low:
        return _condition(READY, True, Reason.POOL_FILLED, "the pool stands between its tides")
    return _condition(READY, False, Reason.FILLING, plan.message or "addresses are on their way")


def _condition(kind: str, status: bool, reason: Reason, message: str) -> Condition:
    text = "True" if status else "False"
    return Condition(type=kind, status=text, reason=reason.value, message=message, last_transition_time="")


def _stamped(wanted: Condition, before: Condition | None, now: float) -> Condition:
    kept = before is not None and before.status == wanted.status
    moment = before.last_transition_time if kept and before is not None else stamp(now)
    return msgspec.structs.replace(wanted, last_transition_time=moment)


# resolved once: msgspec reads the annotations anew each time it is asked
_STATUS_FIELDS = msgspec.structs.fields(ENINodeStatus)


def changed_parts(before: ENINodeStatus, after: ENINodeStatus) -> dict[str, object]:
    """The fields of a merge patch's `status` that differ, by wire name; empty: nothing to write."""
    parts: dict[str, object] = {}
    for field in _STATUS_FIELDS:
        new = getattr(after, field.name)
        if new != getattr(before, field.name):
            parts[field.encode_name] = msgspec.to_builtins(new)
    return parts
