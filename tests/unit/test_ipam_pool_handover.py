"""What the agent's pool yields when the operator asks for addresses, and when it uses one again."""

from __future__ import annotations

import pytest
from support.pool_facts import POD, asked, give, interface, pod, pool_with, status

from enitide_ipam.addresses import parse, text
from enitide_ipam.pool import Grant, Refusal
from enitide_ipam.records import Held, Yielded

pytestmark = pytest.mark.unit


def test_a_reclaim_is_answered_by_a_whole_idle_eni_then_prefixes_then_singles():
    shown = (interface(0, singles=3, prefixes=1), interface(1, singles=2), interface(2, singles=1, prefixes=1))
    pool = pool_with(*shown)
    busy = parse("10.0.2.64")
    pool.ledger.apply(Held(text(busy), "eni-2", "", "c/eth0", POD, True, 0.0))
    pool.stock.take(busy)
    pool.apply_status(asked(20, *shown), "2", 0.0)
    (record,) = pool.answer_reclaim()
    assert isinstance(record, Yielded)
    assert record.cidrs == ("10.0.1.5", "10.0.1.6", "10.0.0.64/28", "10.0.0.5", "10.0.0.6")
    assert pool.yielded() == record.cidrs


def test_what_is_yielded_is_not_given_and_the_answer_is_stable():
    shown = interface(1, singles=3)
    pool = pool_with(shown)
    pool.apply_status(asked(2, shown), "2", 0.0)
    pool.answer_reclaim()
    assert pool.answer_reclaim() == ()
    assert give(pool, "c1/eth0") not in pool.yielded()
    assert isinstance(pool.allocate("c2/eth0", pod(2), 0.0), Refusal)


def test_held_and_cooling_addresses_are_never_yielded():
    shown = interface(1, singles=2)
    pool = pool_with(shown)
    give(pool, "c1/eth0")
    give(pool, "c2/eth0", pod(2))
    pool.release("c1/eth0", 0.0)
    pool.apply_status(asked(2, shown), "2", 1.0)
    assert pool.answer_reclaim() == ()


def test_a_withdrawn_address_is_used_again_only_after_the_reply_to_the_write():
    shown = interface(1, singles=1)
    pool = pool_with(shown)
    pool.apply_status(asked(1, shown), "2", 0.0)
    pool.answer_reclaim()
    pool.apply_status(asked(0, shown), "3", 1.0)
    assert pool.yielded() == ()
    assert pool.out_of_use() == ("10.0.1.5",)
    assert isinstance(pool.allocate("c1/eth0", POD, 1.0), Refusal)
    assert pool.yielded_written((), asked(0, shown), "4", 2.0) == (Yielded((), "4"),)
    assert give(pool, "c1/eth0", POD, 2.0) == "10.0.1.5"


def test_a_withdrawn_address_that_has_left_meanwhile_is_not_used():
    shown = interface(1, singles=1)
    pool = pool_with(shown)
    pool.apply_status(asked(1, shown), "2", 0.0)
    pool.answer_reclaim()
    pool.yielded_written((), asked(0), "4", 2.0)
    assert isinstance(pool.allocate("c1/eth0", POD, 2.0), Refusal)


def test_an_address_that_left_and_came_back_stays_out_of_use_until_spec_no_longer_lists_it():
    shown = interface(1, singles=1)
    pool = pool_with(shown)
    pool.apply_status(asked(1, shown), "2", 0.0)
    pool.answer_reclaim()
    pool.apply_status(asked(0), "3", 1.0)
    pool.apply_status(asked(0, shown), "4", 2.0)
    assert isinstance(pool.allocate("c1/eth0", POD, 2.0), Refusal)
    pool.yielded_written((), asked(0, shown), "5", 3.0)
    assert isinstance(pool.allocate("c1/eth0", POD, 3.0), Grant)


def test_at_start_what_our_own_spec_yields_is_out_of_use_without_a_journal():
    pool = pool_with(interface(1, singles=1))
    assert pool.adopt_yielded(["10.0.1.5"], "1") == (Yielded(("10.0.1.5",), "1"),)
    assert isinstance(pool.allocate("c1/eth0", POD, 0.0), Refusal)


def test_a_held_address_in_a_cidr_taken_back_stays_held():
    shown = interface(1, prefixes=1)
    pool = pool_with(shown)
    address = give(pool, "c1/eth0")
    pool.adopt_yielded(["10.0.1.64/28"], "1")
    assert isinstance(pool.allocate("c2/eth0", pod(2), 0.0), Refusal)
    pool.apply_status(status(shown), "2", 0.0, listed=())
    others = [give(pool, f"c{each}/eth0", pod(each)) for each in range(3, 18)]
    assert address not in others
    assert isinstance(pool.allocate("c99/eth0", pod(99), 0.0), Refusal)


def test_a_choice_that_was_withdrawn_before_it_was_written_is_used_again():
    shown = interface(1, singles=1)
    pool = pool_with(shown)
    pool.apply_status(asked(1, shown), "2", 0.0, listed=())
    pool.answer_reclaim()
    assert pool.out_of_use() == ("10.0.1.5",)
    pool.apply_status(asked(1, shown), "3", 0.0, listed=())
    assert pool.out_of_use() == ("10.0.1.5",)
    pool.apply_status(asked(0, shown), "4", 0.0, listed=())
    assert isinstance(pool.allocate("c1/eth0", POD, 0.0), Grant)


def test_an_own_address_that_serves_no_pods_is_no_answer_to_a_request_once_its_eni_stays():
    """Found as an interleaving: it stood for the one address asked for, and none was ever given back."""
    pool = pool_with(interface(1, singles=1, draining=True, ours=True))
    pool.answer_reclaim()
    assert pool.yielded() == ("10.0.1.5", "10.0.1.4")
    stays = asked(1, interface(1, addresses=("10.0.1.6",), ours=True))
    pool.apply_status(stays, "2", 0.0, listed=("10.0.1.5", "10.0.1.4"))
    pool.answer_reclaim()
    assert pool.yielded() == ("10.0.1.6",)
