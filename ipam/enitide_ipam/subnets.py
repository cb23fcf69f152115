"""Which subnet a new ENI goes into: a hard rule, then a preference. Nothing silent: a refusal names the subnets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_api.resources import InstanceFacts, Selector
from enitide_ipam.model import SubnetView


@dataclass(frozen=True, slots=True)
class SubnetChoice:
    """The subnet, or the reason and sentence why there is none."""

    subnet: SubnetView | None
    reason: Reason | None = None
    message: str = ""


def eligible(subnets: Iterable[SubnetView], instance: InstanceFacts, selector: Selector) -> tuple[SubnetView, ...]:
    """The hard rule, by id: same VPC and zone, then the selector; without one, the node's route table."""
    raise NotImplementedError


def choose(
    subnets: Iterable[SubnetView], instance: InstanceFacts, selector: Selector, *, addresses: int, prefixes: int = 0
) -> SubnetChoice:
    """The subnet for a new ENI that should carry that many secondary addresses or /28s (never both).

    An ENI's own address is counted here, not by the caller.
    """
    raise NotImplementedError


def subnet_room(subnet: SubnetView, *, prefixes: bool, new_interface: bool) -> int:
    """How many secondary addresses, or whole /28s, one request can get from the subnet."""
    raise NotImplementedError
