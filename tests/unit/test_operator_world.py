"""What the operator believes of EC2: no older reading erases newer facts, and debits hold between readings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enitide_api.resources import InterfacePolicy
from enitide_ipam.capacity import is_excluded
from enitide_ipam.model import (
    TAG_CLUSTER,
    TAG_TOKEN,
    AssignAddresses,
    Attachment,
    CreateInterface,
    EniView,
    RouteTableView,
    SubnetView,
)
from enitide_operator.book import Book
from enitide_operator.ec2.port import Read, VpcView
from enitide_operator.world import SETTLE_S, World

pytestmark = pytest.mark.unit


def eni(name: str, *addresses: str, instance: str = "i-1", index: int = 0, token: str = "") -> EniView:
    return EniView(
        id=name,
        subnet_id="s",
        index=index,
        primary="10.0.0.4",
        addresses=addresses,
        instance_id=instance,
        attachment=Attachment.ATTACHED if instance else Attachment.DETACHED,
        tags={TAG_TOKEN: token} if token else {},
    )


def read(asked_at: float, *enis: EniView) -> Read[EniView]:
    return Read(enis, asked_at)


def test_a_reading_asked_for_before_a_mutation_was_answered_changes_nothing_about_that_eni() -> None:
    world = World()
    world.merge_instance("i-1", read(100.0, eni("a")))
    world.gained("a", 110.0, addresses=("10.0.0.9",))
    world.merge_instance("i-1", read(105.0, eni("a")))
    assert world.enis_of("i-1")[0].addresses == ("10.0.0.9",)


def test_a_reading_soon_after_a_mutation_may_lag_and_is_not_believed_but_a_later_one_is() -> None:
    world = World()
    world.merge_instance("i-1", read(100.0, eni("a", "10.0.0.9")))
    world.lost("a", {"10.0.0.9"}, 110.0)
    world.merge_instance("i-1", read(111.0, eni("a", "10.0.0.9")))
    assert world.enis_of("i-1")[0].addresses == ()
    assert world.settled_at("i-1") == 110.0 + SETTLE_S
    world.merge_instance("i-1", read(110.0 + SETTLE_S, eni("a", "10.0.0.9")))
    assert world.enis_of("i-1")[0].addresses == ("10.0.0.9",)


def test_an_eni_just_made_is_not_lost_to_a_reading_that_does_not_show_it_yet() -> None:
    world = World()
    world.merge_instance("i-1", read(100.0, eni("a")))
    world.made(eni("b", instance="", token="t"), 110.0)
    world.attached("b", "attach-1", "i-1", (0, 1), 111.0)
    world.merge_instance("i-1", read(112.0, eni("a")))
    assert [each.id for each in world.enis_of("i-1")] == ["a", "b"]
    world.merge_instance("i-1", read(200.0, eni("a")))
    assert [each.id for each in world.enis_of("i-1")] == ["a"]


@pytest.mark.parametrize(
    ("tags", "cluster", "foreign"),
    [({}, "blue", False), ({TAG_CLUSTER: "blue"}, "blue", False), ({TAG_CLUSTER: "red"}, "blue", True),
     ({TAG_CLUSTER: ""}, "blue", False), ({TAG_CLUSTER: "red"}, "", False)],
)  # fmt: skip
def test_an_eni_with_another_clusters_tag_is_excluded_unless_we_have_no_name(
    tags: dict[str, str], cluster: str, foreign: bool
) -> None:
    world = World(cluster)
    world.merge_instance("i-1", read(100.0, replace(eni("a"), tags=tags)))
    seen = world.enis_of("i-1")[0]
    assert seen.foreign is foreign
    assert is_excluded(seen, InterfacePolicy()) is foreign
    world.merge_instance("i-1", read(200.0, replace(eni("a"), tags={})))  # the tag is taken away
    assert not world.enis_of("i-1")[0].foreign


def test_a_deleted_eni_does_not_come_back_by_a_lagging_reading() -> None:
    world = World()
    world.made(eni("b", instance="", token="t"), 100.0)
    world.deleted("b", 110.0)
    world.merge_some(read(111.0, eni("b", instance="", token="t")))
    assert world.by_token("t") is None


def test_an_empty_reading_erases_nothing() -> None:
    world = World()
    world.merge_instance("i-1", read(100.0, eni("a")))
    world.merge_instance("i-1", read(500.0))
    assert len(world.enis_of("i-1")) == 1


def test_a_listing_by_token_says_nothing_about_the_others() -> None:
    world = World()
    world.merge_instance("i-1", read(100.0, eni("a"), eni("b", index=1)))
    world.merge_some(read(500.0, eni("c", instance="", token="t")))
    assert len(world.enis_of("i-1")) == 2
    assert [each.id for each in world.enis_of("i-1", ("t",))] == ["a", "c", "b"]


def test_an_eni_that_moves_to_another_instance_leaves_the_first() -> None:
    world = World()
    world.merge_instance("i-1", read(100.0, eni("a"), eni("b", index=1)))
    world.merge_instance("i-2", read(200.0, eni("b", instance="i-2", index=1)))
    assert [each.id for each in world.enis_of("i-1")] == ["a"]
    assert [each.id for each in world.enis_of("i-2")] == ["b"]
    world.forget_instance("i-2")
    assert len(world) == 1


SUBNET = SubnetView(id="s", vpc_id="v", zone="z", cidr="10.0.0.0/24", free=100)


def book(free: int = 100, asked_at: float = 100.0) -> Book:
    made = Book()
    subnets = Read((replace(SUBNET, free=free),), asked_at)
    tables = Read((RouteTableView("rt", "v", main=True),), asked_at)
    made.merge("v", subnets, Read((), asked_at), tables, Read((VpcView("v", ("10.0.0.0/16",)),), asked_at))
    return made


def free(made: Book, now: float = 1000.0) -> int:
    return made.subnets("v", now)[0].free


ASSIGN = AssignAddresses("a", "s", 9, "")
CREATE = CreateInterface(
    token="t",
    subnet_id="s",
    card=0,
    index=1,
    groups=(),
    addresses=9,
    prefixes=0,
    ipv6=False,
    tags={},
    delete_on_termination=True,
    description="",
    reason="",
)


def test_what_is_planned_is_debited_at_once_and_given_back_if_it_was_not_taken() -> None:
    made = book()
    ticket = made.debit(CREATE)
    assert free(made) == 90  # nine and the ENI's own
    made.refund(ticket)
    assert free(made) == 100


def test_a_reading_replaces_what_it_can_have_seen_and_no_more() -> None:
    made = book()
    seen, unseen, under_way = made.debit(ASSIGN), made.debit(ASSIGN), made.debit(ASSIGN)
    made.settle(seen, 150.0)
    made.merge_counts("v", Read((replace(SUBNET, free=91),), 200.0))
    made.settle(unseen, 250.0)
    assert free(made) == 91 - 9 - 9
    made.refund(under_way)
    made.refund(unseen)  # settled: a refund afterwards is nothing
    assert free(made) == 91 - 9


def test_a_refused_subnet_has_no_room_until_it_is_read_again() -> None:
    made = book()
    assert made.refused("s", 150.0, prefixes=False) == "v"
    assert free(made) == 0
    made.merge_counts("v", Read((SUBNET,), 140.0))
    assert free(made) == 0  # asked for before the refusal
    made.merge_counts("v", Read((SUBNET,), 160.0))
    assert free(made) == 100


def test_a_refused_prefix_is_tried_again_after_a_while_and_singles_stay() -> None:
    made = book()
    made.refused("s", 150.0, prefixes=True)
    assert made.subnets("v", 151.0)[0].whole_prefixes == 0
    assert made.subnets("v", 151.0)[0].free == 100
    assert made.subnets("v", 1000.0)[0].whole_prefixes is None


def test_addresses_given_back_are_credited_and_an_older_reading_changes_nothing() -> None:
    made = book(free=0, asked_at=100.0)
    made.credit("s", 5, 150.0)
    assert free(made) == 5
    made.merge_counts("v", Read((replace(SUBNET, free=77),), 90.0))
    assert free(made) == 5


def test_the_main_table_governs_a_subnet_without_an_association_of_its_own() -> None:
    made = book()
    made.merge_counts("v", Read((SUBNET,), 200.0))
    assert made.subnets("v", 0.0)[0].route_table == "rt"
    assert made.cidrs("v") == ("10.0.0.0/16",)
