"""The agent's pool: two phases of an ADD, cool-down, reservations, demand."""

from __future__ import annotations

import pytest
from support.pool_facts import POD, give, interface, pod, pool_with, refused, states, status

from enitide_api.reasons import Reason
from enitide_api.resources import (
    ClassStatus,
)
from enitide_ipam.pool import Grant, Pool, Refusal
from enitide_ipam.records import PodRef

pytestmark = pytest.mark.unit


# --- two phases, owners, tombstones ---


def test_an_add_is_idempotent_per_owner():
    pool = pool_with(interface(singles=3))
    first = pool.allocate("c1/eth0", POD, 0.0)
    again = pool.allocate("c1/eth0", POD, 1.0)
    assert isinstance(first, Grant)
    assert isinstance(again, Grant)
    assert again.again
    assert not again.records
    assert again.allocation == first.allocation


def test_two_interfaces_of_a_container_are_two_owners():
    pool = pool_with(interface(singles=3))
    assert give(pool, "c1/eth0") != give(pool, "c1/eth1")


def test_confirm_says_in_use_and_abort_gives_back_to_the_reservation():
    pool = pool_with(interface(singles=3))
    address = give(pool, "c1/eth0")
    assert states(pool)[address] == "claimed"
    assert pool.unconfirmed() == ("c1/eth0",)
    pool.confirm("c1/eth0", 1.0)
    assert states(pool)[address] == "in-use"
    assert pool.confirm("c1/eth0", 2.0) == ()
    other = give(pool, "c2/eth0", pod(2))
    pool.abort("c2/eth0", 3.0)
    assert states(pool)[other] == "reserved"
    assert give(pool, "c3/eth0", pod(2), 4.0) == other


def test_an_aborted_container_that_is_no_pod_leaves_its_address_to_cool():
    pool = pool_with(interface(singles=3))
    address = give(pool, "c1/eth0", PodRef())
    pool.abort("c1/eth0", 1.0)
    assert states(pool)[address] == "cooling"
    assert give(pool, "c1/eth0", PodRef(), 2.0) != address


def test_a_del_before_its_add_makes_the_add_fail_for_good():
    pool = pool_with(interface(singles=3))
    assert pool.release("c1/eth0", 0.0)
    answer = refused(pool.allocate("c1/eth0", POD, 18.0))
    assert (answer.reason, answer.retry) == (Reason.POD_DELETED, False)


def test_a_container_id_may_be_used_again_by_an_add_that_began_well_after_its_del():
    pool = pool_with(interface(singles=3))
    give(pool, "c1/eth0")
    pool.confirm("c1/eth0", 0.0)
    pool.release("c1/eth0", 10.0)
    for began in (None, 9.0, 39.9):
        assert refused(pool.allocate("c1/eth0", POD, 41.0, began=began)).reason is Reason.POD_DELETED
    assert isinstance(pool.allocate("c1/eth0", POD, 41.0, began=40.0), Grant)
    pool.confirm("c1/eth0", 41.0)
    pool.release("c1/eth0", 42.0)
    assert isinstance(pool.allocate("c1/eth0", POD, 60.0, began=59.0), Refusal), "the newest DEL counts"


def test_a_container_deleted_before_any_answer_stays_deleted_also_after_a_restart():
    pool = pool_with(interface(singles=3))
    pool.release("c1/eth0", 10.0)
    give(pool, "c2/eth0", pod(2), 10.0)
    pool.confirm("c2/eth0", 10.0)
    pool.release("c2/eth0", 10.0)
    again = Pool("i-1")
    again.restore(pool.records(50.0), 50.0)
    again.set_ready(["eni-0"])
    assert isinstance(again.allocate("c1/eth0", POD, 60.0, began=59.0), Refusal)
    assert isinstance(again.allocate("c2/eth0", pod(2), 60.0, began=59.0), Grant)


def test_a_del_between_the_phases_refuses_the_confirmation():
    pool = pool_with(interface(singles=3))
    address = give(pool, "c1/eth0")
    pool.release("c1/eth0", 1.0)
    assert refused(pool.confirm("c1/eth0", 2.0)).reason is Reason.POD_DELETED
    assert states(pool)[address] == "cooling"


def test_del_is_idempotent_and_records_nothing_the_second_time():
    pool = pool_with(interface(singles=3))
    give(pool, "c1/eth0")
    assert len(pool.release("c1/eth0", 1.0)) == 1
    assert pool.release("c1/eth0", 2.0) == ()
    assert pool.demand(2.0).in_use == 0


def test_tombstones_are_bounded_in_time_and_number():
    pool = pool_with(interface(singles=3))
    for number in range(5000):
        pool.release(f"c{number}/eth0", 0.0)
    assert len(pool.ledger.tombstones) == 4096
    assert isinstance(pool.allocate("c4999/eth0", POD, 601.0), Grant)
    assert not pool.ledger.tombstones


# --- cool-down ---


