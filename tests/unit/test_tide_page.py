"""The page about the tide is computed: what it says of peers from their rules, what it says of us from the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from enitide_api.resources import ENIClassSpec, InterfacePolicy, PoolLevels
from enitide_ipam.capacity import capacity_of_type
from enitide_ipam.limits import limits_for

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("generate_tide", ROOT / "tools" / "generate_tide.py")
page = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(page)


@pytest.mark.parametrize(("row", "facts"), page.NEEDED.items())
def test_what_is_taken_is_what_the_same_watermarks_give_elsewhere(row, facts):
    state = page.State(*facts, above=0)
    assert page.needed_there(state) == row[1]
    assert page.taken(state) == row[1]


@pytest.mark.parametrize(("row", "facts"), page.EXCESS.items())
def test_what_is_given_back_differs_only_where_the_page_says_so(row, facts):
    has, used, pre, low, above = facts
    state = page.State(has, used, pre, low, 0, above)
    assert page.excess_there(state) == row[1]
    assert (page.given_back(state) == row[1]) == (row[0] not in {33, 40})


def test_the_page_in_the_tree_is_the_one_that_the_code_makes():
    for path, text in page.files().items():
        assert (ROOT / path).read_text() == text


@pytest.mark.parametrize(
    ("kind", "class_", "pods"),
    [
        ("m5.large", ENIClassSpec(), 27),
        ("m5.large", ENIClassSpec(interfaces=InterfacePolicy(use_primary_address=True)), 29),
        ("m5.large", ENIClassSpec(prefix_delegation=True), 432),
        (
            "m5.large",
            ENIClassSpec(prefix_delegation=True, interfaces=InterfacePolicy(use_primary_address=True)),
            434,  # not 480: the node's own address is no pod's, and an own address is one, not 16
        ),
        ("t3.small", ENIClassSpec(interfaces=InterfacePolicy(use_primary_address=True)), 11),
        ("t2.small", ENIClassSpec(prefix_delegation=True), 9),  # Xen has no prefixes
        ("p4d.24xlarge", ENIClassSpec(), 735),
        ("p4d.24xlarge", ENIClassSpec(interfaces=InterfacePolicy(cards=(0, 1, 2, 3))), 2940),
        ("m5.large", ENIClassSpec(interfaces=InterfacePolicy(first_index=3)), 0),
        ("m5.large", ENIClassSpec(pool=PoolLevels(max_allocate=20)), 20),
    ],
)
def test_one_function_says_how_many_pods_fit_on_a_type(kind, class_, pods):
    limits = limits_for(kind)
    assert limits is not None
    assert capacity_of_type(limits, class_).room == pods
