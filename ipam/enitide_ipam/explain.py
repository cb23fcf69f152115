"""The chain from a node's class down to EC2, as the ENINode and reports tell it: why it has no address to give. Pure.

Each link says what is so and whether it holds. A link that is short only because a later one is broken `waits`; the
first broken one is the cause. The operator's own word (the condition `Ready`) decides which link is broken; the other
facts stand beside it, so that a reader can check it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from enitide_api.reasons import Reason
from enitide_api.resources import Condition, ENIClass, ENINode
from enitide_api.subnetreport import SubnetReport
from enitide_ipam import tide


class Holds(StrEnum):
    """How a link stands."""

    OK = "ok"
    WAITS = "waits"  # for a later link
    BROKEN = "broken"
    UNKNOWN = "unknown"  # could not be seen


@dataclass(frozen=True, slots=True)
class Link:
    """One link. `reason` where it waits or is broken."""

    name: str
    holds: Holds
    says: str
    reason: str = ""


CLASS, TIDE, SLOTS, INTERFACES, SUBNETS, GROUPS, EC2 = (
    "class", "tide", "slots", "enis", "subnets", "security groups", "ec2",
)  # fmt: skip
AGENT, OPERATOR = "agent", "operator"

LINK_OF: Mapping[Reason, str] = {
    Reason.CLASS_INVALID: CLASS,
    Reason.FILLING: TIDE,
    Reason.AT_CAPACITY: SLOTS,
    Reason.LIMITS_UNKNOWN: SLOTS,
    Reason.LIMIT_EXCEEDED: SLOTS,
    Reason.INDEX_OCCUPIED: INTERFACES,
    Reason.INTERFACE_ABSENT: INTERFACES,
    Reason.SUBNET_EXHAUSTED: SUBNETS,
    Reason.NO_ELIGIBLE_SUBNET: SUBNETS,
    Reason.NO_WHOLE_PREFIX: SUBNETS,
    Reason.SECURITY_GROUPS_MISSING: GROUPS,
    Reason.INSTANCE_MISSING: AGENT,
    Reason.INSTANCE_MISMATCH: AGENT,
    Reason.IDENTITY_EMPTY: AGENT,
    Reason.AGENT_SILENT: AGENT,
    Reason.API_UNAVAILABLE: OPERATOR,
    Reason.API_FORBIDDEN: OPERATOR,
    Reason.API_CONFLICT: OPERATOR,
    Reason.API_INVALID: OPERATOR,
    Reason.NOT_LEADING: OPERATOR,
    Reason.INTERNAL: OPERATOR,
}  # whatever is not here is EC2's


def ready_of(node: ENINode) -> Condition | None:
    """The operator's last word on the node."""
    return next((each for each in node.status.conditions if each.type == "Ready"), None)


def broken_link(node: ENINode) -> tuple[str, str, str]:
    """Link, reason and sentence of what the operator says keeps the node waiting; three empty words for nothing."""
    ready = ready_of(node)
    if ready is None:
        return OPERATOR, Reason.ADDRESS_PENDING, "the operator has not said anything of this node yet"
    full = ready.reason == Reason.AT_CAPACITY
    if ready.status == "True" and not full:
        return "", "", ""
    known = {reason.value: reason for reason in Reason}
    reason = known.get(ready.reason)
    return LINK_OF.get(reason, EC2) if reason is not None else EC2, ready.reason, ready.message


def node_links(node: ENINode, class_: ENIClass | None, reports: Iterable[SubnetReport], bound: int) -> tuple[Link, ...]:
    """From class to EC2. `bound`: pods on the node that want an address; `class_`: the governing one, None unknown."""
    at, reason, sentence = broken_link(node)
    facts = (
        _class(node, class_),
        _tide(node, bound),
        _slots(node),
        _interfaces(node),
        _subnets(node, tuple(reports)),
        Link(GROUPS, Holds.OK, _groups(node)),
        Link(EC2, Holds.OK, "no trouble told"),
    )
    return tuple(_judged(link, at, reason, sentence) for link in facts)


