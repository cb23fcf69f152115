"""A plan of a node, and what it orders."""

from __future__ import annotations

from enitide_api.resources import PoolLevels
from enitide_ipam.model import (
    AssignAddresses,
    AssignPrefixes,
    CreateInterface,
)
from enitide_ipam.plan import plan_node
from support.ipam_facts import GROUPS, SETTINGS, subnet

NO_BUFFER = PoolLevels(pre_allocate=0, max_above_watermark=0)


def planned(snapshot, *subnets, groups=GROUPS, now=2000.0):
    return plan_node(snapshot, subnets or (subnet(),), groups, SETTINGS, now)


def kinds(plan):
    return [type(action).__name__ for action in plan.actions]


def gains(plan):
    return [
        each.gives
        if isinstance(each, CreateInterface)
        else each.count * (16 if isinstance(each, AssignPrefixes) else 1)
        for each in plan.actions
        if isinstance(each, AssignAddresses | AssignPrefixes | CreateInterface)
    ]
