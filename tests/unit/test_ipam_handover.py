"""The hand-over's decisions one by one; their interplay is explored in tests/sim."""

from __future__ import annotations

import pytest
from support.ipam_facts import eni

from enitide_api.resources import Demand, ENINodeStatus, Interface, PoolLevels, Reclaim, ReleasePolicy
from enitide_ipam import handover, tide
from enitide_ipam.handover import Idle
from enitide_ipam.stamps import stamp, unix

pytestmark = pytest.mark.unit

NOW = 1_800_000_000.0
POLICY = ReleasePolicy(delay="180s")
MARKS = tide.levels(Demand(), 0, PoolLevels(pre_allocate=4, max_above_watermark=4))


def ask(provisioned, *, current=None, since=None, now=NOW, policy=POLICY):
    return handover.reclaim(MARKS, provisioned, policy, current=current, since=since, now=now)


def test_an_excess_is_asked_back_once_it_has_lasted():
    assert ask(20, since=NOW - 179) is None
    answer = ask(20, since=NOW - 180)
    assert (answer.count, unix(answer.since)) == (12, NOW)
    assert ask(20, since=None) is None
    assert ask(20, since=NOW - 180, policy=ReleasePolicy(enabled=False)) is None


def test_the_time_of_an_excess_starts_anew_after_a_break():
    assert handover.excess_since(MARKS, 20, None, NOW) == NOW
    assert handover.excess_since(MARKS, 20, NOW - 60, NOW) == NOW - 60
    assert handover.excess_since(MARKS, 8, NOW - 60, NOW) is None


def test_a_standing_reclaim_is_lowered_at_once_and_raised_only_after_the_delay():
    standing = Reclaim(count=12, since=stamp(NOW - 60))
    assert ask(15, current=standing, since=NOW - 999) == Reclaim(count=7, since=standing.since)
    assert ask(8, current=standing, since=NOW - 999) is None
    assert ask(20, current=standing, since=NOW - 999) == standing
    assert ask(30, current=standing, since=NOW - 999) == standing
    old = Reclaim(count=12, since=stamp(NOW - 180))
    assert ask(30, current=old, since=NOW - 999) == Reclaim(count=22, since=stamp(NOW))
    assert ask(20, current=standing, since=NOW - 999, policy=ReleasePolicy(enabled=False)) is None


def published() -> ENINodeStatus:
    return ENINodeStatus(
        interfaces=(
            Interface(id="a", card=0, index=1, addresses=("10.0.0.5", "10.0.0.6"), prefixes=("10.0.0.64/28",)),
            Interface(id="b", card=0, index=2, addresses=("10.0.1.5",)),
        ),
        releasing=("10.0.9.9",),
    )


def wanted(count):
    return Reclaim(count=count, since=stamp(NOW))


def test_yielded_cidrs_move_together_and_the_request_shrinks_by_them():
    move = handover.accept(published(), ["10.0.0.64/28", "10.0.1.5"], wanted(20))
    assert move is not None
    assert move.moved == ("10.0.0.64/28", "10.0.1.5")
    assert move.releasing == ("10.0.9.9", "10.0.0.64/28", "10.0.1.5")
    assert [(each.addresses, each.prefixes) for each in move.interfaces] == [(("10.0.0.5", "10.0.0.6"), ()), ((), ())]
    assert move.reclaim == wanted(3)


def test_what_is_unasked_beyond_the_count_or_unpublished_stays():
    assert handover.accept(published(), ["10.0.0.5"], None) is None
    assert handover.accept(published(), ["10.0.0.64/28"], wanted(15)) is None
    assert handover.accept(published(), ["10.0.7.7", "10.0.9.9"], wanted(9)) is None
    assert handover.accept(published(), ["10.0.0.65"], wanted(9)) is None
    move = handover.accept(published(), ["10.0.0.5", "10.0.0.5", "10.0.0.6"], wanted(1))
    assert move is not None
    assert (move.moved, move.reclaim) == (("10.0.0.5",), None)


def test_a_cidr_with_an_endpoints_address_stays_whatever_the_agent_yields():
    assert handover.accept(published(), ["10.0.0.64/28"], wanted(16), in_use=["10.0.0.70"]) is None
    assert handover.accept(published(), ["10.0.0.5"], wanted(16), in_use=["10.0.0.5", "2001:db8::5"]) is None


