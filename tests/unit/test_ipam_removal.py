"""Which ENIs may go, when, and by which steps; and that none goes which the node would then need."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import msgspec
import pytest
from support.ipam_facts import GROUPS, SETTINGS, eni, eni_class, node, shape, subnet

from enitide_api.reasons import Reason
from enitide_api.resources import Demand, ENINodeStatus, Interface, PoolLevels, Reclaim, ReleasePolicy
from enitide_ipam import handover, tide
from enitide_ipam.handover import Bounds
from enitide_ipam.model import (
    TAG_CLUSTER,
    TAG_TOKEN,
    AssignAddresses,
    Attachment,
    CreateInterface,
    DeleteInterface,
    DetachInterface,
)
from enitide_ipam.plan import node_tide, plan_node
from enitide_ipam.removal import EMPTY_READS, Removal, idle_due, next_idle_at, next_removal
from enitide_ipam.retiring import held_on_retired, idle_since, is_ours, may_go, retired
from enitide_ipam.saga import StepKind
from enitide_ipam.stamps import stamp

pytestmark = pytest.mark.unit

NOW = 1_800_000_000.0
OURS = {TAG_CLUSTER: "demo", TAG_TOKEN: "t"}
LONG_AGO = NOW - 1e6
BIG = shape((3,), 30)


def ours(index: int, singles: int = 0, **more):
    return eni(f"eni-{index}", index=index, singles=singles, tags=OURS | {TAG_TOKEN: f"t-{index}"}, **more)


def due(snapshot, now: float = NOW):
    snapshot = replace(snapshot, idle_since=idle_since(snapshot, "demo", now))
    return idle_due(snapshot, node_tide(snapshot, snapshot.limits, [subnet()]), now)


def empty(index: int, **more):
    """One of ours that has been idle for ever."""
    return ours(index, **more), {f"eni-{index}": LONG_AGO}


# --- which, and when ---


@pytest.mark.parametrize(
    ("changes", "goes"),
    [
        ({}, True),
        ({"tags": {}}, False),
        ({"tags": OURS | {TAG_CLUSTER: "other"}}, False),
        ({"tags": {TAG_CLUSTER: "demo"}}, False),
        ({"index": 0}, False),
        ({"tags": OURS | {"hands": "off"}}, False),
    ],
)
def test_only_an_eni_of_this_cluster_that_is_not_the_first_and_not_excluded_may_go(changes, goes):
    found = replace(ours(1), **changes)
    assert may_go(found, eni_class(exclude_tags={"hands": "off"}), "demo") is goes


def test_without_a_cluster_name_nothing_is_ours():
    assert not is_ours(eni(index=1, tags={TAG_TOKEN: "t"}), "")


def test_an_eni_goes_once_it_has_been_idle_for_its_delay():
    idle, _ = empty(1)
    snapshot = node(eni(singles=8), idle, idle_since={"eni-1": NOW - 599})
    assert due(snapshot) == frozenset()
    assert next_idle_at(snapshot, NOW) == NOW + 1
    assert due(replace(snapshot, idle_since={"eni-1": NOW - 600})) == {"eni-1"}


@pytest.mark.parametrize(
    "change",
    [
        {"enis": (eni(singles=8), ours(1, singles=1))},
        {"busy": frozenset({"10.0.1.4"})},
        {"removing": ("eni-1",)},
        {"in_flight": (AssignAddresses("eni-1", "s-1", 1, ""),)},
        {"demand": Demand(in_use=5)},  # low is 9, of 8
        {"class_": msgspec.structs.replace(eni_class(), release=ReleasePolicy(enabled=False))},
    ],
)
def test_an_eni_in_any_use_or_of_a_node_that_is_short_stays(change):
    idle, since = empty(1)
    snapshot = node(eni(singles=8), idle, idle_since=since)
    assert due(snapshot) == {"eni-1"}
    assert due(replace(snapshot, **change)) == frozenset()


def test_an_own_address_that_serves_goes_only_above_the_high_tide():
    idle, since = empty(1)
    class_ = eni_class(use_primary_address=True, pool=PoolLevels(pre_allocate=4, max_above_watermark=0))
    at_high = node(eni(singles=3), idle, idle_since=since, class_=class_)  # 3 + 1 is high
    assert due(at_high) == frozenset()
    assert due(node(eni(singles=4), idle, idle_since=since, class_=class_)) == {"eni-1"}


def test_removing_what_is_due_never_makes_the_node_take_anything():
    """Over the whole small state space: two invariants of the tide, with ENIs as the grain."""
    checked = 0
    for first, second, in_use, pre, above, primary in product(range(6), range(3), range(6), range(4), range(3), (0, 1)):
        class_ = eni_class(
            use_primary_address=bool(primary), pool=PoolLevels(pre_allocate=pre, max_above_watermark=above)
        )
        enis = (eni(singles=first), ours(1, second), ours(2), ours(3))
        idle = {each.id: LONG_AGO for each in enis[1:]}
        limits = shape((4,), 6)
        before = node(*enis, demand=Demand(in_use=in_use), class_=class_, limits=limits, idle_since=idle, version="1")
        going = due(before)
        if not going:
            continue
        after = replace(before, enis=tuple(each for each in enis if each.id not in going), idle_since={})
        plan = plan_node(after, [subnet()], GROUPS, SETTINGS, NOW)
        assert not [each for each in plan.actions if isinstance(each, AssignAddresses | CreateInterface)], before
        while_going = replace(before, removing=tuple(going))
        plan = plan_node(while_going, [subnet()], GROUPS, SETTINGS, NOW)
        assert not [each for each in plan.actions if isinstance(each, AssignAddresses | CreateInterface)], before
        checked += 1
    assert checked > 300


def test_an_eni_that_is_being_removed_keeps_its_place_and_is_given_nothing():
    snapshot = node(eni(singles=9), ours(1), removing=("eni-1",), bound=20)
    plan = plan_node(snapshot, [subnet()], GROUPS, SETTINGS, NOW)
    (made,) = [each for each in plan.actions if isinstance(each, CreateInterface)]
    assert (made.card, made.index) == (0, 2)
    assert not [each for each in plan.actions if getattr(each, "eni_id", "") == "eni-1"]


def test_a_full_node_whose_eni_is_going_waits_for_its_place_and_is_not_called_full():
    snapshot = node(eni(singles=9), ours(1), ours(2), removing=("eni-1", "eni-2"), bound=20)
    plan = plan_node(snapshot, [subnet()], GROUPS, SETTINGS, NOW)
    assert (plan.actions, plan.wait) == ((), Reason.FILLING)
    limited = replace(snapshot, class_=eni_class(pool=PoolLevels(max_allocate=9)))
    assert plan_node(limited, [subnet()], GROUPS, SETTINGS, NOW).wait is Reason.AT_CAPACITY


# --- what the class does not admit any more ---


def test_what_pods_hold_on_a_retired_eni_counts_and_the_rest_there_does_not():
    shown = ENINodeStatus(interfaces=(Interface(id="eni-0", card=0, index=0),))
    class_ = eni_class(first_index=1)
    snapshot = node(eni(singles=9), ours(1, 2), class_=class_, published=shown, busy=frozenset({"10.0.0.5"}))
    assert [each.id for each in retired(snapshot)] == ["eni-0"]
    assert held_on_retired(snapshot) == (1, 8)
    state = node_tide(snapshot, snapshot.limits, [subnet()])
    assert (state.provisioned, state.capacity.provisioned) == (3, 2)
    never_shown = replace(snapshot, published=ENINodeStatus())
    assert retired(never_shown) == ()


def test_free_addresses_of_a_retired_eni_count_against_the_maximum_until_they_are_back():
    shown = ENINodeStatus(interfaces=(Interface(id="eni-0", card=0, index=0),))
    class_ = eni_class(first_index=1, pool=PoolLevels(pre_allocate=8, max_allocate=10))
    snapshot = node(eni(singles=9), class_=class_, published=shown)
    plan = plan_node(snapshot, [subnet()], GROUPS, SETTINGS, NOW)
    (made,) = [each for each in plan.actions if isinstance(each, CreateInterface)]
    assert made.addresses == 1


def retiring(max_allocate: int, *, excluded: bool = False):
    """Nine idle addresses on the node's own ENI, which the class does not admit any more, and twelve on a good one."""
    shown = ENINodeStatus(interfaces=(Interface(id="eni-0", card=0, index=0),))
    pool = PoolLevels(pre_allocate=4, max_above_watermark=4, max_allocate=max_allocate)
    tags = {"hands": "off"} if excluded else {}
    class_ = eni_class(first_index=0 if excluded else 1, exclude_tags=tags, pool=pool)
    own = replace(eni(singles=9), tags=tags)
    return node(own, ours(1, 12), class_=class_, published=shown, demand=Demand(in_use=5), limits=BIG)


