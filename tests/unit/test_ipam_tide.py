"""The tide over its whole small state space."""

from __future__ import annotations

import itertools

import pytest

from enitide_api.resources import Demand, PoolLevels
from enitide_ipam import tide
from enitide_ipam.tide import Levels

pytestmark = pytest.mark.unit

DEMANDS = [
    (Demand(in_use=used, cooling=cooling, waiting=waiting), bound)
    for used in (0, 1, 4, 7)
    for cooling in (0, 2)
    for waiting in (0, 3)
    for bound in (0, 6, 12)
]
POOLS = [
    PoolLevels(pre_allocate=pre, min_allocate=least, max_allocate=most, max_above_watermark=above)
    for pre in (0, 1, 4)
    for least in (0, 8)
    for most in (None, 3, 9, 20)
    for above in (0, 1, 4)
]
PROVISIONED = range(0, 44, 1)


def every_state(*, prefix_delegation: bool):
    """Marks, provisioned and free slots: demand x class x what is there."""
    seen: set[Levels] = set()
    for (demand, bound), pool in itertools.product(DEMANDS, POOLS):
        seen.add(tide.levels(demand, bound, pool, prefix_delegation=prefix_delegation))
    for marks in sorted(seen, key=repr):
        for provisioned in PROVISIONED:
            yield marks, provisioned


def taken_with_prefixes(marks: Levels, provisioned: int, slots: int) -> int:
    """What a planner gets when every subnet has whole /28s: rounded up as allowed, within the slots."""
    count = tide.take(marks, provisioned, 16 * slots)
    whole, singles = tide.prefixes_and_singles(count, provisioned, marks.maximum)
    whole = min(whole, slots)
    return 16 * whole + min(singles, slots - whole)


def test_after_taking_nothing_is_given_back_and_nothing_more_is_taken():
    for marks, provisioned in every_state(prefix_delegation=False):
        for room in (0, 1, 5, 64):
            taken = tide.take(marks, provisioned, room)
            if taken:
                after = provisioned + taken
                assert not tide.give_back(marks, after), (marks, provisioned, room)
                assert not tide.take(marks, after, room - taken), (marks, provisioned, room)


def test_after_taking_prefixes_nothing_is_given_back():
    for marks, provisioned in every_state(prefix_delegation=True):
        for slots in (1, 2, 8):
            taken = taken_with_prefixes(marks, provisioned, slots)
            if taken:
                assert not tide.give_back(marks, provisioned + taken), (marks, provisioned, slots)


def test_after_giving_back_nothing_is_taken_and_nothing_more_is_given():
    for delegation in (False, True):
        for marks, provisioned in every_state(prefix_delegation=delegation):
            asked = tide.give_back(marks, provisioned)
            # whole prefixes only, or anything down to the mark: every partial answer must be stable too
            for given in {asked, asked - asked % 16} - {0}:
                after = provisioned - given
                assert not tide.take(marks, after, 64), (marks, provisioned, given)
            if asked:
                assert not tide.give_back(marks, provisioned - asked)


def test_what_is_held_or_cools_is_never_asked_back():
    for marks, provisioned in every_state(prefix_delegation=False):
        asked = tide.give_back(marks, provisioned)
        assert not asked or provisioned - asked >= min(marks.held, provisioned)


def test_nothing_is_taken_beyond_max_allocate_or_beyond_the_free_slots():
    for marks, provisioned in every_state(prefix_delegation=False):
        for room in (0, 2, 7):
            taken = tide.take(marks, provisioned, room)
            assert taken <= room
            if marks.maximum is not None and taken:
                assert provisioned + taken <= marks.maximum


def test_rounding_up_to_a_prefix_never_passes_max_allocate():
    for marks, provisioned in every_state(prefix_delegation=True):
        if marks.maximum is None:
            continue
        taken = taken_with_prefixes(marks, provisioned, 8)
        assert not taken or provisioned + taken <= marks.maximum


def test_deficit_is_low_minus_provisioned_and_zero_at_capacity():
    marks = tide.levels(Demand(in_use=6, cooling=1, waiting=2), 0, PoolLevels(pre_allocate=4))
    assert (marks.low, marks.high) == (11, 15)
    assert tide.needed(marks, 8, 5) == 3
    assert tide.needed(marks, 8, 0) == 0
    assert tide.at_capacity(marks, 8, 0)
    assert not tide.at_capacity(marks, 11, 0)


def test_pods_are_a_maximum_never_a_sum():
    pool = PoolLevels(pre_allocate=0, max_above_watermark=0)
    assert tide.levels(Demand(in_use=5, waiting=3), 8, pool).low == 8
    assert tide.levels(Demand(in_use=5, waiting=3), 9, pool).low == 9


def test_max_allocate_below_pre_allocate_caps():
    marks = tide.levels(Demand(), 0, PoolLevels(pre_allocate=8, max_allocate=3))
    assert tide.take(marks, 0, 50) == 3
    assert tide.at_capacity(marks, 3, 50)


def test_lowering_max_allocate_gives_back_free_addresses_only():
    marks = tide.levels(Demand(in_use=10, cooling=1), 0, PoolLevels(pre_allocate=4, max_allocate=6))
    assert tide.give_back(marks, 18) == 7
    assert tide.take(marks, 11, 50) == 0


def test_excess_is_reported_beyond_high_and_slack():
    pool = PoolLevels(pre_allocate=4, max_above_watermark=4)
    assert tide.excess(tide.levels(Demand(), 0, pool), 10) == 2
    assert tide.excess(tide.levels(Demand(), 0, pool, prefix_delegation=True), 23) == 0
    assert tide.excess(tide.levels(Demand(), 0, pool, prefix_delegation=True), 24) == 1


@pytest.mark.parametrize(
    ("count", "provisioned", "maximum", "expected"),
    [
        (16, 0, None, (1, 0)),
        (17, 0, None, (2, 0)),
        (17, 0, 32, (2, 0)),
        (17, 0, 31, (1, 1)),
        (4, 0, 10, (0, 4)),
        (4, 0, None, (1, 0)),
    ],
)
def test_prefixes_are_rounded_up_unless_that_passes_the_maximum(count, provisioned, maximum, expected):
    assert tide.prefixes_and_singles(count, provisioned, maximum) == expected
