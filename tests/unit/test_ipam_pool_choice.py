"""Which address the agent's pool gives, and what of the operator's word it goes by."""

from __future__ import annotations

import pytest
from support.pool_facts import POD, give, interface, pod, pool_with, refused, states, status

from enitide_api.reasons import Reason
from enitide_api.resources import (
    ClassStatus,
    Condition,
    IPv6Facts,
)
from enitide_ipam.addresses import expand, text
from enitide_ipam.pool import Grant, Pool, Refusal
from enitide_ipam.records import Published, Released

pytestmark = pytest.mark.unit


def condition(kind: str, state: str, reason: str) -> Condition:
    return Condition(type=kind, status=state, reason=reason, message="-", last_transition_time="")


# --- which address ---


def test_the_fullest_prefix_is_filled_first_then_singles_before_a_whole_prefix():
    pool = pool_with(interface(singles=1, prefixes=2))
    order = [give(pool, f"c{each}/eth0", pod(each)) for each in range(33)]
    assert order[0] == "10.0.0.5"
    assert set(order[1:17]) == {text(each) for each in expand("10.0.0.64/28")}
    pool.release("c3/eth0", 0.0)
    pool.release("c20/eth0", 0.0)
    pool.release("c21/eth0", 0.0)
    assert give(pool, "again/eth0", pod(99), 60.0) == order[3]


def test_the_fullest_eni_is_filled_first():
    pool = pool_with(interface(0, singles=2), interface(1, singles=2))
    given = [give(pool, f"c{each}/eth0", pod(each)) for each in range(4)]
    assert [each.split(".")[2] for each in given] == ["0", "0", "1", "1"]


def test_addresses_of_an_eni_whose_device_is_not_ready_are_not_given():
    pool = pool_with(interface(singles=2), ready=False)
    assert refused(pool.allocate("c1/eth0", POD, 0.0)).reason is Reason.NOT_RECONCILED
    pool.set_ready(["eni-0"])
    assert isinstance(pool.allocate("c1/eth0", POD, 0.0), Grant)


def test_the_own_address_of_a_secondary_eni_serves_only_where_the_class_says_so():
    shown = (interface(0, singles=0), interface(1, singles=0))
    assert isinstance(pool_with(*shown).allocate("c1/eth0", POD, 0.0), Refusal)
    pool = pool_with(*shown, class_=ClassStatus(use_primary_address=True))
    assert give(pool, "c1/eth0") == "10.0.1.4"
    assert pool.provisioned() == 1


def test_the_ipv6_address_comes_from_the_same_eni():
    v6 = IPv6Facts(cidr="2001:db8::/64", gateway="2001:db8::1", prefixes=("2001:db8:0:0:1::/80",))
    pool = pool_with(interface(singles=1, ipv6=v6))
    grant = pool.allocate("c1/eth0", POD, 0.0)
    assert isinstance(grant, Grant)
    assert grant.allocation.ipv6 == "2001:db8::1:0:a00:5"
    assert pool.endpoints()[0].addresses == (grant.allocation.address, grant.allocation.ipv6)


def test_a_refusal_carries_the_reason_of_the_node():
    full = Condition(
        type="Ready", status="False", reason="SubnetExhausted", message="no room in s-1", last_transition_time=""
    )
    answer = refused(pool_with(conditions=(full,)).allocate("c1/eth0", POD, 0.0))
    assert (answer.reason, answer.message, answer.retry) == (Reason.SUBNET_EXHAUSTED, "no room in s-1", True)
    assert refused(pool_with().allocate("c1/eth0", POD, 0.0)).reason is Reason.ADDRESS_PENDING


def test_a_status_that_still_calls_the_pool_filled_is_no_reason_to_refuse():
    filled = (condition("Ready", "True", "PoolFilled"), condition("AtCapacity", "False", "PoolFilled"))
    pool = pool_with(interface(singles=1), conditions=filled)
    give(pool, "c1/eth0")
    assert refused(pool.allocate("c2/eth0", pod(2), 0.0)).reason is Reason.ADDRESS_PENDING
    pool.apply_status(status(interface(singles=1), slots=9, used=9, conditions=filled), "2", 1.0)
    assert refused(pool.allocate("c2/eth0", pod(2), 1.0)).reason is Reason.AT_CAPACITY


