"""What a plan orders: fewest calls, never twice, a reason for what it leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.ipam_facts import INSTANCE, eni, eni_class, node, shape, subnet
from support.plans import NO_BUFFER, gains, kinds, planned

from enitide_api.reasons import Reason
from enitide_api.resources import Demand, InstanceFacts, PendingInterface, PoolLevels, Selector
from enitide_ipam import tide
from enitide_ipam.capacity import node_capacity
from enitide_ipam.model import (
    TAG_CLUSTER,
    TAG_INSTANCE,
    TAG_TOKEN,
    Attachment,
    FinishOrUndoPending,
    Reread,
)
from enitide_ipam.plan import node_tide
from enitide_ipam.saga import intent_of

pytestmark = pytest.mark.unit


def test_a_cold_m5_large_with_20_pods_is_one_assign_and_two_creates():
    plan = planned(node(bound=20))
    assert kinds(plan) == ["AssignAddresses", "CreateInterface", "CreateInterface"]
    assert gains(plan) == [9, 9, 6]
    assert plan.wait is None
    places = [(each.card, each.index) for each in plan.actions[1:]]
    assert places == [(0, 1), (0, 2)]
    assert len({each.token for each in plan.actions[1:]}) == 2


def test_a_created_interface_carries_its_tags_groups_and_token():
    create = planned(node(bound=20)).actions[1]
    assert create.tags[TAG_TOKEN] == create.token
    assert (create.tags[TAG_CLUSTER], create.tags[TAG_INSTANCE]) == ("demo", "i-1")
    assert create.groups == ("sg-a",)
    assert len(create.token) <= 64


def test_tags_of_the_class_cannot_replace_ours():
    snapshot = node(bound=20, class_=eni_class(tags={TAG_TOKEN: "x", "team": "t"}))
    create = planned(snapshot).actions[1]
    assert (create.tags["team"], create.tags[TAG_TOKEN]) == ("t", create.token)


def test_a_pool_at_its_tide_orders_nothing():
    plan = planned(node(eni(singles=8), demand=Demand(in_use=4)))
    assert plan.actions == ()
    assert plan.wait is None


def test_the_same_pass_twice_orders_nothing_twice():
    snapshot = node(bound=20)
    first = planned(snapshot)
    in_flight = replace(snapshot, in_flight=first.actions)
    assert planned(in_flight).actions == ()
    intents = tuple(intent_of(each, "2026-01-01T00:00:00Z") for each in first.actions[1:])
    tokens = frozenset(each.token for each in intents)
    both = replace(snapshot, in_flight=first.actions, pending=intents, running=tokens)
    assert planned(both).actions == ()
    assert node_tide(both, both.limits, (subnet(),)).expected == 24


def test_a_node_whose_last_slots_are_on_order_is_short_not_at_capacity():
    snapshot = node(bound=27)
    ordered = replace(snapshot, in_flight=planned(snapshot).actions)
    state = node_tide(ordered, ordered.limits, (subnet(),))
    assert (state.room, state.ahead, state.short) == (0, 27, False)
    assert tide.needed(state.marks, state.capacity.provisioned, state.ahead) == 27
    assert planned(ordered).wait is None


def test_an_interface_that_has_arrived_is_not_counted_beside_its_intent():
    intent = PendingInterface(token="t", since="2026-01-01T00:00:00Z", card=0, index=1, count=9)
    snapshot = node(
        eni(singles=9), eni("eni-1", index=1, singles=9, tags={TAG_TOKEN: "t"}), pending=(intent,), bound=18
    )
    assert node_tide(snapshot, snapshot.limits, (subnet(),)).expected == 18


def test_an_intent_that_nothing_works_on_is_taken_up():
    intent = PendingInterface(token="t", since="2026-01-01T00:00:00Z", card=0, index=1, count=9)
    plan = planned(node(eni(singles=9), pending=(intent,)))
    assert plan.actions == (FinishOrUndoPending(intent, plan.actions[0].reason),)
    assert planned(node(eni(singles=9), pending=(intent,), running=frozenset({"t"}))).actions == ()


def test_the_eni_with_most_room_is_filled_first():
    plan = planned(node(eni(singles=8), eni("eni-1", index=1, singles=2), demand=Demand(in_use=10)))
    assert [(each.eni_id, each.count) for each in plan.actions] == [("eni-1", 7), ("eni-0", 1)]


def test_missing_instance_means_no_call():
    plan = planned(node(bound=20, instance_missing=True))
    assert (plan.actions, plan.wait) == ((), Reason.INSTANCE_MISSING)


def test_an_intent_for_a_missing_instance_is_undone_all_the_same():
    intent = PendingInterface(token="t", since="2026-01-01T00:00:00Z", subnet_id="subnet-1", card=0, index=1, count=7)
    plan = planned(node(instance_missing=True, enis_asked_at=None, pending=(intent,)))
    assert plan.wait is Reason.INSTANCE_MISSING
    assert [type(each) for each in plan.actions] == [FinishOrUndoPending]


def test_unknown_type_means_limits_unknown_and_names_the_type():
    plan = planned(node(bound=20, limits=None))
    assert (plan.actions, plan.wait) == ((), Reason.LIMITS_UNKNOWN)
    assert "m5.large" in plan.message


def test_an_empty_instance_id_is_refused():
    assert planned(node(instance=InstanceFacts())).wait is Reason.IDENTITY_EMPTY


def test_before_the_first_read_only_a_read_is_ordered():
    plan = planned(node(bound=20, enis_asked_at=None))
    assert kinds(plan) == ["Reread"]


def test_after_an_unknown_outcome_the_read_comes_one_call_timeout_later():
    plan = planned(node(bound=20, ambiguous_since=995.0))
    assert plan.wait is Reason.EC2_AMBIGUOUS
    assert isinstance(plan.actions[0], Reread)
    assert plan.actions[0].not_before == 1010.0
    assert kinds(planned(node(bound=20, ambiguous_since=985.0)))[0] == "AssignAddresses"


def test_at_capacity_is_said_and_orders_nothing():
    full = node(eni(singles=9), eni("e1", index=1, singles=9), eni("e2", index=2, singles=9), bound=29)
    plan = planned(full)
    assert (plan.actions, plan.wait) == ((), Reason.AT_CAPACITY)
    assert "27" in plan.message
    capped = node(eni(singles=5), class_=eni_class(pool=PoolLevels(max_allocate=5)), bound=9)
    assert planned(capped).wait is Reason.AT_CAPACITY


def test_max_allocate_clips_what_is_taken():
    plan = planned(node(class_=eni_class(pool=PoolLevels(max_allocate=11)), bound=20))
    assert sum(gains(plan)) == 11


def test_an_excluded_eni_holds_its_place_and_gives_nothing():
    excluded = eni("e1", index=1, singles=3, tags={"no": "touch"})
    snapshot = node(eni(singles=9), excluded, class_=eni_class(exclude_tags={"no": "touch"}), bound=27)
    plan = planned(snapshot)
    assert [(each.card, each.index) for each in plan.actions] == [(0, 2)]
    capacity = node_capacity(snapshot.limits, snapshot.class_, snapshot.enis)
    assert (capacity.slots, capacity.provisioned) == (18, 9)


def test_an_ipv6_only_eni_holds_its_place_and_gives_nothing():
    snapshot = node(eni(singles=9), eni("e1", index=1, primary=""), bound=27)
    assert [(each.card, each.index) for each in planned(snapshot).actions] == [(0, 2)]


def test_first_index_keeps_the_first_eni_for_the_host():
    plan = planned(node(class_=eni_class(first_index=1), bound=5))
    assert kinds(plan) == ["CreateInterface"]
    assert plan.actions[0].index == 1


def test_every_card_of_the_class_is_used_with_its_own_indexes():
    snapshot = node(eni(singles=9), limits=shape((2, 2)), class_=eni_class(cards=(0, 1), pool=NO_BUFFER), bound=36)
    places = [(each.card, each.index) for each in planned(snapshot).actions]
    assert places == [(0, 1), (1, 0), (1, 1)]


def test_an_exhausted_subnet_is_named():
    plan = planned(node(bound=5), subnet(free=0))
    assert plan.wait is Reason.SUBNET_EXHAUSTED
    assert "s-1" in plan.message
    assert plan.actions == ()


def test_what_the_subnet_still_has_is_taken():
    plan = planned(node(bound=20), subnet(free=12))
    assert gains(plan) == [9, 2]
    assert plan.wait is Reason.SUBNET_EXHAUSTED


def test_missing_security_groups_stop_creation_but_not_filling():
    snapshot = node(bound=20, class_=eni_class(groups=Selector(ids=("sg-x",))))
    plan = planned(snapshot)
    assert kinds(plan) == ["AssignAddresses"]
    assert plan.wait is Reason.SECURITY_GROUPS_MISSING
    assert "sg-x" in plan.message


def test_releasing_addresses_hold_their_slots_but_are_not_provisioned():
    snapshot = node(eni(singles=9), releasing=("10.0.0.5", "10.0.0.6"))
    state = node_tide(snapshot, snapshot.limits, (subnet(),))
    assert (state.capacity.provisioned, state.capacity.used_slots) == (7, 9)


def test_what_is_released_counts_against_max_allocate_until_ec2_has_it_back():
    class_ = eni_class(pool=PoolLevels(pre_allocate=0, max_above_watermark=0, max_allocate=5))
    snapshot = node(eni(singles=5), class_=class_, bound=5, releasing=("10.0.0.5", "10.0.0.6"))
    plan = planned(snapshot)
    assert (plan.actions, plan.wait) == ((), Reason.FILLING)
    assert "maxAllocate 5 also counts what is being released" in plan.message
    one_back = replace(snapshot, enis=(eni(singles=4),), releasing=("10.0.0.5",))
    assert (gains(planned(one_back)), planned(one_back).wait) == ([1], Reason.FILLING)
    assert gains(planned(replace(one_back, enis=(eni(singles=3),), releasing=()))) == [2]


def test_an_eni_that_is_being_removed_counts_against_max_allocate_until_it_is_gone():
    class_ = eni_class(pool=PoolLevels(pre_allocate=0, max_above_watermark=0, max_allocate=5))
    going = eni("eni-1", index=1, singles=2)
    snapshot = node(eni(singles=3), going, class_=class_, bound=5, removing=(going.id,))
    plan = planned(snapshot)
    assert (plan.actions, plan.wait) == ((), Reason.FILLING)
    assert gains(planned(replace(snapshot, enis=(eni(singles=3),), removing=()))) == [2]


def test_a_node_at_its_maximum_is_at_capacity_whatever_it_releases():
    class_ = eni_class(pool=PoolLevels(max_allocate=5))
    plan = planned(node(eni(singles=7), class_=class_, bound=9, releasing=("10.0.0.5", "10.0.0.6")))
    assert (plan.actions, plan.wait) == ((), Reason.AT_CAPACITY)
    assert "maxAllocate 5 is reached" in plan.message


def test_a_detaching_eni_still_holds_its_place():
    snapshot = node(eni(singles=9), eni("e1", index=1, attachment=Attachment.DETACHING), bound=18)
    assert [(each.card, each.index) for each in planned(snapshot).actions] == [(0, 2)]


def test_an_instance_elsewhere_has_no_eligible_subnet():
    far = replace_instance(zone="us-west-1b")
    plan = planned(node(eni(singles=9), instance=far, bound=20))
    assert plan.wait is Reason.NO_ELIGIBLE_SUBNET


def replace_instance(*, zone):
    return InstanceFacts(
        id=INSTANCE.id, type=INSTANCE.type, availability_zone=zone, vpc_id=INSTANCE.vpc_id, subnet_id="s-1"
    )
