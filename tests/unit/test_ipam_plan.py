"""What a plan orders: fewest calls, never twice, a reason for what it leaves."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from support.ipam_facts import GROUPS, INSTANCE, SETTINGS, eni, eni_class, node, shape, subnet

from enitide_api.reasons import Reason
from enitide_api.resources import Demand, InstanceFacts, PendingInterface, PoolLevels, Selector
from enitide_ipam import tide
from enitide_ipam.capacity import node_capacity
from enitide_ipam.model import (
    TAG_CLUSTER,
    TAG_INSTANCE,
    TAG_TOKEN,
    AssignAddresses,
    AssignIPv6Prefix,
    AssignPrefixes,
    Attachment,
    CreateInterface,
    FinishOrUndoPending,
    Reread,
    SetDeleteOnTermination,
)
from enitide_ipam.plan import debits, node_tide, plan_node
from enitide_ipam.saga import intent_of

pytestmark = pytest.mark.unit

NO_BUFFER = PoolLevels(pre_allocate=0, max_above_watermark=0)


def planned(snapshot, *subnets, groups=GROUPS, now=2000.0):
    return plan_node(snapshot, subnets or (subnet(),), groups, SETTINGS, now)


def kinds(plan):
    return [type(action).__name__ for action in plan.actions]


def gains(plan):
    return [
        each.gives
        if isinstance(each, CreateInterface)
        else each.count * (16 if isinstance(each, AssignPrefixes) else 1)
        for each in plan.actions
        if isinstance(each, AssignAddresses | AssignPrefixes | CreateInterface)
    ]


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


# --- prefixes ---


def test_prefixes_are_rounded_up_in_one_request():
    plan = planned(node(class_=eni_class(prefixes=True), bound=20), subnet(whole=60))
    assert [(type(each).__name__, each.count) for each in plan.actions] == [("AssignPrefixes", 2)]


def test_a_xen_instance_never_gets_prefixes():
    snapshot = node(class_=eni_class(prefixes=True), limits=shape(hypervisor="xen"), bound=4)
    assert kinds(planned(snapshot, subnet(whole=60))) == ["AssignAddresses"]


def test_a_prefix_on_a_new_eni_in_a_sibling_subnet_comes_before_singles():
    snapshot = node(class_=eni_class(prefixes=True), bound=4)
    plan = planned(snapshot, subnet(whole=0), subnet("s-2", whole=9))
    assert kinds(plan) == ["CreateInterface"]
    assert (plan.actions[0].subnet_id, plan.actions[0].prefixes) == ("s-2", 1)


def test_without_any_whole_prefix_single_addresses_are_taken_and_only_as_many_as_wanted():
    plan = planned(node(class_=eni_class(prefixes=True), bound=4), subnet(whole=0))
    assert gains(plan) == [8]
    assert isinstance(plan.actions[0], AssignAddresses)
    assert plan.wait is None
    assert "/28" in plan.message


def test_near_max_allocate_the_rest_are_singles_in_a_request_of_their_own():
    snapshot = node(class_=eni_class(prefixes=True, pool=PoolLevels(max_allocate=20)), bound=30)
    plan = planned(snapshot, subnet(whole=60))
    assert [(type(each).__name__, each.count) for each in plan.actions] == [
        ("AssignPrefixes", 1),
        ("AssignAddresses", 4),
    ]


def test_unknown_whole_prefixes_are_tried():
    assert kinds(planned(node(class_=eni_class(prefixes=True), bound=4), subnet(whole=None))) == ["AssignPrefixes"]


# --- repairs ---


def test_each_managed_eni_gets_one_ipv6_prefix_where_its_subnet_has_ipv6():
    snapshot = node(eni(singles=9), eni("e1", index=1, singles=1, ipv6_prefixes=("2001:db8::/80",)))
    plan = planned(snapshot, subnet(ipv6_cidr="2001:db8::/64"))
    assert [each.eni_id for each in plan.actions] == ["eni-0"]
    assert isinstance(plan.actions[0], AssignIPv6Prefix)
    assert planned(replace(snapshot, in_flight=plan.actions), subnet(ipv6_cidr="2001:db8::/64")).actions == ()
    create = planned(node(eni(singles=9), bound=10), subnet(ipv6_cidr="2001:db8::/64")).actions[0]
    assert create.ipv6


def test_delete_on_termination_is_set_on_our_own_enis_only():
    ours = {TAG_TOKEN: "t", TAG_CLUSTER: "demo"}
    theirs = {TAG_TOKEN: "t", TAG_CLUSTER: "other"}
    plan = planned(node(eni(singles=9), eni("e1", index=1, tags=ours), eni("e2", index=2, tags=theirs)))
    assert [each.eni_id for each in plan.actions if isinstance(each, SetDeleteOnTermination)] == ["e1"]


def test_a_use_primary_address_class_counts_the_own_address_of_secondary_enis():
    limits = shape((3,), 4)
    capacity = node_capacity(limits, eni_class(use_primary_address=True), [eni()])
    assert (capacity.slots, capacity.room) == (11, 11)
    snapshot = node(limits=limits, class_=eni_class(use_primary_address=True, pool=NO_BUFFER), bound=11)
    plan = planned(snapshot)
    assert gains(plan) == [3, 3, 3]
    assert plan.wait is None
    assert node_tide(replace(snapshot, in_flight=plan.actions), limits, (subnet(),)).expected == 11


def test_debits_count_the_own_address_of_new_enis_and_whole_prefixes():
    assert debits(planned(node(bound=20))) == {"s-1": (26, 0)}
    plan = planned(node(class_=eni_class(prefixes=True), bound=20), subnet(whole=60))
    assert debits(plan) == {"s-1": (32, 2)}


# --- anything goes ---


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_world_a_plan_stays_within_slots_places_subnets_and_cap(seed):
    rng = random.Random(seed)
    for _ in range(400):
        snapshot, subnets = any_world(rng)
        check_world(snapshot, subnets)


def any_world(rng):
    limits = shape(tuple(rng.randint(1, 4) for _ in range(rng.randint(1, 2))), rng.randint(2, 6))
    class_ = eni_class(
        pool=PoolLevels(max_allocate=rng.choice([None, 0, 3, 17, 40]), pre_allocate=rng.randint(0, 6)),
        prefixes=rng.random() < 0.5,
        use_primary_address=rng.random() < 0.5,
        first_index=rng.randint(0, 1),
        cards=tuple(range(rng.randint(1, 2))),
    )
    subnets = [
        subnet(f"s-{number}", free=rng.choice([0, 1, 5, 16, 17, 60]), whole=rng.choice([None, 0, 1, 3]))
        for number in (1, 2)
    ]
    enis = [
        eni(
            f"eni-{index}",
            index=index,
            singles=rng.randint(0, limits.ipv4_per_interface - 1),
            subnet_id=f"s-{rng.randint(1, 2)}",
        )
        for index in range(rng.randint(1, limits.cards[0]))
    ]
    demand = Demand(in_use=rng.randint(0, 30), cooling=rng.randint(0, 3))
    return node(*enis, limits=limits, class_=class_, bound=rng.choice([0, 2, 20, 60]), demand=demand), subnets


def check_world(snapshot, subnets):
    limits, maximum = snapshot.limits, snapshot.class_.pool.max_allocate
    plan = planned(snapshot, *subnets)
    before = node_tide(snapshot, limits, subnets)
    check_slots(plan, snapshot, limits.ipv4_per_interface - 1)
    check_subnets(plan, subnets)
    ordered = replace(snapshot, in_flight=plan.actions)
    after = node_tide(ordered, limits, subnets)
    if maximum is not None:
        assert after.expected <= max(maximum, before.expected)
    assert after.expected - before.expected >= sum(gains(plan))
    assert planned(ordered, *debited(plan, subnets)).actions == ()
    if after.short:
        assert plan.wait is not None, (snapshot, subnets, plan)
        assert plan.message


def check_slots(plan, snapshot, room):
    free = {each.id: room - len(each.addresses) - len(each.prefixes) for each in snapshot.enis}
    places = [(each.card, each.index) for each in snapshot.enis]
    for action in plan.actions:
        if isinstance(action, AssignAddresses | AssignPrefixes):
            assert action.count > 0
            free[action.eni_id] -= action.count
            assert free[action.eni_id] >= 0
        elif isinstance(action, CreateInterface):
            assert not (action.addresses and action.prefixes)
            assert action.addresses + action.prefixes <= room
            places.append((action.card, action.index))
    assert len(set(places)) == len(places)
    for card, most in enumerate(snapshot.limits.cards):
        assert sum(place[0] == card for place in places) <= most


def check_subnets(plan, subnets):
    for name, (addresses, prefixes) in debits(plan).items():
        view = next(each for each in subnets if each.id == name)
        assert addresses <= view.free
        assert view.whole_prefixes is None or prefixes <= view.whole_prefixes


def debited(plan, subnets):
    taken = debits(plan)
    return [
        replace(
            each,
            free=each.free - taken.get(each.id, (0, 0))[0],
            whole_prefixes=None if each.whole_prefixes is None else each.whole_prefixes - taken.get(each.id, (0, 0))[1],
        )
        for each in subnets
    ]


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