def test_a_freed_address_is_not_given_again_for_the_cool_down():
    pool = pool_with(interface(singles=1))
    address = give(pool, "c1/eth0")
    pool.release("c1/eth0", 10.0)
    assert pool.demand(10.0).cooling == 1
    assert isinstance(pool.allocate("c2/eth0", pod(2), 39.9), Refusal)
    assert give(pool, "c2/eth0", pod(2), 40.0) == address


def test_the_cool_down_follows_the_class_live():
    pool = pool_with(interface(singles=1))
    give(pool, "c1/eth0")
    pool.release("c1/eth0", 10.0)
    pool.apply_status(status(interface(singles=1), class_=ClassStatus(cooldown="10s")), "2", 11.0)
    assert isinstance(pool.allocate("c2/eth0", pod(2), 20.0), Grant)


def test_at_capacity_with_pods_waiting_the_address_that_cooled_longest_is_reused_after_5_seconds():
    pool = pool_with(interface(singles=2), slots=2, used=2)
    first, second = give(pool, "c1/eth0"), give(pool, "c2/eth0", pod(2))
    pool.release("c2/eth0", 9.0)
    pool.release("c1/eth0", 10.0)
    assert isinstance(pool.allocate("c3/eth0", pod(3), 13.9), Refusal)
    assert give(pool, "c3/eth0", pod(3), 14.0) == second
    assert give(pool, "c4/eth0", pod(4), 15.0) == first


def test_below_capacity_nothing_is_reused_before_its_cool_down():
    pool = pool_with(interface(singles=1), slots=9, used=1)
    give(pool, "c1/eth0")
    pool.release("c1/eth0", 0.0)
    assert isinstance(pool.allocate("c2/eth0", pod(2), 29.0), Refusal)


# --- reservations ---


def test_a_bound_pod_gets_the_address_that_was_reserved_for_it():
    pool = pool_with(interface(singles=3))
    grant = pool.reserve(POD, 0.0)
    assert isinstance(grant, Grant)
    assert pool.demand(0.0).in_use == 1
    assert pool.endpoints()[0].pod_uid == "uid-0"
    assert give(pool, "c9/eth0", pod(9)) != grant.allocation.address
    assert give(pool, "c1/eth0") == grant.allocation.address
    assert pool.demand(0.0).in_use == 2


def test_a_runtime_that_does_not_say_the_uid_still_finds_the_reservation():
    pool = pool_with(interface(singles=3))
    grant = pool.reserve(POD, 0.0)
    assert isinstance(grant, Grant)
    assert give(pool, "c1/eth0", PodRef("default", "web-0")) == grant.allocation.address
    assert pool.endpoints()[0].pod_uid == "uid-0"


def test_a_pod_of_the_same_name_with_another_uid_does_not_inherit_a_reservation():
    pool = pool_with(interface(singles=3))
    grant = pool.reserve(POD, 0.0)
    assert isinstance(grant, Grant)
    assert give(pool, "c1/eth0", PodRef("default", "web-0", "uid-new")) != grant.allocation.address


def test_reserving_twice_is_one_reservation_and_a_gone_pod_frees_it_at_once():
    pool = pool_with(interface(singles=1))
    pool.reserve(POD, 0.0)
    again = pool.reserve(POD, 1.0)
    assert isinstance(again, Grant)
    assert again.again
    assert pool.reserved() == (POD,)
    assert len(pool.unreserve("uid-0", 2.0)) == 1
    assert isinstance(pool.reserve(pod(2), 2.0), Grant)


def test_a_pod_that_holds_an_address_is_not_reserved_another():
    pool = pool_with(interface(singles=3))
    give(pool, "c1/eth0")
    answer = pool.reserve(POD, 1.0)
    assert isinstance(answer, Grant)
    assert answer.again
    assert pool.unreserve("uid-0", 1.0) == ()


# --- demand ---


def test_waiting_counts_pods_by_uid_for_two_minutes_and_stops_with_the_address():
    pool = pool_with(interface(singles=1))
    give(pool, "c0/eth0")
    for attempt in range(3):
        assert isinstance(pool.allocate(f"c1-{attempt}/eth0", pod(1), float(attempt)), Refusal)
    assert pool.demand(2.0).waiting == 1
    assert pool.demand(121.9).waiting == 1
    assert pool.demand(122.0).waiting == 0
    assert isinstance(pool.allocate("c2/eth0", pod(2), 130.0), Refusal)
    pool.apply_status(status(interface(singles=2)), "2", 131.0)
    give(pool, "c2/eth0", pod(2), 131.0)
    assert (pool.demand(131.0).waiting, pool.demand(131.0).in_use) == (0, 2)


def test_a_deleted_container_waits_no_longer():
    pool = pool_with()
    pool.allocate("c1/eth0", PodRef(), 0.0)
    pool.allocate("c2/eth0", pod(2), 0.0)
    assert pool.demand(0.0).waiting == 2
    pool.release("c1/eth0", 1.0)
    pool.unreserve("uid-2", 1.0)
    assert pool.demand(1.0).waiting == 0
