"""Address arithmetic and the limits table."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enitide_ipam import addresses, limits

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_text_and_number_are_each_others_inverse(number):
    assert addresses.parse(addresses.text(number)) == number
    assert addresses.text(number) == str(ipaddress.IPv4Address(number))


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "10.0.0",
        "10.0.0.0.0",
        "10.0.0.256",
        "10.0.0.01",
        "10.0.0.-1",
        "10.0.0.+1",
        "10.0.0. 1",
        "a.b.c.d",
        "10..0.1",
        "\u0661.0.0.1",
        "10.0.0.1/32",
    ],
)
def test_what_is_no_canonical_address_is_refused(wrong):
    with pytest.raises(ValueError, match="IPv4"):
        addresses.parse(wrong)


@pytest.mark.parametrize("wrong", ["10.0.0.1/28", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1"])
def test_what_is_no_network_is_refused(wrong):
    with pytest.raises(ValueError, match=r"IPv4|beyond"):
        addresses.parse_cidr(wrong)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**28 - 1), st.integers(0, 32), st.integers(0, 2**28 - 1), st.integers(0, 32))
def test_overlap_agrees_with_the_standard_library(one, one_length, other, other_length):
    def network(base: int, length: int) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((base, length), strict=False)

    first, second = network(one, one_length), network(other, other_length)
    assert addresses.overlap(str(first), str(second)) == first.overlaps(second)


def test_prefixes_expand_and_order_numerically():
    assert addresses.size("10.0.0.16/28") == 16
    assert list(addresses.expand("10.0.0.16/28"))[-1] == addresses.parse("10.0.0.31")
    assert addresses.ordered(["10.0.0.9", "10.0.0.10", "10.0.0.9", "10.0.0.0/28"]) == (
        "10.0.0.0/28",
        "10.0.0.9",
        "10.0.0.10",
    )
    assert addresses.contains("10.0.0.16/28", addresses.parse("10.0.0.31"))
    assert not addresses.contains("10.0.0.16/28", addresses.parse("10.0.0.32"))
    assert addresses.gateway("10.0.4.0/22") == "10.0.4.1"
    assert addresses.ipv6_gateway("2001:db8:0:1::/64") == "2001:db8:0:1::1"


def test_a_pods_ipv6_address_is_a_function_of_its_ipv4_address_within_the_eni_prefix():
    prefix = "2001:db8:0:1:7::/80"
    made = ipaddress.IPv6Address(addresses.ipv6_of(prefix, addresses.parse("10.1.2.3")))
    assert made in ipaddress.IPv6Network(prefix)
    assert int(made) & 0xFFFFFFFF == addresses.parse("10.1.2.3")
    with pytest.raises(ValueError, match="/80"):
        addresses.ipv6_of("2001:db8::/64", 1)


def test_the_limits_table_is_what_the_generator_makes_from_moto():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        produced = import_module("generate_limits").files()
    finally:
        sys.path.remove(str(ROOT / "tools"))
    for path, text in produced.items():
        assert (ROOT / path).read_text() == text, "run `make generate`"
        source = json.loads(text)["source"]
        assert source["types"] == len(limits.known_types())


def test_limits_know_cards_addresses_and_prefixes():
    large = limits.limits_for("m5.large")
    assert large is not None
    assert (large.cards, large.ipv4_per_interface, large.prefixes) == ((3,), 10, True)
    metal, xen, cards = (limits.limits_for(name) for name in ("m5.metal", "t2.micro", "p4d.24xlarge"))
    assert metal is not None
    assert metal.prefixes
    assert xen is not None
    assert not xen.prefixes
    assert cards is not None
    assert len(cards.cards) == 4
    assert limits.limits_for("m99.huge") is None


def test_the_limits_table_stays_small_in_memory():
    code = (
        "import tracemalloc; from enitide_ipam import limits; tracemalloc.start(); limits.limits_for('m5.large');"
        "print(tracemalloc.get_traced_memory()[1])"
    )
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert peak <= 2 * 1024 * 1024


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 40).map(addresses.text)), st.lists(st.integers(0, 40).map(addresses.text)))
def test_ordering_again_gives_what_ordering_gives(before, now):
    assert set(addresses.ordered_again(now, addresses.ordered(before))) == set(now)
    assert addresses.ordered_again(tuple(set(now)), addresses.ordered(before)) == addresses.ordered(now)
