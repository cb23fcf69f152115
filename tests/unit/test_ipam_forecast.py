from random import Random

import pytest

from enitide_ipam.forecast import FINE_S, HOUR_S, KEEP_S, Point, forecast, level, record, total

pytestmark = pytest.mark.unit
NOW = 1_800_000_000.0


def line(per_hour, hours, start=0, noise=0.0, seed=1):
    rng = Random(seed)
    return tuple(
        Point(NOW - (hours - h / 6) * HOUR_S, round(start + per_hour * h / 6 + rng.uniform(-noise, noise)))
        for h in range(hours * 6 + 1)
    )


def test_steady_growth_is_foretold_to_the_hour_with_high_confidence():
    told = forecast(line(10, 24), 1000, NOW)
    assert told.per_hour == pytest.approx(10, rel=0.05)
    # 240 are used: 760 left at 10 an hour
    assert told.full_at == pytest.approx(NOW + 76 * HOUR_S, rel=0.05 * 76 * HOUR_S / NOW)
    assert told.confidence == "high"
    assert told.earliest <= told.full_at


def test_one_rollout_that_comes_and_goes_is_no_trend():
    steady = [Point(NOW - 24 * HOUR_S, 100), Point(NOW - 5 * HOUR_S, 900), Point(NOW - 4 * HOUR_S, 100)]
    told = forecast(steady, 1000, NOW)
    assert told.per_hour == 0
    assert told.full_at is None


def test_a_step_that_stays_does_not_become_a_slope():
    told = forecast([Point(NOW - 24 * HOUR_S, 100), Point(NOW - 2 * HOUR_S, 300)], 1000, NOW)
    assert told.per_hour == 0


def test_use_that_falls_never_runs_full():
    assert forecast(line(-5, 24, start=500), 1000, NOW).full_at is None


def test_less_than_an_hour_foretells_nothing_and_less_than_six_little():
    assert forecast([Point(NOW - 1800, 10)], 100, NOW).confidence == "none"
    assert forecast((), 100, NOW).confidence == "none"
    assert forecast(line(10, 3), 1000, NOW).confidence == "low"


def test_a_past_that_disagrees_with_itself_has_low_confidence():
    assert forecast(line(0, 24, start=500, noise=50), 1000, NOW).confidence == "low"


def test_a_full_subnet_is_full_now():
    assert forecast(line(10, 24), 240, NOW).full_at == NOW


def test_slow_growth_is_beyond_what_a_day_can_foretell():
    assert forecast(line(1, 24), 60_000, NOW).full_at is None


def test_a_level_that_does_not_change_costs_no_point():
    history = record((), 5, NOW)
    assert record(history, 5, NOW + 9 * HOUR_S) == history


def test_changes_within_ten_minutes_are_one_point():
    history = record((), 5, NOW)
    assert record(history, 6, NOW + FINE_S - 1) == history
    assert record(history, 7, NOW + FINE_S)[-1] == Point(NOW + FINE_S, 7)


def test_a_week_of_changes_fits_into_the_report_and_keeps_its_shape():
    history = ()
    for number in range(14 * 24 * 6):
        history = record(history, number, NOW + number * FINE_S)
    last = NOW + (14 * 24 * 6 - 1) * FINE_S
    assert len(history) <= 256
    assert history[0].at >= last - KEEP_S - HOUR_S
    for age_h in (1, 3, 12, 48, 160):
        at = last - age_h * HOUR_S
        assert abs(level(history, at) - (at - NOW) / FINE_S) <= 7  # an hour's worth at most
    assert forecast(history, 10_000, last).per_hour == pytest.approx(6, rel=0.1)


def test_the_cluster_is_the_sum_from_when_all_are_known():
    one, two = [Point(0, 10), Point(100, 20)], [Point(50, 1), Point(150, 2)]
    assert total([one, two, ()]) == (Point(50, 11), Point(100, 21), Point(150, 22))
