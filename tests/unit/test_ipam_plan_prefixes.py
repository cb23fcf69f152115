"""Prefixes or single addresses, and what a plan puts right on ENIs that are there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.ipam_facts import eni, eni_class, node, shape, subnet
from support.plans import NO_BUFFER, gains, kinds, planned

from enitide_api.resources import PoolLevels
from enitide_ipam.capacity import node_capacity
from enitide_ipam.model import (
    TAG_CLUSTER,
    TAG_TOKEN,
    AssignAddresses,
    AssignIPv6Prefix,
    SetDeleteOnTermination,
)
from enitide_ipam.plan import debits, node_tide

pytestmark = pytest.mark.unit


# --- prefixes ---


def test_prefixes_are_rounded_up_in_one_request():
    plan = planned(node(class_=eni_class(prefixes=True), bound=20), subnet(whole=60))
    assert [(type(each).__name__, each.count) for each in plan.actions] == [("AssignPrefixes", 2)]


def test_a_xen_instance_never_gets_prefixes():
    snapshot = node(class_=eni_class(prefixes=True), limits=shape(hypervisor="xen"), bound=4)
    assert kinds(planned(snapshot, subnet(whole=60))) == ["AssignAddresses"]


def test_a_prefix_on_a_new_eni_in_a_sibling_subnet_comes_before_singles():
    snapshot = node(class_=eni_class(prefixes=True), bound=4)
    plan = planned(snapshot, subnet(whole=0), subnet("s-2", whole=9))
    assert kinds(plan) == ["CreateInterface"]
    assert (plan.actions[0].subnet_id, plan.actions[0].prefixes) == ("s-2", 1)


def test_without_any_whole_prefix_single_addresses_are_taken_and_only_as_many_as_wanted():
    plan = planned(node(class_=eni_class(prefixes=True), bound=4), subnet(whole=0))
    assert gains(plan) == [8]
    assert isinstance(plan.actions[0], AssignAddresses)
    assert plan.wait is None
    assert "/28" in plan.message


def test_near_max_allocate_the_rest_are_singles_in_a_request_of_their_own():
    snapshot = node(class_=eni_class(prefixes=True, pool=PoolLevels(max_allocate=20)), bound=30)
    plan = planned(snapshot, subnet(whole=60))
    assert [(type(each).__name__, each.count) for each in plan.actions] == [
        ("AssignPrefixes", 1),
        ("AssignAddresses", 4),
    ]


def test_unknown_whole_prefixes_are_tried():
    assert kinds(planned(node(class_=eni_class(prefixes=True), bound=4), subnet(whole=None))) == ["AssignPrefixes"]


# --- repairs ---


def test_each_managed_eni_gets_one_ipv6_prefix_where_its_subnet_has_ipv6():
    snapshot = node(eni(singles=9), eni("e1", index=1, singles=1, ipv6_prefixes=("2001:db8::/80",)))
    plan = planned(snapshot, subnet(ipv6_cidr="2001:db8::/64"))
    assert [each.eni_id for each in plan.actions] == ["eni-0"]
    assert isinstance(plan.actions[0], AssignIPv6Prefix)
    assert planned(replace(snapshot, in_flight=plan.actions), subnet(ipv6_cidr="2001:db8::/64")).actions == ()
    create = planned(node(eni(singles=9), bound=10), subnet(ipv6_cidr="2001:db8::/64")).actions[0]
    assert create.ipv6


def test_delete_on_termination_is_set_on_our_own_enis_only():
    ours = {TAG_TOKEN: "t", TAG_CLUSTER: "demo"}
    theirs = {TAG_TOKEN: "t", TAG_CLUSTER: "other"}
    plan = planned(node(eni(singles=9), eni("e1", index=1, tags=ours), eni("e2", index=2, tags=theirs)))
    assert [each.eni_id for each in plan.actions if isinstance(each, SetDeleteOnTermination)] == ["e1"]


def test_a_use_primary_address_class_counts_the_own_address_of_secondary_enis():
    limits = shape((3,), 4)
    capacity = node_capacity(limits, eni_class(use_primary_address=True), [eni()])
    assert (capacity.slots, capacity.room) == (11, 11)
    snapshot = node(limits=limits, class_=eni_class(use_primary_address=True, pool=NO_BUFFER), bound=11)
    plan = planned(snapshot)
    assert gains(plan) == [3, 3, 3]
    assert plan.wait is None
    assert node_tide(replace(snapshot, in_flight=plan.actions), limits, (subnet(),)).expected == 11


def test_debits_count_the_own_address_of_new_enis_and_whole_prefixes():
    assert debits(planned(node(bound=20))) == {"s-1": (26, 0)}
    plan = planned(node(class_=eni_class(prefixes=True), bound=20), subnet(whole=60))
    assert debits(plan) == {"s-1": (32, 2)}