def test_an_add_that_waits_takes_the_reservation_of_a_pod_that_has_long_not_asked():
    pool = pool_with(interface(singles=2))
    for number in (1, 2):
        assert isinstance(pool.reserve(pod(number), float(number)), Grant)
    early = pool.allocate("c3/eth0", pod(3), 5.9)
    assert refused(early).retry
    before = pool.records(6.0)
    grant = pool.allocate("c3/eth0", pod(3), 6.0)
    assert isinstance(grant, Grant)
    assert pool.reserved() == (pod(2),)
    again = Pool("i-1")
    again.restore((*before, *grant.records), 6.0)
    assert again.owners() == ("c3/eth0",)
    assert states(again)[grant.allocation.address] == "claimed"
    pool.abort("c3/eth0", 7.0)
    assert pool.reserved() == (pod(3), pod(2)), "the one who lost it has no part in it any more"


def test_a_reservation_is_not_taken_while_anything_is_free_or_has_cooled():
    pool = pool_with(interface(singles=2), slots=9, used=9)
    pool.reserve(pod(1), 0.0)
    give(pool, "c2/eth0", pod(2))
    pool.release("c2/eth0", 10.0)
    cooled = give(pool, "c3/eth0", pod(3), 15.0)
    assert pool.reserved() == (pod(1),)
    assert give(pool, "c1/eth0", pod(1), 60.0) != cooled


def test_demand_says_when_it_will_change_by_time_alone():
    pool = pool_with(interface(singles=1))
    assert pool.demand_changes_at() is None
    give(pool, "c1/eth0")
    pool.allocate("c2/eth0", pod(2), 7.0)
    assert pool.demand_changes_at() == 127.0
    pool.release("c1/eth0", 10.0)
    assert pool.demand_changes_at() == 40.0
    assert pool.demand(40.0).cooling == 0
    assert pool.demand_changes_at() == 127.0


# --- what the operator publishes ---


def test_the_status_of_another_instance_is_used_for_nothing():
    pool = Pool("i-2")
    pool.apply_status(status(interface(singles=2)), "1", 0.0)
    pool.set_ready(["eni-0"])
    assert isinstance(pool.allocate("c1/eth0", POD, 0.0), Refusal)


def test_an_address_that_vanishes_while_in_use_stays_known_and_reported():
    pool = pool_with(interface(singles=2))
    address = give(pool, "c1/eth0")
    pool.apply_status(status(), "2", 1.0)
    assert states(pool) == {address: "vanished"}
    assert pool.demand(1.0).in_use == 1
    assert pool.endpoints()[0].addresses == (address,)
    pool.apply_status(status(interface(singles=2)), "3", 2.0)
    assert give(pool, "c2/eth0", pod(2), 2.0) != address


def test_a_reservation_whose_address_vanishes_is_dropped():
    pool = pool_with(interface(singles=1))
    pool.reserve(POD, 0.0)
    records = pool.apply_status(status(), "2", 1.0)
    assert [type(each) for each in records] == [Published, Released]
    assert pool.reserved() == ()


def test_an_older_status_changes_nothing():
    pool = pool_with(interface(singles=1))
    pool.apply_status(status(), "10", 1.0)
    assert pool.apply_status(status(interface(singles=1)), "9", 2.0) == ()
    assert isinstance(pool.allocate("c1/eth0", POD, 2.0), Refusal)


def test_what_is_releasing_is_never_given_even_if_it_is_still_listed():
    pool = pool_with(interface(singles=1), releasing=("10.0.0.5",))
    assert isinstance(pool.allocate("c1/eth0", POD, 0.0), Refusal)


def test_an_unchanged_status_gives_no_record():
    pool = pool_with(interface(singles=1))
    assert pool.apply_status(status(interface(singles=1)), "2", 0.0) == ()


def test_of_two_broken_prefixes_the_fuller_one_is_filled():
    pool = pool_with(interface(prefixes=2))
    given = [give(pool, f"c{each}/eth0", pod(each)) for each in range(26)]
    first, second = given[:16], given[16:]
    for each in range(14):
        pool.release(f"c{each}/eth0", 0.0)
    assert give(pool, "next/eth0", pod(99), 60.0) not in first
    assert len(second) == 10