def test_idle_addresses_of_a_retired_eni_ask_nothing_back_from_good_ones():
    state = node_tide(retiring(18), BIG, [subnet()])
    assert (state.marks.low, state.marks.high, state.provisioned) == (9, 13, 12)
    assert tide.give_back(state.marks, state.provisioned) == 0
    lower = node_tide(retiring(10), BIG, [subnet()])
    assert tide.give_back(lower.marks, lower.provisioned) == 2  # that is what the maximum itself asks for


def test_what_is_idle_on_a_retired_eni_holds_the_maximum_back_for_a_moment_or_for_good_where_nothing_goes_back():
    full = replace(retiring(22), demand=Demand(in_use=14))
    plan = plan_node(full, [subnet()], GROUPS, SETTINGS, NOW)
    assert [each.count for each in plan.actions if isinstance(each, AssignAddresses)] == [1]  # 12 + 9 are there
    assert (plan.wait, "22" in plan.message) == (Reason.FILLING, True)
    kept = replace(full, class_=msgspec.structs.replace(full.class_, release=ReleasePolicy(enabled=False)))
    plan = plan_node(kept, [subnet()], GROUPS, SETTINGS, NOW)
    assert (plan.wait, "22" in plan.message) == (Reason.AT_CAPACITY, True)


def test_idle_addresses_of_an_excluded_eni_count_for_nothing():
    full = replace(retiring(22, excluded=True), demand=Demand(in_use=14))
    assert [each.id for each in retired(full)] == ["eni-0"]
    plan = plan_node(full, [subnet()], GROUPS, SETTINGS, NOW)
    assert sum(each.count for each in plan.actions if isinstance(each, AssignAddresses)) == 10
    assert plan.wait is None


