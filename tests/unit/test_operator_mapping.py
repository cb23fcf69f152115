"""When the /28 maps of subnets are read."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from support.ipam_facts import GROUPS, subnet
from support.virtual_loop import run_virtual, virtual_loop

from enitide_api.errors import EC2Unavailable
from enitide_ipam.model import EniView, RouteTableView
from enitide_operator.book import Book
from enitide_operator.ec2.port import Read, VpcView
from enitide_operator.mapping import MapReader
from enitide_operator.tasks import Tasks

pytestmark = pytest.mark.unit


class Ec2:
    """Answers after 2 s; remembers when it was asked for which subnet."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str]] = []
        self.fails = False

    async def interfaces(self, query) -> Read:
        asked_at = virtual_loop().time()
        self.asked.append((asked_at, query.subnet_ids[0]))
        await asyncio.sleep(2)
        if self.fails:
            raise EC2Unavailable("down")
        return Read((EniView("e", primary="10.0.0.9"),), asked_at)

    async def reservations(self, _subnet_id: str) -> Read:
        return Read((), virtual_loop().time())

    async def subnets(self, _vpc_id: str) -> Read:
        return Read((subnet(free=58, cidr="10.0.0.0/26"),), virtual_loop().time())


class Reading:
    def __init__(self) -> None:
        self.ec2, self.book, self.told = Ec2(), Book(), []
        tables = Read((RouteTableView("rt", "vpc-1", main=True),), 0.0)
        views = Read((subnet(free=58, cidr="10.0.0.0/26"), subnet("s-2", cidr="10.0.1.0/26")), 0.0)
        self.book.merge("vpc-1", views, Read(GROUPS, 0.0), tables, Read((VpcView("vpc-1", ()),), 0.0))
        self.tasks = Tasks(lambda: None)
        self.maps = MapReader(
            self.ec2,
            self.book,
            cluster="demo",
            interval_s=3600.0,
            rng=Random(1),
            tasks=self.tasks,
            now=virtual_loop().time,
            instances=frozenset,
            on_map=self.told.append,
        )

    def times(self) -> list[float]:
        return [round(at) for at, _ in self.ec2.asked]


def reads(scenario) -> None:
    async def run() -> None:
        reading = Reading()
        await scenario(reading)
        reading.tasks.cancel()
        await asyncio.sleep(0)

    run_virtual(run())


def test_planning_waits_for_the_first_reading_of_what_it_needs_and_only_that_is_read_hourly() -> None:
    async def scenario(it: Reading) -> None:
        assert not it.maps.want(["s-1"])
        assert not it.maps.want(["s-1"])
        await asyncio.sleep(2.5)
        assert it.maps.want(["s-1"])
        assert it.told == ["s-1"]
        assert it.book.subnet("s-1", 3.0).whole_prefixes == 2
        await asyncio.sleep(2 * 3600)
        assert {name for _, name in it.ec2.asked} == {"s-1"}
        assert len(it.ec2.asked) == 3

    reads(scenario)


def test_one_that_cannot_be_read_keeps_nobody_waiting_and_is_tried_again() -> None:
    async def scenario(it: Reading) -> None:
        it.ec2.fails = True
        it.maps.want(["s-1"])
        await asyncio.sleep(2.5)
        assert it.maps.want(["s-1"])
        assert it.book.subnet("s-1", 3.0).whole_prefixes is None
        it.ec2.fails = False
        await asyncio.sleep(60)
        assert it.book.subnet("s-1", 60.0).whole_prefixes == 2

    reads(scenario)


def test_a_refusal_is_followed_by_a_reading_that_was_asked_for_after_it_ever_later_while_they_go_on() -> None:
    async def scenario(it: Reading) -> None:
        it.maps.want(["s-1"])
        await asyncio.sleep(1)
        it.maps.refused("s-1")  # while the first is under way: that one may be too old
        await asyncio.sleep(4)
        assert it.times() == [0, 2]
        for _ in range(100):
            it.maps.refused("s-1")
            await asyncio.sleep(3)
        assert len(it.ec2.asked) <= 12
        it.maps.refused("s-2")  # nobody wants that one

    reads(scenario)


def test_an_old_map_that_shows_none_is_read_again_before_planning_goes_on_and_a_young_one_is_not() -> None:
    async def scenario(it: Reading) -> None:
        it.maps.want(["s-1"])
        await asyncio.sleep(100)
        assert it.maps.want(["s-1"], fresh=True)
        await asyncio.sleep(300)
        assert it.maps.want(["s-1"])
        assert not it.maps.want(["s-1"], fresh=True)
        assert not it.maps.want(["s-1"], fresh=True)
        await asyncio.sleep(2.5)
        assert it.maps.want(["s-1"], fresh=True)
        assert it.times() == [0, 400]

    reads(scenario)


def test_a_subnet_that_has_gone_from_its_vpc_is_read_no_more() -> None:
    async def scenario(it: Reading) -> None:
        it.maps.want(["s-1"])
        await asyncio.sleep(10)
        tables = Read((RouteTableView("rt", "vpc-1", main=True),), 11.0)
        it.book.merge("vpc-1", Read((), 11.0), Read(GROUPS, 11.0), tables, Read((VpcView("vpc-1", ()),), 11.0))
        await asyncio.sleep(3 * 3600)
        assert it.times() == [0]

    reads(scenario)
