"""What holds of plans whatever the world: many nodes planning one after another on the operator's own books."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ipam_facts import GROUPS, SETTINGS, eni, eni_class, node, shape, subnet

from enitide_api.resources import Demand, PoolLevels
from enitide_ipam.addresses import parse, text
from enitide_ipam.block_reading import block_map
from enitide_ipam.model import AssignAddresses, AssignPrefixes, CreateInterface, EniView, RouteTableView
from enitide_ipam.plan import debits, node_tide, plan_node
from enitide_operator.book import Book
from enitide_operator.ec2.port import Read, VpcView

pytestmark = pytest.mark.unit

NETS = ("10.0.0.0/26", "10.0.1.0/26")
NAMES = ("s-1", "s-2")


@dataclass(frozen=True)
class Ground:
    """Per subnet: which of its 64 addresses somebody holds, and whether its map has been read."""

    held: tuple[frozenset[int], frozenset[int]]
    mapped: tuple[bool, bool]


def ground_of(book: Book, ground: Ground) -> None:
    views = []
    for name, cidr, held in zip(NAMES, NETS, ground.held, strict=True):
        usable = 59 - len([each for each in held if 4 <= each < 63])
        views.append(subnet(name, free=usable, cidr=cidr))
    tables = Read((RouteTableView("rt", "vpc-1", main=True),), 1.0)
    book.merge("vpc-1", Read(tuple(views), 1.0), Read(GROUPS, 1.0), tables, Read((VpcView("vpc-1", NETS),), 1.0))
    for name, cidr, held, mapped in zip(NAMES, NETS, ground.held, ground.mapped, strict=True):
        if mapped:
            book.plan_by_map(name)
            addresses = tuple(text(parse(cidr.partition("/")[0]) + each) for each in sorted(held))
            book.merge_map(name, block_map(cidr, [EniView("x", addresses=addresses)], [], cluster="demo"), 2.0)


# of each /28: nothing held, all, or any part
BLOCK = st.one_of(st.just(0), st.just(0xFFFF), st.integers(0, 0xFFFF), st.integers(1, 0x00FF))
HELD = st.tuples(BLOCK, BLOCK, BLOCK, BLOCK).map(
    lambda words: frozenset(each for each in range(4, 63) if words[each >> 4] >> (each & 15) & 1)
)
MAPPED = st.sampled_from([True, True, True, False])
GROUNDS = st.builds(Ground, st.tuples(HELD, HELD), st.tuples(MAPPED, MAPPED))
POOLS = st.builds(
    PoolLevels,
    pre_allocate=st.integers(0, 6),
    min_allocate=st.just(0),
    max_allocate=st.none() | st.integers(0, 40),
    max_above_watermark=st.integers(0, 6),
)
CLASSES = st.builds(
    lambda pool, prefixes, own, first, cards: eni_class(
        pool=pool, prefixes=prefixes, use_primary_address=own, first_index=first, cards=cards
    ),
    POOLS,
    st.booleans(),
    st.booleans(),
    st.integers(0, 1),
    st.sampled_from([(0,), (0, 1), (1,)]),
)
LIMITS = st.builds(shape, st.sampled_from([(1,), (3,), (2, 3)]), st.integers(2, 7))
DEMANDS = st.builds(Demand, in_use=st.integers(0, 20), cooling=st.integers(0, 2), waiting=st.integers(0, 3))
NODES = st.builds(
    lambda limits, class_, demand, bound, singles, home: node(
        eni(singles=min(singles, limits.ipv4_per_interface - 1), subnet_id=home),
        limits=limits,
        class_=class_,
        demand=demand,
        bound=bound,
    ),
    LIMITS,
    CLASSES,
    DEMANDS,
    st.integers(0, 40),
    st.integers(0, 6),
    st.sampled_from(NAMES),
)


@settings(max_examples=150, deadline=None)
@given(ground=GROUNDS, nodes=st.lists(NODES, min_size=1, max_size=5))
def test_however_many_nodes_plan_at_once_no_subnet_is_overdrawn_no_address_named_twice_no_maximum_passed(ground, nodes):
    book = Book()
    ground_of(book, ground)
    named: set[str] = set()
    for snapshot in nodes:
        views = {each.id: each for each in book.subnets("vpc-1", 3.0)}
        plan = plan_node(snapshot, views.values(), GROUPS, SETTINGS, 3.0)
        check_maximum(snapshot, plan, views)
        for name, (addresses, prefixes) in debits(plan).items():
            assert addresses <= views[name].free
            assert views[name].whole_prefixes is None or prefixes <= views[name].whole_prefixes
        names = check_names(plan, views)
        assert not names & named
        named |= names
        for action in plan.actions:
            book.debit(action)


def check_maximum(snapshot, plan, views) -> None:
    before = node_tide(snapshot, snapshot.limits, views.values())
    after = node_tide(replace(snapshot, in_flight=plan.actions), snapshot.limits, views.values())
    maximum = snapshot.class_.pool.max_allocate
    if maximum is not None:
        assert after.expected <= max(maximum, before.expected)


def check_names(plan, views) -> set[str]:
    """Each address named once, free, in the subnet that is asked; a whole /28 broken only when no broken one serves."""
    names: list[str] = []
    for action in plan.actions:
        if not isinstance(action, AssignAddresses | CreateInterface) or not action.names:
            continue
        blocks = views[action.subnet_id].blocks
        assert blocks is not None
        own = isinstance(action, CreateInterface)
        singles = action.addresses if own else action.count
        assert len(action.names) == singles + own
        names += action.names
    assert len(names) == len(set(names))
    for name, view in views.items():
        mine = [each for each in names if inside(each, view.cidr)]
        if view.blocks is None:
            assert not mine
            continue
        assert not any(view.blocks.holds(parse(each)) for each in mine)
        after = view.blocks.taken(mine)
        needed = max(0, len(mine) - view.blocks.broken_room)
        assert view.blocks.open_whole - after.open_whole == -(-needed // 16), name
    return set(names)


def inside(address: str, cidr: str) -> bool:
    base = parse(cidr.partition("/")[0])
    return base <= parse(address) < base + 64


@settings(max_examples=150, deadline=None)
@given(ground=GROUNDS, snapshot=NODES)
def test_a_last_whole_28_is_never_broken_by_a_named_address_while_any_broken_block_of_that_subnet_has_room(
    ground, snapshot
):
    book = Book()
    ground_of(book, replace(ground, mapped=(True, True)))
    views = {each.id: each for each in book.subnets("vpc-1", 3.0)}
    plan = plan_node(snapshot, views.values(), GROUPS, SETTINGS, 3.0)
    for action in plan.actions:
        if isinstance(action, AssignAddresses | CreateInterface) and action.names:
            book.debit(action)
            view = book.subnet(action.subnet_id, 3.0)
            assert view is not None
            if view.blocks.open_whole < views[action.subnet_id].blocks.open_whole:
                assert all(index in broken_up(view.blocks, action.names) for index in view.blocks.broken)


def broken_up(blocks, names) -> set[int]:
    """Blocks that these names lie in: the only ones that may have room left once a whole one was opened."""
    return {(parse(each) - blocks.base) // 16 for each in names}


@settings(max_examples=150, deadline=None)
@given(ground=GROUNDS, snapshot=NODES)
def test_a_plan_made_again_while_the_first_is_under_way_orders_nothing(ground, snapshot):
    book = Book()
    ground_of(book, ground)
    plan = plan_node(snapshot, book.subnets("vpc-1", 3.0), GROUPS, SETTINGS, 3.0)
    for action in plan.actions:
        book.debit(action)
    again = plan_node(replace(snapshot, in_flight=plan.actions), book.subnets("vpc-1", 3.0), GROUPS, SETTINGS, 3.0)
    ordered = [each for each in again.actions if isinstance(each, AssignAddresses | AssignPrefixes | CreateInterface)]
    assert not ordered