# --- the agent's word ---


def shown(*, draining: bool = True, addresses=("10.0.1.5",), **more) -> ENINodeStatus:
    interface = Interface(id="eni-1", card=0, index=1, primary="10.0.1.4", addresses=addresses, draining=draining)
    return ENINodeStatus(interfaces=(interface,), **more)


GOES = Bounds(removable=frozenset({"eni-1"}))


def test_an_eni_goes_whole_on_the_word_of_its_own_address_and_its_cidrs_with_it():
    taken = handover.accept(shown(), ("10.0.1.5", "10.0.1.4"), None, (), GOES)
    assert taken is not None
    assert (taken.interfaces, taken.removing, taken.releasing, taken.dropped) == ((), ("eni-1",), (), ("eni-1",))


def test_of_a_draining_eni_what_is_idle_goes_without_a_count_and_of_another_nothing_does():
    taken = handover.accept(shown(), ("10.0.1.5",), None, (), GOES)
    assert taken is not None
    assert (taken.removing, taken.releasing) == ((), ("10.0.1.5",))
    assert handover.accept(shown(draining=False), ("10.0.1.5", "10.0.1.4"), None, (), GOES) is None


@pytest.mark.parametrize("busy", ["10.0.1.4", "10.0.1.5"])
def test_an_eni_with_a_reported_pod_does_not_go_whatever_is_yielded(busy):
    taken = handover.accept(shown(), ("10.0.1.5", "10.0.1.4"), None, (busy,), GOES)
    assert taken is None or not taken.dropped


