import pytest

from enitide_api.reasons import Reason
from enitide_api.resources import (
    Capacity,
    ClassStatus,
    Condition,
    Demand,
    ENIClass,
    ENINode,
    ENINodeSpec,
    ENINodeStatus,
    Metadata,
)
from enitide_ipam.explain import EC2, LINK_OF, Holds, broken_link, node_links

pytestmark = pytest.mark.unit
# Reasons of a node's condition Ready that are no fault, or are told of other things than nodes
ELSEWHERE = {"PoolFilled", "RoomLeft", "ClassValid"}


def node(reason="PoolFilled", status="True", *, generation=2, provisioned=8, demand=None):
    ready = Condition(type="Ready", status=status, reason=reason, message="m", last_transition_time="")
    return ENINode(
        metadata=Metadata(name="n"),
        spec=ENINodeSpec(demand=demand or Demand()),
        status=ENINodeStatus(
            class_=ClassStatus(generation=generation),
            capacity=Capacity(slots=27, used_slots=8, provisioned=provisioned),
            conditions=(ready,),
        ),
    )


def link(name, of, class_=None, bound=0):
    return next(each for each in node_links(of, class_, (), bound) if each.name == name)


def test_a_class_that_has_changed_and_is_not_in_use_yet_makes_its_link_wait():
    newer = ENIClass(metadata=Metadata(name="default", generation=3))
    assert link("class", node(), newer).holds is Holds.WAITS
    assert link("class", node(generation=3), newer).holds is Holds.OK


def test_the_tide_waits_where_it_is_short_and_says_by_how_much():
    found = link("tide", node("SubnetExhausted", "False", provisioned=2, demand=Demand(in_use=2)))
    assert found.holds is Holds.WAITS
    assert "4 short" in found.says


def test_pods_that_only_the_operator_sees_count_in_the_tide():
    assert link("tide", node(provisioned=8), bound=12).holds is Holds.WAITS


def test_a_full_node_is_broken_at_its_slots_though_it_is_ready():
    assert link("slots", node("AtCapacity", "True")).holds is Holds.BROKEN


@pytest.mark.parametrize("reason", [each for each in Reason if each.value not in ELSEWHERE])
def test_every_reason_breaks_exactly_one_link_or_one_above_the_class(reason):
    of = node(reason.value, "False")
    broken = [each for each in node_links(of, None, (), 0) if each.holds is not Holds.OK and each.reason == reason]
    assert len(broken) == (0 if LINK_OF.get(reason, EC2) in ("agent", "operator") else 1)
    assert broken_link(of)[1] == reason


def test_a_reason_that_this_version_does_not_know_is_shown_as_ec2s():
    assert broken_link(node("SomethingNew", "False"))[:2] == (EC2, "SomethingNew")


def test_a_node_that_nobody_has_spoken_of_waits_for_the_operator():
    assert broken_link(ENINode())[:2] == ("operator", "AddressPending")
