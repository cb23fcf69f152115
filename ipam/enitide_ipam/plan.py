"""What a node needs from EC2, all at once: existing ENIs first, then as many new ones as needed, in parallel.

Pure. Pending and running work is part of the snapshot and counted, so that nothing is ordered twice. Release is not
planned here (`handover`), nor the steps of one intent (`saga`).
"""

from __future__ import annotations

from collections.abc import Iterable

from enitide_ipam.model import GroupView, NodeSnapshot, Plan, PlanSettings, SubnetView


def plan_node(
    snapshot: NodeSnapshot,
    subnets: Iterable[SubnetView],
    groups: Iterable[GroupView],
    settings: PlanSettings,
    now: float,
) -> Plan:
    """The actions that bring the node to its tide, and the reason for what they do not cover.

    `subnets` carry free counts after local debit; the caller debits `debits(plan)` before anything else plans.
    """
    raise NotImplementedError


def debits(plan: Plan) -> dict[str, tuple[int, int]]:
    """What the plan's actions take, by subnet id: (addresses, whole /28s). An ENI's own address is in the first."""
    raise NotImplementedError
