"""The release hand-over as pure decisions, for both sides. No address leaves a node while a pod may hold it.

Operator: asks (`reclaim`), moves what was yielded out of `interfaces` (`accept`: only to be written with the
resourceVersion it was read at), then unassigns (`unassign`), then forgets (`still_releasing`). Agent: chooses what to
yield (`choose`), journals it, and keeps it out of use until a version of the object comes in which the operator does
not ask for it and spec.yielded does not list it: its own writes of spec.yielded carry the resourceVersion they rest on,
so none that lists it can come true after that. Not earlier even for what has left: EC2 may give the same address again,
and a stale entry in spec.yielded would then take it from a pod.

Of an ENI that is `draining` everything idle is asked for, whatever the count; `retiring` says when that is so.

`tests/sim/test_handover_model.py` explores every interleaving.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from enitide_api.durations import seconds
from enitide_api.resources import Demand, ENINodeStatus, Interface, Reclaim, ReleasePolicy
from enitide_ipam.addresses import expand, is_prefix, parse, size, text
from enitide_ipam.model import EniView, Unassign
from enitide_ipam.stamps import stamp, unix
from enitide_ipam.tide import Levels, excess, give_back

SILENT_AFTER_S = 300.0


# --- operator --------------------------------------------------------------------------------------------------------


def excess_since(marks: Levels, provisioned: int, before: float | None, now: float) -> float | None:
    """Since when there is an excess without a break: keep it in the snapshot."""
    if not excess(marks, provisioned):
        return None
    return now if before is None else before


def reclaim(
    marks: Levels,
    provisioned: int,
    policy: ReleasePolicy,
    *,
    current: Reclaim | None,
    since: float | None,
    now: float,
) -> Reclaim | None:
    """What status.reclaim should say.

    Set, or raised, once the excess (or the standing request) has lasted release.delay; lowered or withdrawn (None) at
    once. `provisioned` includes what is yielded but not yet moved; `since` is from `excess_since`.
    """
    count = give_back(marks, provisioned)
    if not policy.enabled or not count:
        return None
    delay_s = seconds(policy.delay)
    standing = current if current is not None and current.count > 0 else None
    if standing is None:
        lasted = since is not None and now - since >= delay_s
        return Reclaim(count=count, since=stamp(now)) if lasted else None
    if count < standing.count:
        return Reclaim(count=count, since=standing.since)
    if count > standing.count and now - unix(standing.since) >= delay_s:
        return Reclaim(count=count, since=stamp(now))
    return standing


@dataclass(frozen=True, slots=True)
class Accepted:
    """The status after moving what was yielded. Write all of it in ONE patch that carries the version.

    `moved`: CIDRs that went to `releasing`; `dropped`: ids of ENIs that are not published any more.
    """

    interfaces: tuple[Interface, ...]
    releasing: tuple[str, ...]
    removing: tuple[str, ...]
    reclaim: Reclaim | None
    moved: tuple[str, ...]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """ENI ids: those that may go as a whole when idle, and those of which EC2 must be asked nothing."""

    removable: Collection[str] = frozenset()
    untouched: Collection[str] = frozenset()


def accept(
    status: ENINodeStatus,
    yielded: Sequence[str],
    wanted: Reclaim | None,
    in_use: Collection[str] = (),
    bounds: Bounds = Bounds(),  # frozen
) -> Accepted | None:
    """What of the yielded to take out of `interfaces`, None for nothing.

    Published CIDRs up to `wanted.count` addresses (as just decided by `reclaim`), in the agent's order; without count
    those of draining ENIs; and draining ENIs as a whole. What is unasked, beyond the count, or holds an address of a
    reported endpoint (`in_use`) stays.
    """
    if not yielded:
        return None
    busy = frozenset(in_use)  # as texts: what an agent writes is not parsed, only compared
    known = {cidr for each in status.interfaces for cidr in (*cidrs(each), each.primary)}
    idle = tuple(cidr for cidr in dict.fromkeys(yielded) if cidr in known and not _holds(cidr, busy))
    gone = tuple(each for each in status.interfaces if _goes_whole(each, idle, busy))
    left = max(0, (wanted.count if wanted is not None else 0) - sum(_serves(each, status) for each in gone))
    by_themselves = {*bounds.removable, *bounds.untouched}
    unassigned = {cidr for each in gone if each.id not in by_themselves for cidr in cidrs(each)}
    rest = [each for each in status.interfaces if each not in gone]
    draining = {cidr for each in rest if each.draining and each.id not in bounds.untouched for cidr in cidrs(each)}
    counted = {cidr for each in rest if not each.draining for cidr in cidrs(each)}
    moved: list[str] = []
    for cidr in idle:
        if cidr in unassigned or cidr in draining:
            moved.append(cidr)
        elif cidr in counted and size(cidr) <= left:
            moved.append(cidr)
            left -= size(cidr)
    if not moved and not gone:
        return None
    remaining = Reclaim(count=left, since=wanted.since) if wanted is not None and left else None
    return Accepted(
        interfaces=tuple(without(each, moved) for each in rest),
        releasing=(*status.releasing, *moved),
        removing=(*status.removing, *(each.id for each in gone if each.id in bounds.removable)),
        reclaim=remaining,
        moved=tuple(moved),
        dropped=tuple(each.id for each in gone),
    )


def cidrs(interface: Interface) -> tuple[str, ...]:
    """All that an interface holds for pods, without its own address."""
    return (*interface.addresses, *interface.prefixes)


def _holds(cidr: str, busy: Collection[str]) -> bool:
    return any(text(address) in busy for address in expand(cidr))


def _goes_whole(interface: Interface, idle: Collection[str], busy: Collection[str]) -> bool:
    """Draining, and the agent has said of everything on it, its own address included, that nothing uses it."""
    if not interface.draining or interface.primary not in idle or interface.primary in busy:
        return False
    return all(cidr in idle for cidr in cidrs(interface))


def _serves(interface: Interface, status: ENINodeStatus) -> bool:
    """Whether its own address counts among those for pods."""
    use_primary = status.class_ is not None and status.class_.use_primary_address
    return use_primary and (interface.card, interface.index) != (0, 0)


def without(interface: Interface, cidrs: Collection[str]) -> Interface:
    """An interface without some of its addresses and prefixes."""
    return msgspec.structs.replace(
        interface,
        addresses=tuple(each for each in interface.addresses if each not in cidrs),
        prefixes=tuple(each for each in interface.prefixes if each not in cidrs),
    )


def unassign(releasing: Iterable[str], enis: Iterable[EniView]) -> tuple[Unassign, ...]:
    """The calls for what stands in the ACCEPTED status.releasing and EC2 still shows; prefixes and singles apart.

    `releasing` must come from a reply to our own write or from a read that no cache answered: an old view of it may
    name an address that has since left, come back and gone to a pod.
    """
    leaving = frozenset(releasing)
    why = "yielded by the agent and no longer published"
    calls: list[Unassign] = []
    for eni in sorted(enis, key=lambda each: each.id):
        prefixes = tuple(each for each in eni.prefixes if each in leaving)
        addresses = tuple(each for each in eni.addresses if each in leaving)
        if prefixes:
            calls.append(Unassign(eni.id, (), prefixes, why))
        if addresses:
            calls.append(Unassign(eni.id, addresses, (), why))
    return tuple(calls)


def still_releasing(
    releasing: Iterable[str],
    enis: Iterable[EniView],
    *,
    asked_at: float | None,
    accepted_at: float,
    unassigned: Collection[str] = (),
    called: Iterable[str] = (),
) -> tuple[str, ...]:
    """What stays in status.releasing, and what an Unassign names that is under way (`called`), whatever stands there.

    A CIDR leaves once EC2 does not show it any more, by an Unassign reply (`unassigned`) or by a read asked for after
    `accepted_at`: when the move was accepted, or the start of this process for what stood there before it, or
    one call time-out after an Unassign with unknown outcome was sent: a call under way must not outlive the entry.
    """
    shown = {cidr for eni in enis for cidr in (*eni.addresses, *eni.prefixes)}
    known = asked_at is not None and asked_at >= accepted_at
    left = [cidr for cidr in releasing if cidr in shown or not (known or cidr in unassigned)]
    return tuple(dict.fromkeys((*left, *called)))


def is_silent(status: ENINodeStatus, class_changed_at: float | None, agent_wrote_at: float | None, now: float) -> bool:
    """`AgentSilent`: a reclaim or a changed class unanswered for 5 minutes; any write of the agent is an answer."""
    asked = [class_changed_at] if class_changed_at is not None else []
    if status.reclaim is not None and status.reclaim.count > 0:
        asked.append(unix(status.reclaim.since))
    return any(
        now - moment >= SILENT_AFTER_S and (agent_wrote_at is None or agent_wrote_at < moment) for moment in asked
    )


def has_answer(status: ENINodeStatus, yielded: Collection[str], demand: Demand, in_use: Collection[str]) -> bool:
    """Whether the agent has something idle to yield for the standing reclaim: without it, silence is no sign.

    With prefixes an excess may stand in /28s that each hold a pod. `in_use`: addresses of reported endpoints; True
    where they do not tell of all that is in use.
    """
    busy = frozenset(in_use)
    if demand.in_use > len(busy):
        return True
    published = [cidr for each in status.interfaces if not each.draining for cidr in cidrs(each)]
    own = [each.primary for each in status.interfaces if not each.draining and each.ours]
    asked = status.reclaim.count if status.reclaim is not None else 0
    missing = asked - sum(size(cidr) for cidr in (*published, *own) if cidr in yielded)
    return any(
        cidr not in yielded and size(cidr) <= missing and not any(text(each) in busy for each in expand(cidr))
        for cidr in published
    )


# --- agent -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Idle:
    """One CIDR of the pool as the choice sees it: `busy` addresses are held, reserved or cooling.

    `first`: of the ENI at card 0, index 0, which never goes as a whole. `own`: the ENI's own address, which goes only
    with the whole ENI; its `busy` counts all that is used on the ENI. `draining`: the ENI is wanted out of use.
    """

    eni_id: str
    cidr: str
    size: int
    busy: int
    first: bool
    own: bool = False
    draining: bool = False


def drained(units: Iterable[Idle]) -> tuple[str, ...]:
    """CIDRs to yield of draining ENIs, whatever the count: all that is idle, own addresses last."""
    idle = [each for each in units if each.draining and not each.busy]
    return tuple(each.cidr for each in sorted(idle, key=lambda each: (each.own, each.eni_id)))


def choose(units: Iterable[Idle], count: int) -> tuple[str, ...]:
    """CIDRs to yield, together at most `count` addresses: whole idle ENIs, then whole prefixes, then singles.

    Largest idle ENI that fits first; then from the ENI with least in use, so that it comes free next.
    """
    by_eni: dict[str, list[Idle]] = {}
    for unit in sorted(units, key=lambda each: (each.eni_id, each.own, parse(each.cidr.partition("/")[0]))):
        if not unit.draining:
            by_eni.setdefault(unit.eni_id, []).append(unit)
    chosen: list[str] = []
    for eni_id in sorted(by_eni, key=lambda each: (-_total(by_eni[each]), each)):
        members = by_eni[eni_id]
        if not any(each.busy or each.first for each in members) and _total(members) <= count:
            chosen += [each.cidr for each in members]
            count -= _total(members)
    taken = set(chosen)
    for prefixes in (True, False):
        for eni_id in sorted(by_eni, key=lambda each: (sum(unit.busy for unit in by_eni[each]), each)):
            for unit in by_eni[eni_id]:
                fits = is_prefix(unit.cidr) is prefixes and unit.size <= count
                if fits and not unit.busy and not unit.own and unit.cidr not in taken:
                    chosen.append(unit.cidr)
                    count -= unit.size
    return tuple(chosen)


def _total(units: Iterable[Idle]) -> int:
    return sum(unit.size for unit in units)
