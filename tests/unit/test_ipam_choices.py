"""Which subnet, which security groups, which slots."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.ipam_facts import GROUPS, INSTANCE, VPC, eni, eni_class, shape, subnet

from enitide_api.reasons import Reason
from enitide_api.resources import Selector
from enitide_ipam import groups, subnets
from enitide_ipam.capacity import node_capacity
from enitide_ipam.model import Attachment, RouteTableView

pytestmark = pytest.mark.unit

NONE = Selector()


def chosen(*views, selector=NONE, addresses=5, prefixes=0):
    answer = subnets.choose(views, INSTANCE, selector, addresses=0 if prefixes else addresses, prefixes=prefixes)
    return answer.subnet.id if answer.subnet else answer.reason


def test_the_nodes_own_subnet_is_preferred_when_it_has_the_room():
    assert chosen(subnet(free=6), subnet("s-2", free=500)) == "s-1"


def test_own_address_of_the_new_eni_is_counted():
    assert chosen(subnet(free=5), subnet("s-2", free=6)) == "s-2"


def test_a_sibling_of_the_same_route_table_comes_next_and_the_roomiest_last():
    assert chosen(subnet(free=2), subnet("s-2", free=50), subnet("s-3", free=60)) == "s-3"
    assert chosen(subnet(free=2), subnet("s-2", free=4)) == "s-2"


def test_a_subnet_of_another_route_table_zone_or_vpc_is_never_chosen_by_default():
    others = (
        subnet("s-2", route_table="rt-2"),
        subnet("s-3", zone="us-west-1b"),
        subnet("s-4", vpc_id="vpc-2"),
    )
    assert chosen(subnet(free=0), *others) is Reason.SUBNET_EXHAUSTED
    assert subnets.eligible([subnet(), *others], INSTANCE, NONE) == (subnet(),)


def test_unknown_route_tables_are_not_the_same_route_table():
    assert chosen(subnet(free=0, route_table=""), subnet("s-2", route_table="")) is Reason.SUBNET_EXHAUSTED


def test_explicit_ids_and_tags_are_a_hard_rule():
    tagged = subnet("s-2", tags={"use": "pods", "more": "x"}, route_table="rt-9")
    assert chosen(subnet(), tagged, selector=Selector(ids=("s-2",))) == "s-2"
    assert chosen(subnet(), tagged, selector=Selector(tags={"use": "pods"})) == "s-2"
    assert chosen(subnet(), tagged, selector=Selector(ids=("s-9",))) is Reason.NO_ELIGIBLE_SUBNET
    assert chosen(subnet(), tagged, selector=Selector(tags={"use": "pods", "no": "x"})) is Reason.NO_ELIGIBLE_SUBNET


def test_a_refusal_names_what_was_looked_for():
    answer = subnets.choose([subnet()], INSTANCE, Selector(ids=("s-9",)), addresses=1)
    assert "s-9" in answer.message
    full = subnets.choose([subnet(free=0), subnet("s-2", free=0)], INSTANCE, NONE, addresses=1)
    assert "s-1, s-2" in full.message


def test_a_subnet_that_ec2_says_is_gone_takes_no_eni_but_still_tells_the_nodes_route_table():
    assert chosen(replace(subnet(), gone=True), subnet("s-2"), subnet("s-3", route_table="rt-9")) == "s-2"
    answer = subnets.choose([replace(subnet(), gone=True)], INSTANCE, NONE, addresses=1)
    assert answer.reason is Reason.NO_ELIGIBLE_SUBNET
    assert "s-1" in answer.message
    assert chosen(replace(subnet("s-9"), gone=True), selector=Selector(ids=("s-9",))) is Reason.NO_ELIGIBLE_SUBNET


def test_prefixes_need_whole_blocks_and_an_address_for_the_eni_itself():
    assert chosen(subnet(free=100, whole=0), prefixes=1) is Reason.NO_WHOLE_PREFIX
    assert chosen(subnet(free=16, whole=1), subnet("s-2", free=17, whole=1), prefixes=1) == "s-2"
    assert chosen(subnet(free=100, whole=1), subnet("s-2", free=100, whole=2), prefixes=2) == "s-2"


def test_a_subnet_tagged_as_not_for_pods_is_none_unless_a_selector_names_it():
    tagged = {"kubernetes.io/role/cni": "0"}
    assert chosen(subnet(tags=tagged), subnet("s-2")) == "s-2"
    assert chosen(subnet(tags={"kubernetes.io/role/cni": "1"}), subnet("s-2")) == "s-1"
    assert chosen(subnet(tags=tagged), selector=Selector(ids=("s-1",))) == "s-1"
    answer = subnets.choose([subnet(tags=tagged)], INSTANCE, NONE, addresses=1)
    assert answer.reason is Reason.NO_ELIGIBLE_SUBNET
    assert "kubernetes.io/role/cni=0" in answer.message
    elsewhere = subnet("s-2", tags={"kubernetes.io/role/cni": "1"}, route_table="rt-2")
    assert chosen(subnet(free=0), elsewhere) is Reason.SUBNET_EXHAUSTED  # the tag does not undo the route table's rule


def test_the_implicit_main_route_table_counts():
    tables = [
        RouteTableView("rt-main", VPC, main=True),
        RouteTableView("rt-a", VPC, subnet_ids=("s-a", "s-gone")),
        RouteTableView("rt-other", "vpc-2", main=True),
    ]
    assert subnets.route_table_of("s-a", VPC, tables) == "rt-a"
    assert subnets.route_table_of("s-b", VPC, tables) == "rt-main"
    assert subnets.route_table_of("s-b", "vpc-3", tables) == ""


def picked(selector, *enis, known=GROUPS):
    answer = groups.choose(known, VPC, selector, enis)
    return answer.ids or answer.reason


def test_security_groups_are_explicit_then_tags_then_those_of_the_first_eni():
    assert picked(Selector(ids=("sg-c", "sg-a")), eni()) == ("sg-a", "sg-c")
    assert picked(Selector(tags={"team": "a"}), eni()) == ("sg-a", "sg-b")
    assert picked(NONE, eni("e1", index=1, groups=("sg-b",)), eni()) == ("sg-a",)


def test_wrong_security_groups_are_an_error_never_a_fallback():
    assert picked(Selector(ids=("sg-a", "sg-x")), eni()) is Reason.SECURITY_GROUPS_MISSING
    assert picked(Selector(tags={"team": "z"}), eni()) is Reason.SECURITY_GROUPS_MISSING
    assert picked(NONE) is Reason.SECURITY_GROUPS_MISSING
    assert picked(NONE, eni("e", card=1)) is Reason.SECURITY_GROUPS_MISSING
    elsewhere = tuple(replace(each, vpc_id="vpc-2") for each in GROUPS)
    assert picked(Selector(ids=("sg-a",)), eni(), known=elsewhere) is Reason.SECURITY_GROUPS_MISSING


@pytest.mark.parametrize(
    ("limits", "class_", "enis", "slots", "room"),
    [
        (shape((3,), 10), eni_class(), [eni()], 27, 27),
        (shape((3,), 10), eni_class(first_index=1), [eni()], 18, 18),
        (shape((3,), 10), eni_class(first_index=3), [eni()], 0, 0),
        (shape((3,), 4), eni_class(use_primary_address=True), [eni()], 11, 11),
        (shape((2, 2), 10), eni_class(), [eni()], 18, 18),
        (shape((2, 2), 10), eni_class(cards=(0, 1, 7)), [eni()], 36, 36),
        (shape((3,), 10), eni_class(prefixes=True), [eni()], 27, 27 * 16),
        (shape((3,), 10), eni_class(), [eni(), eni("e5", index=5)], 27, 27),
        (shape((3,), 10), eni_class(), [eni(), eni("e1", index=1, attachment=Attachment.ATTACHING)], 27, 27),
        (shape((3,), 10), eni_class(), [eni(), eni("e1", index=1, attachment=Attachment.DETACHING)], 18, 18),
    ],
)
def test_slots_and_room_follow_cards_first_index_primaries_and_prefixes(limits, class_, enis, slots, room):
    capacity = node_capacity(limits, class_, enis, prefix_room=True)
    assert (capacity.slots, capacity.room) == (slots, room)


def test_without_a_whole_prefix_anywhere_a_free_slot_holds_one_address():
    capacity = node_capacity(shape(), eni_class(prefixes=True), [eni(prefixes=2, singles=1)], prefix_room=False)
    assert (capacity.provisioned, capacity.used_slots, capacity.room) == (33, 3, 24)


def test_more_addresses_than_the_table_allows_are_no_negative_room():
    capacity = node_capacity(shape((1,), 3), eni_class(), [eni(singles=5)])
    assert (capacity.room, capacity.free_slots) == (0, 0)
