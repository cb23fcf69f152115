"""What is published, and what the agent reports when."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from support.ipam_facts import eni, eni_class, node, subnet

from enitide_api.reasons import Reason
from enitide_api.resources import (
    Capacity,
    ClassStatus,
    Demand,
    EndpointRecord,
    ENINodeSpec,
    ENINodeStatus,
    InstanceFacts,
    Interface,
    PendingInterface,
    PoolLevels,
    Reclaim,
)
from enitide_ipam import report, stamps, status
from enitide_ipam.model import TAG_TOKEN, Attachment, Plan
from enitide_ipam.plan import node_tide

pytestmark = pytest.mark.unit

NOW = 1_800_000_000.0


def built(snapshot, plan=None, *, now=NOW, subnets=None, **more):
    views = subnets or (subnet(ipv6_cidr="2001:db8::/64"),)
    state = node_tide(snapshot, snapshot.limits, views) if snapshot.limits else None
    facts = {"reclaim": None, "vpc_cidrs": ("10.0.0.0/16",), "report_interval_s": 41.5, "agent_silent": False, **more}
    return status.wanted_status(snapshot, views, state, plan or Plan(), now=now, **facts)


def test_interfaces_are_sorted_and_carry_their_subnet_without_what_is_releasing():
    late, first = eni("e-a", index=1, singles=2, ipv6_prefixes=("2001:db8:0:0:9::/80",)), eni("e-z", prefixes=1)
    got = built(node(late, first, releasing=("10.0.1.5",))).interfaces
    assert [each.id for each in got] == ["e-z", "e-a"]
    assert (got[0].prefixes, got[0].cidr, got[0].gateway) == (("10.0.0.64/28",), "10.0.0.0/20", "10.0.0.1")
    assert got[0].ipv6 is None
    assert got[1].addresses == ("10.0.1.6",)
    assert got[1].ipv6 is not None
    assert (got[1].ipv6.gateway, got[1].ipv6.prefixes) == ("2001:db8::1", ("2001:db8:0:0:9::/80",))


def test_only_attached_managed_enis_of_this_instance_are_published():
    hidden = (
        eni("e1", index=1, attachment=Attachment.DETACHING),
        eni("e2", index=2, instance_id="i-other"),
        eni("e3", index=1, tags={"no": "touch"}),
        eni("e4", index=2, primary=""),
    )
    got = built(node(eni(), *hidden, class_=eni_class(exclude_tags={"no": "touch"})))
    assert [each.id for each in got.interfaces] == ["eni-0"]


def test_the_write_that_publishes_an_eni_removes_its_intent_and_no_other():
    mine, other = (
        PendingInterface(token=token, since=stamps.stamp(NOW), card=0, index=index, count=1)
        for token, index in (("t", 1), ("u", 2))
    )
    got = built(node(eni(), eni("e1", index=1, tags={TAG_TOKEN: "t"}), pending=(mine, other)))
    assert got.pending == (other,)


def test_capacity_counts_what_is_published():
    got = built(node(eni(singles=3), eni("e1", index=1, prefixes=1), releasing=("10.0.0.5",)))
    assert got.capacity == Capacity(slots=27, used_slots=4, provisioned=18)
    assert built(node(limits=None)).capacity.slots == 0


def by_type(got):
    return {each.type: each for each in got.conditions}


def test_conditions_say_filled_filling_waiting_or_at_capacity():
    filled = by_type(built(node(eni(singles=8))))
    assert (filled["Ready"].status, filled["Ready"].reason) == ("True", Reason.POOL_FILLED)
    filling = by_type(built(node(bound=20)))
    assert (filling["Ready"].status, filling["Ready"].reason) == ("False", Reason.FILLING)
    waiting = by_type(built(node(bound=20), Plan(wait=Reason.SUBNET_EXHAUSTED, message="s-1")))
    assert (waiting["Ready"].status, waiting["Ready"].reason) == ("False", Reason.SUBNET_EXHAUSTED)
    full = by_type(built(node(bound=20), Plan(wait=Reason.AT_CAPACITY, message="27 slots")))
    assert (full["Ready"].status, full["AtCapacity"].status, full["AtCapacity"].message) == ("True", "True", "27 slots")
    silent = by_type(built(node(), agent_silent=True))
    assert silent["AgentSilent"].status == "True"


def test_a_transition_time_is_kept_while_the_status_is_the_same():
    first = built(node(bound=20))
    later = node(bound=20, published=first)
    waiting = by_type(built(later, Plan(wait=Reason.SUBNET_EXHAUSTED, message="s-1"), now=NOW + 60))
    assert waiting["Ready"].last_transition_time == stamps.stamp(NOW)
    filled = by_type(built(node(eni(singles=8), published=first), now=NOW + 60))
    assert filled["Ready"].last_transition_time == stamps.stamp(NOW + 60)


def test_equal_facts_give_an_equal_status_and_nothing_to_write():
    snapshot = node(eni(singles=8))
    first = built(snapshot)
    again = built(replace(snapshot, published=first), now=NOW + 999)
    assert status.changed_parts(first, again) == {}


def test_a_pod_more_or_less_changes_no_condition():
    one, two = (built(node(eni(singles=8), demand=Demand(in_use=used))) for used in (1, 2))
    assert status.changed_parts(one, two) == {}


def test_changed_parts_are_wire_names_and_null_deletes():
    before = built(node(eni(singles=8)), reclaim=Reclaim(count=2, since=stamps.stamp(NOW)))
    after = built(node(eni(singles=8), published=before))
    assert status.changed_parts(before, after) == {"reclaim": None}
    parts = status.changed_parts(ENINodeStatus(), after)
    assert {"instanceID", "class", "vpcCIDRs", "interfaces"} <= set(parts)
    decoded = msgspec.convert({key: parts[key] for key in parts}, ENINodeStatus)
    assert decoded.interfaces == after.interfaces


def test_stamps_are_utc_seconds_and_read_back():
    assert stamps.stamp(NOW + 0.9) == "2027-01-15T08:00:00Z"
    assert stamps.unix(stamps.stamp(NOW)) == NOW
    with pytest.raises(ValueError, match="time zone"):
        stamps.unix("2027-01-15T08:00:00")


# --- the agent's report ---


def seen(provisioned=8, slots=27, used=8, **more):
    shown = Interface(id="e", card=0, index=1, addresses=("10.0.0.5",))
    facts = {"class_": ClassStatus(pool=PoolLevels()), "interfaces": (shown,), **more}
    return ENINodeStatus(capacity=Capacity(slots=slots, used_slots=used, provisioned=provisioned), **facts)


def spec(in_use=4, waiting=0, **more):
    return ENINodeSpec(instance=InstanceFacts(id="i-1"), demand=Demand(in_use=in_use, waiting=waiting), **more)


def decision(before, after, view=None, now=10.0):
    return report.decide(report.ReportState(before, 0.0, 30.0), after, view or seen(), now)


def test_the_first_report_and_another_instance_are_written_at_once():
    assert decision(None, spec()).write_now
    other = ENINodeSpec(instance=InstanceFacts(id="i-2"))
    assert decision(spec(), other).write_now


def test_unchanged_is_never_written():
    answer = decision(spec(), spec(), now=1e9)
    assert (answer.write_now, answer.due_at) == (False, None)


def test_a_new_deficit_is_written_at_once_an_old_one_and_small_changes_wait():
    assert decision(spec(4), spec(5)).write_now
    assert not decision(spec(5), spec(6)).write_now
    calm = decision(spec(3), spec(4))
    assert (calm.write_now, calm.due_at) == (False, 30.0)
    assert decision(spec(3), spec(4), now=30.0).write_now


def test_at_capacity_a_deficit_is_no_news():
    assert not decision(spec(4), spec(9), seen(slots=8)).write_now
    capped = seen(class_=ClassStatus(pool=PoolLevels(max_allocate=8)))
    assert not decision(spec(4), spec(9), capped).write_now


def test_a_reclaim_is_answered_and_an_address_taken_back_at_once_but_the_rest_waits():
    assert decision(spec(), spec(yielded=("10.0.0.5",))).write_now
    assert decision(spec(yielded=("10.0.0.5",)), spec()).write_now
    assert not decision(spec(yielded=("10.0.9.9",)), spec()).write_now


def test_a_pod_s_new_address_is_reported_at_once_where_all_nodes_wait_for_it_and_one_that_went_is_not():
    here = EndpointRecord(addresses=("10.0.0.5",), pod_uid="u")
    moved = EndpointRecord(addresses=("10.0.0.6",), pod_uid="u")
    for before, after, at_once in (((), (here,), True), ((here,), (moved,), True), ((here,), (), False)):
        states = [report.ReportState(spec(endpoints=before), 0.0, 30.0, endpoints_now=now) for now in (False, True)]
        answers = [report.decide(state, spec(endpoints=after), seen(), 10.0).write_now for state in states]
        assert answers == [False, at_once]


def test_before_a_class_is_published_there_is_no_deficit():
    assert not report.is_deficit(Demand(waiting=5), ENINodeStatus())
