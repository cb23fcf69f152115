"""When a subnet runs full, from how its use went: a robust slope over what is known of the last day. Pure.

Use is a step function: a point says that from then on so many addresses were not free. The slope is Theil and Sen's:
the median over all pairs of moments on an even grid, so that a rollout that comes and goes does not count as a trend;
its quartiles say how much the past agrees with itself. No seasons are modelled: with a full day of history a daily
swing cancels out, with less it does not, and the confidence says so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import quantiles

HOUR_S = 3600.0
WINDOW_S = 24 * HOUR_S
LEAST_S = HOUR_S  # less of the past says nothing
GRID = 48
HORIZON_S = 90 * 24 * HOUR_S  # beyond that a day of history foretells nothing
FINE_S, FINE_FOR_S = 600.0, 6 * HOUR_S
COARSE_S, KEEP_S = HOUR_S, 7 * 24 * HOUR_S


@dataclass(frozen=True, slots=True)
class Point:
    """From `at` on (Unix seconds) `used` addresses were not free."""

    at: float
    used: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """Slopes in addresses an hour: median and quartiles. `full_at`, `earliest`: Unix seconds, None: not in 90 days.

    `confidence`: `none` below an hour of history, `low` below 6 hours or where the quartiles differ in sign, `high`
    with a whole day of history and quartiles within half of the median, `medium` else.
    """

    per_hour: float
    per_hour_low: float
    per_hour_high: float
    full_at: float | None
    earliest: float | None
    confidence: str
    hours: float
    points: int


def record(points: Sequence[Point], used: int, now: float) -> tuple[Point, ...]:
    """The history with what is used now: a point only where use changed, and at most one in ten minutes.

    Older than six hours one an hour is kept, older than a week none but the level that the next one began from.
    """
    if not points:
        return (Point(now, used),)
    last = points[-1]
    if used == last.used or now < last.at + FINE_S:
        return tuple(points)
    return _thinned((*points, Point(now, used)), now)


def _thinned(points: Sequence[Point], now: float) -> tuple[Point, ...]:
    """The last point of each hour of the clock, and every one of the last hours."""
    kept: list[Point] = []
    hour: float | None = None
    for point in reversed(points):
        age_s = now - point.at
        if age_s > KEEP_S and kept:
            kept.append(Point(now - KEEP_S, point.used))
            break
        if age_s <= FINE_FOR_S or point.at // COARSE_S != hour:
            kept.append(point)
        hour = point.at // COARSE_S
    return tuple(reversed(kept))


def forecast(points: Sequence[Point], capacity: int, now: float) -> Forecast:
    """`capacity`: addresses that could ever be used. An empty history is one of no hours."""
    began = max(points[0].at, now - WINDOW_S) if points else now
    span_s = now - began
    hours = span_s / HOUR_S
    recent = sum(point.at > began for point in points)
    if span_s < LEAST_S:
        return Forecast(0.0, 0.0, 0.0, None, None, "none", hours, recent)
    low, middle, high = _slopes(points, began, now)
    left = max(0, capacity - points[-1].used)
    confidence = _confidence(low, middle, high, span_s)
    return Forecast(
        per_hour=middle * HOUR_S,
        per_hour_low=low * HOUR_S,
        per_hour_high=high * HOUR_S,
        full_at=_when(left, middle, now),
        earliest=_when(left, high, now),
        confidence=confidence,
        hours=hours,
        points=recent,
    )


def total(histories: Sequence[Sequence[Point]]) -> tuple[Point, ...]:
    """The histories of several subnets as one: from the moment on at which all of them are known."""
    known = [history for history in histories if history]
    if not known:
        return ()
    began = max(history[0].at for history in known)
    moments = sorted({began, *(point.at for history in known for point in history if point.at > began)})
    return tuple(Point(at, sum(level(history, at) for history in known)) for at in moments)


def level(points: Sequence[Point], at: float) -> int:
    """Addresses used at a moment; before the first point what that one says."""
    index = bisect_right(points, at, key=lambda point: point.at)
    return points[max(0, index - 1)].used


def _slopes(points: Sequence[Point], began: float, now: float) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of all pairs' slopes, in addresses a second."""
    step_s = (now - began) / GRID
    levels = [level(points, began + step_s * number) for number in range(GRID + 1)]
    slopes = [(b - a) / ((j - i) * step_s) for (i, a), (j, b) in combinations(enumerate(levels), 2)]
    low, middle, high = quantiles(slopes, n=4, method="inclusive")
    return low, middle, high


def _when(left: int, slope: float, now: float) -> float | None:
    if left == 0:
        return now
    if slope <= 0 or left / slope > HORIZON_S:
        return None
    return now + left / slope


def _confidence(low: float, middle: float, high: float, span_s: float) -> str:
    if span_s < FINE_FOR_S or low < 0 < high:
        return "low"
    steady = high - low <= abs(middle) / 2
    return "high" if steady and span_s >= WINDOW_S else "medium"
