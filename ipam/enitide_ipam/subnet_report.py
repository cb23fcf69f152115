"""What SubnetReport says of one subnet: pure, so that an unchanged subnet is not written.

Counts come from the subnet as planning sees it (after our own debits), everything else from its /28 map. The forecast
is made anew only where the history has a new point or is an hour longer, or it would change with every second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from enitide_api.reasons import Reason
from enitide_api.resources import Condition
from enitide_api.subnetreport import (
    ClusterUse,
    ForecastStatus,
    PrefixBlocks,
    SubnetAddresses,
    SubnetReportSpec,
    SubnetReportStatus,
    UsePoint,
)
from enitide_ipam import block_text
from enitide_ipam.addresses import parse_cidr
from enitide_ipam.blocks import BlockMap
from enitide_ipam.forecast import HOUR_S, WINDOW_S, Point, forecast, record
from enitide_ipam.model import SubnetView
from enitide_ipam.stamps import stamp, unix

ROOM = "Room"
WHOLE_PREFIXES = "WholePrefixes"
AWS_RESERVES = 5
MOST_CLUSTERS = 64


def report_spec(subnet: SubnetView) -> SubnetReportSpec:
    """Which subnet it is."""
    return SubnetReportSpec(
        vpc_id=subnet.vpc_id, availability_zone=subnet.zone, cidr=subnet.cidr, ipv6_cidr=subnet.ipv6_cidr
    )


def report_status(
    subnet: SubnetView, blocks: BlockMap | None, before: SubnetReportStatus, now: float
) -> SubnetReportStatus:
    """The whole status. `before`: what stands written, whose history goes on."""
    size = 1 << (32 - parse_cidr(subnet.cidr)[1])
    capacity = size - (blocks_closed(blocks) if blocks is not None else AWS_RESERVES)
    free = min(subnet.free, capacity)
    history = record(points(before.history), capacity - free, now)
    written = tuple(UsePoint(at=stamp(each.at), used=each.used) for each in history)
    told = before.forecast
    if told is None or written != before.history or _aged(told, history, now):
        told = forecast_status(history, capacity, now)
    return SubnetReportStatus(
        observed_at=stamp(blocks.asked_at) if blocks is not None else before.observed_at,
        addresses=_addresses(size, free, blocks),
        clusters=_clusters(blocks) if blocks is not None else before.clusters,
        prefixes=_prefixes(blocks) if blocks is not None else before.prefixes,
        map=block_text.write(blocks) if blocks is not None else before.map,
        history=written,
        forecast=told,
        conditions=_conditions(subnet, free, blocks, before.conditions, now),
    )


def forecast_status(history: Sequence[Point], capacity: int, now: float) -> ForecastStatus:
    """A forecast as the report carries it."""
    found = forecast(history, capacity, now)
    return ForecastStatus(
        full_at=stamp(found.full_at) if found.full_at is not None else None,
        earliest=stamp(found.earliest) if found.earliest is not None else None,
        per_hour=round(found.per_hour, 2),
        per_hour_low=round(found.per_hour_low, 2),
        per_hour_high=round(found.per_hour_high, 2),
        confidence=found.confidence,
        hours=round(found.hours, 1),
        points=found.points,
    )


def _aged(told: ForecastStatus, history: Sequence[Point], now: float) -> bool:
    """Whether so much more of the past is known that a forecast without a new point would differ."""
    known_s = min(WINDOW_S, now - history[0].at)
    return known_s - told.hours * HOUR_S >= HOUR_S


def points(history: Iterable[UsePoint]) -> tuple[Point, ...]:
    """A report's history for computing."""
    return tuple(Point(unix(each.at), each.used) for each in history)


def changed_parts(before: SubnetReportStatus, after: SubnetReportStatus) -> dict[str, object]:
    """The fields of a merge patch's `status` that differ, by wire name; empty: nothing to write."""
    parts: dict[str, object] = {}
    for field in msgspec.structs.fields(SubnetReportStatus):
        new = getattr(after, field.name)
        if new != getattr(before, field.name):
            parts[field.encode_name] = msgspec.to_builtins(new)
    return parts


def blocks_closed(blocks: BlockMap) -> int:
    """Addresses that nobody can have: AWS's own and explicit reservations."""
    return sum(word.bit_count() for word in blocks.closed)


def _addresses(size: int, free: int, blocks: BlockMap | None) -> SubnetAddresses:
    if blocks is None:
        return SubnetAddresses(total=size, free=free)
    others = sum(blocks.clusters.values())
    foreign = sum(word.bit_count() for word in blocks.foreign)
    return SubnetAddresses(
        total=size,
        free=free,
        ours=sum(word.bit_count() for word in blocks.own),
        other_clusters=others,
        foreign=max(0, foreign - others),
        reserved=blocks_closed(blocks),
    )


def _clusters(blocks: BlockMap) -> tuple[ClusterUse, ...]:
    largest = sorted(blocks.clusters.items(), key=lambda each: (-each[1], each[0]))[:MOST_CLUSTERS]
    return tuple(ClusterUse(name=name, addresses=count) for name, count in largest)


def _prefixes(blocks: BlockMap) -> PrefixBlocks:
    total, broken = len(blocks.own), len(blocks.broken)
    return PrefixBlocks(total=total, whole=blocks.whole, broken=broken, full=total - blocks.whole - broken)


def _conditions(
    subnet: SubnetView, free: int, blocks: BlockMap | None, before: Iterable[Condition], now: float
) -> tuple[Condition, ...]:
    known = {each.type: each for each in before}
    found = [_condition(ROOM, free > 0, Reason.SUBNET_EXHAUSTED, f"no free address in {subnet.cidr}")]
    whole = blocks.whole if blocks is not None else subnet.whole_prefixes
    if whole is not None:
        found.append(_condition(WHOLE_PREFIXES, whole > 0, Reason.NO_WHOLE_PREFIX, f"no whole /28 in {subnet.cidr}"))
    return tuple(_stamped(each, known.get(each.type), now) for each in found)


def _condition(kind: str, holds: bool, reason: Reason, sentence: str) -> Condition:
    if holds:
        return Condition(type=kind, status="True", reason=Reason.ROOM_LEFT, message="", last_transition_time="")
    return Condition(type=kind, status="False", reason=reason, message=sentence, last_transition_time="")


def _stamped(wanted: Condition, before: Condition | None, now: float) -> Condition:
    kept = before is not None and before.status == wanted.status
    moment = before.last_transition_time if kept and before is not None else stamp(now)
    return msgspec.structs.replace(wanted, last_transition_time=moment)