def test_unassign_names_what_ec2_still_shows_prefixes_and_singles_apart():
    shown = [eni("e1", index=1, singles=2, prefixes=1), eni("e2", index=2, singles=1)]
    calls = handover.unassign(["10.0.1.5", "10.0.1.64/28", "10.0.2.5", "10.0.9.9"], shown)
    assert [(each.eni_id, each.addresses, each.prefixes) for each in calls] == [
        ("e1", (), ("10.0.1.64/28",)),
        ("e1", ("10.0.1.5",), ()),
        ("e2", ("10.0.2.5",), ()),
    ]


def test_a_releasing_entry_goes_when_ec2_no_longer_shows_it_by_a_reply_or_a_later_read():
    shown = [eni("e1", index=1, singles=1)]
    both = ("10.0.1.5", "10.0.1.6")

    def left(**more):
        return handover.still_releasing(both, shown, accepted_at=100.0, **more)

    assert left(asked_at=None) == both
    assert left(asked_at=99.0) == both
    assert left(asked_at=100.0) == ("10.0.1.5",)
    assert left(asked_at=99.0, unassigned=both) == ("10.0.1.5",)


def test_what_an_unassign_under_way_names_is_releasing_though_its_entry_is_gone():
    shown = [eni("e1", index=1, singles=1)]
    facts = {"asked_at": 200.0, "accepted_at": 100.0}
    assert handover.still_releasing((), shown, called=["10.0.1.5"], **facts) == ("10.0.1.5",)
    assert handover.still_releasing(("10.0.1.6",), shown, called=["10.0.1.6"], **facts) == ("10.0.1.6",)


def test_an_agent_is_silent_when_a_reclaim_or_a_class_stays_unanswered_for_5_minutes():
    status = ENINodeStatus(reclaim=Reclaim(count=3, since=stamp(NOW - 300)))
    assert handover.is_silent(status, None, None, NOW)
    assert handover.is_silent(status, None, NOW - 400, NOW)
    assert not handover.is_silent(status, None, NOW - 200, NOW)
    assert not handover.is_silent(status, None, None, NOW - 1)
    assert handover.is_silent(ENINodeStatus(), NOW - 300, None, NOW)
    assert not handover.is_silent(ENINodeStatus(), None, None, NOW)


def test_silence_is_a_sign_only_of_an_agent_that_has_something_idle_to_yield():
    prefixes = ("10.0.1.0/28", "10.0.2.0/28")
    status = ENINodeStatus(
        interfaces=(Interface(id="a", card=0, index=0, prefixes=prefixes),),
        reclaim=Reclaim(count=22, since=stamp(NOW - 300)),
    )
    two, pods = Demand(in_use=2), ("10.0.1.3", "10.0.2.9")
    assert not handover.has_answer(status, (), two, pods), "each /28 holds a pod"
    assert handover.has_answer(status, (), Demand(in_use=1), pods[:1])
    assert not handover.has_answer(status, prefixes[1:], Demand(in_use=1), pods[:1]), "it has answered"
    assert handover.has_answer(status, (), two, ()), "what is in use is not told: nothing excuses the silence"


def test_the_choice_takes_whole_idle_enis_then_prefixes_then_singles_of_the_emptiest_eni():
    units = [
        Idle("a", "10.0.0.5", 1, 0, True),
        Idle("a", "10.0.0.64/28", 16, 0, True),
        Idle("b", "10.0.1.5", 1, 0, False),
        Idle("b", "10.0.1.6", 1, 1, False),
        Idle("c", "10.0.2.5", 1, 0, False),
        Idle("c", "10.0.2.6", 1, 0, False),
    ]
    assert handover.choose(units, 2) == ("10.0.2.5", "10.0.2.6")
    assert handover.choose(units, 18) == ("10.0.2.5", "10.0.2.6", "10.0.0.64/28")
    assert handover.choose(units, 1) == ("10.0.0.5",)
    assert handover.choose(units, 99) == ("10.0.2.5", "10.0.2.6", "10.0.0.64/28", "10.0.0.5", "10.0.1.5")
    assert handover.choose(units, 0) == ()
