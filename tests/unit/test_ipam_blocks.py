"""The /28 map: what is free, what is whole, and which address breaks the least."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enitide_ipam.addresses import parse, text
from enitide_ipam.block_reading import block_map
from enitide_ipam.blocks import BlockMap, CidrReservation, Use
from enitide_ipam.model import TAG_CLUSTER, EniView
from enitide_lab.ec2model import EC2Model

pytestmark = pytest.mark.unit

CIDR = "10.0.0.0/26"  # four blocks


def holder(addresses=(), prefixes=(), *, primary="", tags=None, instance=""):
    facts = {"tags": tags or {}, "instance_id": instance}
    return EniView("e", primary=primary, addresses=tuple(addresses), prefixes=tuple(prefixes), **facts)


def mapped(*enis, reservations=(), nodes=(), cidr=CIDR) -> BlockMap:
    return block_map(cidr, enis, reservations, cluster="demo", nodes=nodes, asked_at=7.0)


def test_an_empty_subnet_lacks_the_five_addresses_of_aws_and_the_blocks_they_lie_in():
    empty = mapped()
    assert (empty.free, empty.whole, empty.broken_room) == (59, 2, 27)
    assert empty.broken == (0, 3)  # four addresses of the first are gone, of the last only one
    assert empty.asked_at == 7.0


def test_single_addresses_are_picked_in_the_fullest_broken_block_and_whole_ones_are_opened_last():
    held = mapped(holder([f"10.0.0.{n}" for n in range(48, 62)]))  # the last block has one left: .62
    assert held.pick(1) == ("10.0.0.62",)
    assert held.pick(3) == ("10.0.0.62", "10.0.0.4", "10.0.0.5")
    everything = held.pick(1000)
    assert len(everything) == held.free == 45
    assert everything[13] == "10.0.0.16"  # the first whole block, once all the others are used
    assert set(everything[13:29]) == {f"10.0.0.{n}" for n in range(16, 32)}


def test_an_explicit_reservation_is_nobodys_and_a_prefix_reservation_serves_prefixes_only():
    explicit = mapped(reservations=[CidrReservation("r", "10.0.0.16/29", "explicit")])
    assert (explicit.free, explicit.whole) == (51, 1)
    assert not set(explicit.pick(99)) & {f"10.0.0.{n}" for n in range(16, 24)}
    kept = mapped(reservations=[CidrReservation("r", "10.0.0.16/28", "prefix")])
    assert (kept.free, kept.whole, kept.open_whole, kept.kept_whole) == (43, 2, 1, 1)
    assert not set(kept.pick(99)) & {f"10.0.0.{n}" for n in range(16, 32)}


def test_what_is_taken_is_gone_and_what_is_given_is_back():
    start = mapped()
    taken = start.taken(["10.0.0.20"], ["10.0.0.32/28"])
    assert (taken.free, taken.whole) == (59 - 17, 0)
    assert taken.pick(1) == ("10.0.0.4",)
    assert taken.given(["10.0.0.20"], ["10.0.0.32/28"]) == start
    assert start.whole == 2
    assert taken.taken(["10.0.0.20"]) == taken
    assert start.taken(["10.9.9.9"], ["10.9.9.0/28"]) == start


def test_an_address_that_ec2_refused_is_not_picked_while_it_is_doubted():
    doubted = mapped().doubted([parse("10.0.0.4"), parse("192.0.2.1")])
    assert doubted.pick(1) == ("10.0.0.5",)
    assert doubted.doubts == {parse("10.0.0.4")}
    assert doubted.doubted(()).pick(1) == ("10.0.0.4",)
    assert not doubted.holds(parse("10.0.0.4"))


def test_own_enis_are_those_with_our_tag_and_those_on_our_nodes_and_others_count_by_cluster():
    whole = mapped(
        holder(["10.0.0.10"], ["10.0.0.16/28"], primary="10.0.0.9", tags={TAG_CLUSTER: "demo"}),
        holder(primary="10.0.0.11", instance="i-ours"),
        holder(["10.0.0.13"], primary="10.0.0.12", tags={TAG_CLUSTER: "other"}),
        holder(prefixes=["10.0.0.32/28"], primary="10.0.0.50"),
        nodes={"i-ours"},
    )
    assert (whole.count(Use.OWN), whole.count(Use.OWN_PREFIX)) == (3, 16)
    assert (whole.count(Use.FOREIGN), whole.count(Use.FOREIGN_PREFIX)) == (3, 16)
    assert dict(whole.clusters) == {"other": 2}
    assert (whole.count(Use.AWS), whole.count(Use.FREE)) == (5, whole.free)
    assert [block.cidr for block in whole.blocks()][1] == "10.0.0.16/28"
    assert next(iter(whole.blocks())).uses[9] is Use.OWN


def test_an_ipv6_only_eni_holds_nothing_here_and_a_28_subnet_is_one_broken_block():
    assert mapped(holder(primary="")) == mapped()
    small = mapped(cidr="10.0.0.0/28")
    assert (small.free, small.whole, small.broken) == (11, 0, (0,))


@pytest.mark.parametrize("seed", range(3))
def test_the_map_counts_as_ec2_does(seed):
    """Beside the lab's EC2, through random work on ENIs and reservations: the same free and whole counts."""
    rng = random.Random(seed)
    model = EC2Model(lambda: 0.0, choice="scatter", seed=seed)
    vpc = model.create_vpc(["10.0.0.0/16"]).id
    subnet = model.create_subnet(vpc, "10.0.0.0/24", "a").id
    model.create_subnet_cidr_reservation(subnet, "10.0.0.64/27", "prefix")
    model.create_subnet_cidr_reservation(subnet, "10.0.0.200/29", "explicit")
    for _ in range(6):
        model.place_interface(subnet, count=rng.randint(0, 9), prefix_count=rng.randint(0, 1))
    held = [
        holder(each.addresses[1:], each.prefixes, primary=each.primary or "")
        for each in model.describe_network_interfaces().items
    ]
    kept = [CidrReservation(each.id, each.cidr, each.kind) for each in model.get_subnet_cidr_reservations(subnet)]
    seen, ec2 = mapped(*held, reservations=kept, cidr="10.0.0.0/24"), model.describe_subnets([subnet]).items[0]
    assert (seen.free, seen.whole) == (ec2.free, ec2.whole_prefixes)
    for address in seen.pick(seen.free):  # whatever it picks by name, EC2 grants
        model.place_interface(subnet, address=address)
    assert model.describe_subnets([subnet]).items[0].free == 0


