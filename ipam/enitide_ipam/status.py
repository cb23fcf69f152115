"""From the world to ENINode.status: pure, so that equal facts give equal status and unchanged status is not written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from enitide_api.reasons import Reason
from enitide_api.resources import Capacity, ClassStatus, Condition, ENIClassSpec, ENINodeStatus, Interface
from enitide_ipam.capacity import NodeCapacity
from enitide_ipam.model import EniView, NodeSnapshot, Plan, SubnetView

Parts = Mapping[str, object]


def interfaces(snapshot: NodeSnapshot, subnets: Iterable[SubnetView]) -> tuple[Interface, ...]:
    """Managed, attached ENIs by (card, index); nothing of what is releasing; subnet facts beside each."""
    raise NotImplementedError


def capacity(node: NodeCapacity) -> Capacity:
    """status.capacity."""
    raise NotImplementedError


def class_status(name: str, generation: int, spec: ENIClassSpec, report_interval_s: float) -> ClassStatus:
    """What both sides need of the governing class."""
    raise NotImplementedError


def conditions(
    before: Iterable[Condition], snapshot: NodeSnapshot, node: NodeCapacity | None, plan: Plan, now: float
) -> tuple[Condition, ...]:
    """Ready, AtCapacity and what waits, by type; `lastTransitionTime` kept where the status is unchanged."""
    raise NotImplementedError


def changed_parts(before: ENINodeStatus, after: ENINodeStatus) -> dict[str, object]:
    """The merge patch body's `status` fields that differ (wire names); empty: nothing to write."""
    raise NotImplementedError


def publishable(eni: EniView, snapshot: NodeSnapshot) -> bool:
    """Attached to this instance and managed by its class."""
    raise NotImplementedError


def condition(kind: str, status: bool, reason: Reason, message: str) -> Condition:
    """A condition without a time; `conditions` stamps it."""
    raise NotImplementedError