def _judged(link: Link, at: str, reason: str, sentence: str) -> Link:
    """The operator's word on the link that it speaks of; work under way is no break."""
    if link.name != at:
        return link
    if reason == Reason.FILLING:
        return Link(link.name, Holds.WAITS, f"{link.says}; {sentence}", reason)
    says = sentence if link.says in ("", "no trouble told") else f"{sentence}; {link.says}"
    return Link(link.name, Holds.BROKEN, says, reason)


def _class(node: ENINode, class_: ENIClass | None) -> Link:
    governing = node.status.class_
    if governing is None:
        return Link(CLASS, Holds.WAITS, "the operator has not published a class yet", Reason.ADDRESS_PENDING)
    pool = governing.pool
    says = f"ENIClass {governing.name}: preAllocate {pool.pre_allocate}, minAllocate {pool.min_allocate}"
    says += f", maxAllocate {pool.max_allocate}" if pool.max_allocate is not None else ""
    says += ", prefixes" if governing.prefix_delegation else ""
    if class_ is None:
        return Link(CLASS, Holds.OK, f"{says} (built in: there is no such object)")
    if class_.metadata.generation > governing.generation:
        says += f"; generation {class_.metadata.generation} is not yet in use here (now {governing.generation})"
        return Link(CLASS, Holds.WAITS, says, Reason.FILLING)
    return Link(CLASS, Holds.OK, says)


def _tide(node: ENINode, bound: int) -> Link:
    governing, demand = node.status.class_, node.spec.demand
    if governing is None:
        return Link(TIDE, Holds.UNKNOWN, "no class, no tide")
    marks = tide.levels(demand, bound, governing.pool, prefix_delegation=governing.prefix_delegation)
    provisioned = node.status.capacity.provisioned
    free = tide.to_give(demand, bound, provisioned)
    says = (
        f"{provisioned} provisioned, low {marks.low}, high {marks.high}: {demand.in_use} in use, {demand.cooling} "
        f"cooling, {demand.waiting} waiting, {bound} bound; {max(0, free)} to give"
    )
    if provisioned < marks.low:
        return Link(TIDE, Holds.WAITS, f"{says}; {marks.low - provisioned} short", Reason.FILLING)
    return Link(TIDE, Holds.OK, says)


def _slots(node: ENINode) -> Link:
    capacity = node.status.capacity
    free = capacity.free_slots
    kind = node.spec.instance.type or "an unknown type"
    return Link(SLOTS, Holds.OK, f"{capacity.used_slots} of {capacity.slots} slots of {kind} used, {free} free")


def _interfaces(node: ENINode) -> Link:
    status = node.status
    says = f"{len(status.interfaces)} published"
    says += f", {len(status.pending)} being made since {status.pending[0].since}" if status.pending else ""
    says += f", {len(status.releasing)} addresses or prefixes about to be unassigned" if status.releasing else ""
    if status.reclaim is not None and status.reclaim.count:
        says += f", {status.reclaim.count} addresses asked back since {status.reclaim.since}"
    return Link(INTERFACES, Holds.OK, says)


def _subnets(node: ENINode, reports: tuple[SubnetReport, ...]) -> Link:
    used = {each.subnet_id for each in node.status.interfaces} | {node.spec.instance.subnet_id}
    zone = node.spec.instance.availability_zone
    mine = [each for each in reports if each.metadata.name in used or each.spec.availability_zone == zone]
    if not mine:
        return Link(SUBNETS, Holds.UNKNOWN, f"no SubnetReport of {', '.join(sorted(used - {''})) or 'its subnet'}")
    return Link(SUBNETS, Holds.OK, "; ".join(_subnet(each, used) for each in mine))


def _subnet(report: SubnetReport, used: set[str]) -> str:
    prefixes = report.status.prefixes
    room = f"{report.status.addresses.free} free"
    room += f", {prefixes.whole} whole /28s" if prefixes is not None else ""
    return f"{report.metadata.name}{'' if report.metadata.name in used else ' (same zone)'}: {room}"


def _groups(node: ENINode) -> str:
    groups = sorted({group for each in node.status.interfaces for group in each.security_groups})
    return ", ".join(groups) if groups else "none known yet"
