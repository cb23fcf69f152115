"""The books of one subnet: what readings say, what we took since, and what EC2 refused."""

from __future__ import annotations

import pytest
from support.ipam_facts import GROUPS, subnet

from enitide_ipam.block_reading import block_map
from enitide_ipam.blocks import CidrReservation
from enitide_ipam.model import AssignAddresses, AssignPrefixes, EniView, RouteTableView
from enitide_operator.book import Book
from enitide_operator.ec2.port import Read, VpcView

pytestmark = pytest.mark.unit

CIDR = "10.0.0.0/26"  # four /28s, of which AWS's five addresses break two


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"10.0.0.{number}" for number in numbers)


def reading(*held: int, asked_at: float = 10.0, reserved: str = "", kind: str = "prefix"):
    reservations = [CidrReservation("r", reserved, kind)] if reserved else []
    return block_map(CIDR, [EniView("x", addresses=names(*held))], reservations, cluster="demo", asked_at=asked_at)


class Books:
    """One subnet with a map that planning rests on."""

    def __init__(self, *held: int, free: int | None = None, **more: str) -> None:
        self.book = Book()
        blocks = reading(*held, **more)
        count = blocks.free if free is None else free
        tables = Read((RouteTableView("rt", "vpc-1", main=True),), 10.0)
        views = Read((subnet(free=count, cidr=CIDR),), 10.0)
        self.book.merge("vpc-1", views, Read(GROUPS, 10.0), tables, Read((VpcView("vpc-1", (CIDR,)),), 10.0))
        self.book.plan_by_map("s-1")
        self.book.merge_map("s-1", blocks, 10.5)

    def view(self, now: float = 20.0):
        return self.book.subnet("s-1", now)

    def named(self, *numbers: int):
        return self.book.debit(AssignAddresses("e", "s-1", len(numbers), "", names(*numbers)))


def test_what_is_ordered_by_name_is_nobody_elses_to_name_and_comes_back_when_it_was_not_taken():
    books = Books()
    assert books.view().blocks.pick(2) == names(4, 5)
    ticket = books.named(4, 5)
    assert books.view().blocks.pick(2) == names(6, 7)
    assert books.view().free == 57
    books.book.refund(ticket)
    assert books.view().blocks.pick(2) == names(4, 5)
    assert books.view().free == 59


def test_a_prefix_on_order_is_one_whole_block_less_until_the_answer_says_which():
    books = Books()
    ticket = books.book.debit(AssignPrefixes("e", "s-1", 1, ""))
    assert (books.view().whole_prefixes, books.view().free) == (1, 43)
    books.book.settle(ticket, 15.0, (), ("10.0.0.32/28",))
    assert (books.view().whole_prefixes, books.view().free) == (1, 43)
    assert books.view().blocks.pick(99)[-1] == "10.0.0.31"
    books.book.credit("s-1", 16, 16.0, prefixes=("10.0.0.32/28",))
    assert (books.view().whole_prefixes, books.view().free) == (2, 59)


def test_a_prefix_out_of_a_reservation_costs_the_count_nothing():
    books = Books(reserved="10.0.0.16/28")
    assert (books.view().whole_prefixes, books.view().free) == (2, 43)
    ticket = books.book.debit(AssignPrefixes("e", "s-1", 1, ""))
    assert books.view().whole_prefixes == 1
    books.book.settle(ticket, 15.0, (), ("10.0.0.16/28",))
    assert (books.view().whole_prefixes, books.view().free) == (1, 43)


def test_a_reading_does_not_undo_what_was_answered_shortly_before_it_was_asked_for():
    books = Books()
    books.book.settle(books.named(4), 95.0, names(4))
    books.book.settle(books.named(5), 80.0, names(5))
    books.book.merge_map("s-1", reading(asked_at=100.0), 100.5)
    assert books.view(101.0).blocks.pick(2) == names(5, 6)  # .5 was answered long enough before: somebody unassigned it
    books.book.merge_map("s-1", reading(4, 5, 6, asked_at=50.0), 102.0)
    assert books.view(103.0).blocks.pick(1) == names(5)  # an older reading says nothing


def test_an_address_that_was_refused_is_left_alone_for_an_hour_or_until_a_reading_shows_who_has_one_of_them():
    books = Books()
    books.book.doubt("s-1", names(4, 5), 20.0)
    assert books.view(21.0).blocks.pick(1) == names(6)
    books.book.merge_map("s-1", reading(asked_at=22.0), 22.5)
    assert books.view(1000.0).blocks.pick(1) == names(6)
    books.book.merge_map("s-1", reading(5, asked_at=2000.0), 2000.5)
    assert books.view(2001.0).blocks.pick(1) == names(4)
    books.book.doubt("s-1", names(4), 3000.0)
    books.book.merge_map("s-1", reading(asked_at=6700.0), 6700.5)
    assert books.view(6701.0).blocks.pick(1) == names(4)


def test_after_two_refusals_within_a_minute_ec2_chooses_for_a_minute():
    books = Books()
    books.book.doubt("s-1", names(4), 20.0)
    assert books.view(21.0).blocks is not None
    books.book.doubt("s-1", names(6), 50.0)
    assert books.view(51.0).blocks is None
    assert books.view(51.0).whole_prefixes == 2
    assert books.view(111.0).blocks is not None


def test_a_map_of_a_subnet_that_is_mostly_another_accounts_is_not_believed():
    books = Books(free=12)
    assert (books.view().blocks, books.view().whole_prefixes, books.view().free) == (None, None, 12)
    assert Books(free=55).view().blocks is not None  # a few unseen ones cost a refusal now and then, no more


def test_a_refused_28_holds_for_five_minutes_unless_the_map_shows_none_itself_and_then_one_again():
    books = Books()
    books.book.refused("s-1", 20.0, prefixes=True)
    assert books.view(300.0).whole_prefixes == 0
    assert books.view(321.0).whole_prefixes == 2
    books.book.refused("s-1", 400.0, prefixes=True)
    books.book.merge_map("s-1", reading(20, 40, asked_at=401.0), 401.5)
    assert books.view(402.0).whole_prefixes == 0
    books.book.credit("s-1", 1, 410.0, singles=names(20))
    assert books.view(411.0).whole_prefixes == 1


def test_a_map_that_is_only_shown_changes_no_plan():
    books = Books()
    other = Book()
    tables = Read((RouteTableView("rt", "vpc-1", main=True),), 10.0)
    views = Read((subnet(free=59, cidr=CIDR),), 10.0)
    other.merge("vpc-1", views, Read(GROUPS, 10.0), tables, Read((VpcView("vpc-1", (CIDR,)),), 10.0))
    other.merge_map("s-1", reading(), 10.5)
    assert (other.subnet("s-1", 20.0).blocks, other.subnet("s-1", 20.0).whole_prefixes) == (None, None)
    assert other.map_of("s-1") is not None
    assert books.view().blocks is not None