def test_an_excluded_eni_is_dropped_and_nothing_of_it_is_asked_of_ec2():
    bounds = Bounds(untouched=frozenset({"eni-1"}))
    assert handover.accept(shown(), ("10.0.1.5",), None, (), bounds) is None
    taken = handover.accept(shown(), ("10.0.1.5", "10.0.1.4"), None, (), bounds)
    assert taken is not None
    assert (taken.interfaces, taken.removing, taken.releasing) == ((), (), ())


def test_an_eni_that_is_not_ours_is_dropped_and_its_addresses_go_back_one_by_one():
    taken = handover.accept(shown(), ("10.0.1.5", "10.0.1.4"), None, (), Bounds())
    assert taken is not None
    assert (taken.interfaces, taken.removing, taken.releasing) == ((), (), ("10.0.1.5",))


def test_an_own_address_that_served_is_counted_off_the_reclaim_in_the_same_write():
    from enitide_api.resources import ClassStatus

    status = shown(addresses=(), class_=ClassStatus(use_primary_address=True))
    wanted = Reclaim(count=1, since=stamp(NOW))
    taken = handover.accept(status, ("10.0.1.4",), wanted, (), GOES)
    assert taken is not None
    assert taken.reclaim is None, "else the agent would yield another for it"


# --- the steps ---


def step(state: Removal, now: float = NOW, instance: str = "i-1"):
    return next_removal(state, instance, SETTINGS, now)


def test_detach_then_wait_then_delete_then_done():
    attached = ours(1)
    assert isinstance(step(Removal("eni-1", attached)).action, DetachInterface)
    detaching = replace(attached, attachment=Attachment.DETACHING)
    waits = [step(Removal("eni-1", detaching, polls=polls)) for polls in range(6)]
    assert all(each.kind is StepKind.REREAD for each in waits)
    assert [each.not_before - NOW for each in waits] == [3, 6, 12, 24, 30, 30]
    loose = replace(attached, attachment=Attachment.DETACHED, instance_id="")
    assert isinstance(step(Removal("eni-1", loose)).action, DeleteInterface)
    assert step(Removal("eni-1", None, empty=EMPTY_READS)).kind is StepKind.FINISHED


def test_one_empty_answer_is_no_proof_that_it_is_gone():
    assert step(Removal("eni-1")).kind is StepKind.REREAD
    again = step(Removal("eni-1", empty=1))
    assert (again.kind, again.not_before) == (StepKind.REREAD, NOW + 3)


def test_after_an_unknown_outcome_nothing_is_sent_before_a_read_a_call_time_out_later():
    state = Removal("eni-1", ours(1), ambiguous_since=NOW, looked_at=NOW + 1)
    waiting = step(state, NOW + 2)
    assert (waiting.kind, waiting.not_before) == (StepKind.REREAD, NOW + 15)
    assert step(replace(state, looked_at=NOW + 15), NOW + 16).kind is StepKind.CALL


@pytest.mark.parametrize(
    "changes",
    [{"tags": OURS | {TAG_CLUSTER: "other"}}, {"tags": {}}, {"instance_id": "i-2"}, {"index": 0}],
)
def test_what_someone_changed_meanwhile_is_left_alone(changes):
    assert step(Removal("eni-1", replace(ours(1), **changes))).kind is StepKind.FINISHED