@settings(max_examples=200, deadline=None)
@given(taken=st.sets(st.integers(0, 127)), count=st.integers(0, 140))
def test_a_pick_never_repeats_never_takes_what_is_held_and_breaks_a_whole_block_only_when_no_broken_one_can_serve(
    taken, count
):
    cidr = "10.0.0.0/25"
    held = mapped(holder([text(parse("10.0.0.0") + each) for each in taken]), cidr=cidr)
    picked = held.pick(count)
    assert len(picked) == len(set(picked)) == min(count, held.free)
    assert not any(held.holds(parse(each)) for each in picked)
    after = held.taken(picked)
    assert after.free == held.free - len(picked)
    needed = max(0, len(picked) - held.broken_room)
    assert held.open_whole - after.open_whole == -(-needed // 16)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 127)), max_size=12))
def test_counts_that_follow_a_change_are_those_of_a_map_made_anew(steps):
    """Takes and gives of addresses and blocks, with reservations and doubts about."""
    kept = [CidrReservation("r", "10.0.0.32/28", "prefix"), CidrReservation("s", "10.0.0.80/29", "explicit")]
    now = mapped(holder(["10.0.0.70"]), reservations=kept, cidr="10.0.0.0/25").doubted([parse("10.0.0.100")])
    for counted, take, offset in steps:
        if counted:
            assert now.free >= 0
            assert now.whole >= 0
        address, block = text(parse("10.0.0.0") + offset), text(parse("10.0.0.0") + offset // 16 * 16)
        change = now.taken if take else now.given
        now = change([address], []) if offset % 3 else change([], [f"{block}/28"])
    anew = BlockMap(now.cidr, now.own, now.foreign, now.closed, now.kept, doubts=now.doubts)
    assert (now.held, now.free, now.whole, now.open_whole) == (anew.held, anew.free, anew.whole, anew.open_whole)
    assert now.pick(999) == anew.pick(999)
