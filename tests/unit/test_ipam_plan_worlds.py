"""Plans of random nodes: whatever there is, slots, places, subnets and the limit hold."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from support.ipam_facts import eni, eni_class, node, shape, subnet
from support.plans import gains, planned

from enitide_api.resources import Demand, PoolLevels
from enitide_ipam.model import (
    AssignAddresses,
    AssignPrefixes,
    CreateInterface,
)
from enitide_ipam.plan import debits, node_tide

pytestmark = pytest.mark.unit


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
