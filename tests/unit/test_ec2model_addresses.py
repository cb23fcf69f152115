"""The free-address map of a subnet, against the plainest possible account of it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enitide_lab.ec2model import ModelError
from enitide_lab.ec2model.addresses import AddressMap, text
from enitide_lab.ec2model.addresses6 import AddressMap6

pytestmark = pytest.mark.unit

BASE = int(ipaddress.IPv4Address("10.0.0.0"))


class Account:
    """The same subnet as a set of free addresses."""

    def __init__(self, prefixlen: int) -> None:
        hosts = [int(a) for a in ipaddress.IPv4Network(f"10.0.0.0/{prefixlen}")]
        self.free = set(hosts[4:-1])
        self.held: set[int] = set()

    def whole(self) -> set[int]:
        open_ = self.free - self.held
        return {a for a in open_ if a % 16 == 0 and all(a + i in open_ for i in range(16))}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.just("blocks"), st.integers(1, 2)),
        st.tuples(st.just("exact"), st.integers(0, 127)),
        st.tuples(st.just("give"), st.integers(0, 200)),
        st.tuples(st.just("give-block"), st.integers(0, 200)),
        st.tuples(st.just("hold"), st.integers(0, 7)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps, policy=st.sampled_from(["worst", "dense", "scatter"]))
def test_counts_and_choices_agree_with_a_plain_account_of_free_addresses(
    steps: list[tuple[str, int]], policy: Any
) -> None:
    space, account = AddressMap("10.0.0.0/25", policy), Account(25)
    singles: list[int] = []
    blocks: list[int] = []
    for step, number in steps:
        try:
            match step:
                case "take":
                    taken = space.take(number)
                    assert set(taken) <= account.free - account.held
                    if policy == "worst" and number == 1 and account.whole():
                        assert taken[0] in account.whole()
                    account.free -= set(taken)
                    singles += taken
                case "blocks":
                    firsts = space.take_blocks(number)
                    assert set(firsts) <= account.whole()
                    account.free -= {a + i for a in firsts for i in range(16)}
                    blocks += firsts
                case "exact":
                    space.take_exact(BASE + number)
                    account.free.remove(BASE + number)
                    singles.append(BASE + number)
                case "give" if singles:
                    address = singles.pop(number % len(singles))
                    space.give(address)
                    account.free.add(address)
                case "give-block" if blocks:
                    first = blocks.pop(number % len(blocks))
                    space.give_block(first)
                    account.free |= {first + i for i in range(16)}
                case "hold" if BASE + 16 * number not in account.held:
                    space.reserve(BASE + 16 * number, 16, for_prefixes=False)
                    account.held |= {BASE + 16 * number + i for i in range(16)}
        except ModelError as exc:
            if exc.code == "InsufficientFreeAddressesInSubnet":
                assert number > len(account.free - account.held)
            elif exc.code == "InsufficientCidrBlocks":
                assert number > len(account.whole())
            else:
                assert step == "exact"
                assert BASE + number not in account.free
        assert space.free == len(account.free - account.held)
        assert space.whole == len(account.whole())


@pytest.mark.parametrize(("free", "whole"), [(100, 2), (251, 14), (0, 0), (14 * 16, 14), (40, 0), (15, 0), (16, 1)])
def test_strangers_leave_exactly_the_room_asked_for(free: int, whole: int) -> None:
    space = AddressMap("10.0.0.0/24")
    space.set_room(free, whole)
    assert (space.free, space.whole) == (free, whole)
    space.set_room(200)
    assert (space.free, space.whole) == (200, 12)


def test_strangers_leave_alone_what_is_taken_already() -> None:
    space = AddressMap("10.0.0.0/24")
    held = space.take(3)
    space.set_room(0, 0)
    assert all(space.taken(address) for address in held)
    for address in held:
        space.give(address)
    assert space.free == 3


@pytest.mark.parametrize(("free", "whole"), [(252, None), (16, 2), (251, 3)])
def test_room_that_cannot_be_is_refused(free: int, whole: int | None) -> None:
    with pytest.raises(ValueError, match="cannot be left with"):
        AddressMap("10.0.0.0/24").set_room(free, whole)


def test_a_prefix_goes_into_its_reservation_first_and_elsewhere_when_that_is_full() -> None:
    space = AddressMap("10.0.0.0/24")
    space.reserve(BASE + 64, 16, for_prefixes=True)
    assert [text(first) for first in space.take_blocks(2)] == ["10.0.0.64", "10.0.0.16"]
    space.give_block(BASE + 64)
    space.unreserve(BASE + 64, 16)
    assert space.free == 251 - 16


def test_dense_choice_fills_broken_blocks_before_it_breaks_another() -> None:
    space = AddressMap("10.0.0.0/24", "dense")
    assert [text(a) for a in space.take(12)] == [f"10.0.0.{last}" for last in range(4, 16)]
    assert space.whole == 14


def test_scattered_choice_repeats_with_its_seed() -> None:
    assert AddressMap("10.0.0.0/20", "scatter", 7).take(50) == AddressMap("10.0.0.0/20", "scatter", 7).take(50)
    assert AddressMap("10.0.0.0/20", "scatter", 7).take(50) != AddressMap("10.0.0.0/20", "scatter", 8).take(50)


def test_giving_back_what_was_not_taken_is_a_bug_and_says_so() -> None:
    with pytest.raises(AssertionError, match=r"10\.0\.0\.9 comes back"):
        AddressMap("10.0.0.0/24").give(BASE + 9)


def test_ipv6_prefixes_are_never_broken_by_single_addresses() -> None:
    space = AddressMap6("2600:1f13::/64")
    singles, prefixes = space.take(3), space.take_blocks(3)
    networks = [ipaddress.IPv6Network(prefix) for prefix in prefixes]
    assert all(network.prefixlen == 80 for network in networks)
    assert not any(ipaddress.IPv6Address(single) in network for single in singles for network in networks)
    with pytest.raises(ModelError):
        space.take_exact_block(prefixes[0])
    space.give_block(prefixes[0])
    space.take_exact_block(prefixes[0])
