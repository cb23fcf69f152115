"""What we know of VPCs: subnets with their free counts after our own debits, security groups, route tables, CIDRs.

Free counts are debited when an action is planned, not when it is answered, so that a thousand nodes that plan in the
same second do not all choose the same last addresses. A reading replaces the count but not the debits that it cannot
have seen. What EC2 refused counts as none until the subnet is read again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from enitide_ipam.model import Action, GroupView, Plan, RouteTableView, SubnetView
from enitide_ipam.plan import debits
from enitide_ipam.subnets import route_table_of
from enitide_operator.ec2.port import Read, VpcView
from enitide_operator.gauges import SubnetGauge

NO_PREFIX_FOR_S = 300.0  # after a refused /28; others free blocks meanwhile, and only asking tells


@dataclass(frozen=True, slots=True)
class Ticket:
    """A debit under way. Every ticket ends in exactly one `settle` or `refund`."""

    number: int
    taken: dict[str, tuple[int, int]]


@dataclass(slots=True)
class _Stock:
    """One subnet: EC2's count when it was read, and what was taken (or given back) since."""

    read: SubnetView
    asked_at: float
    open: dict[int, int] = field(default_factory=dict)
    since: list[tuple[float, int]] = field(default_factory=list)
    refused_at: float | None = None
    no_prefix_until: float | None = None

    def view(self, now: float) -> SubnetView:
        """The subnet as planning may use it."""
        free = self.read.free - sum(self.open.values()) - sum(count for _, count in self.since)
        if self.refused_at is not None:
            free = 0
        whole = 0 if self.no_prefix_until is not None and now < self.no_prefix_until else None
        return replace(self.read, free=max(0, free), whole_prefixes=whole)


@dataclass(slots=True)
class _Vpc:
    subnets: dict[str, _Stock] = field(default_factory=dict)
    groups: tuple[GroupView, ...] = ()
    cidrs: tuple[str, ...] = ()


class Book:
    """Facts by VPC. For one event loop."""

    def __init__(self) -> None:
        self._vpcs: dict[str, _Vpc] = {}
        self._home: dict[str, str] = {}  # subnet id -> VPC id
        self._numbers = itertools.count()

    def knows(self, vpc_id: str) -> bool:
        """Whether the VPC has been read."""
        return vpc_id in self._vpcs

    def subnets(self, vpc_id: str, now: float) -> tuple[SubnetView, ...]:
        """All subnets of a VPC, by id, after debits."""
        vpc = self._vpcs.get(vpc_id)
        return tuple(vpc.subnets[each].view(now) for each in sorted(vpc.subnets)) if vpc else ()

    def gauges(self, now: float) -> tuple[SubnetGauge, ...]:
        """Every subnet of every VPC that is read, for metrics."""
        views = (stock.view(now) for vpc in self._vpcs.values() for _, stock in sorted(vpc.subnets.items()))
        return tuple(SubnetGauge(each.id, each.zone, each.free, each.whole_prefixes) for each in views)

    def groups(self, vpc_id: str) -> tuple[GroupView, ...]:
        """All security groups of a VPC."""
        vpc = self._vpcs.get(vpc_id)
        return vpc.groups if vpc else ()

    def cidrs(self, vpc_id: str) -> tuple[str, ...]:
        """IPv4 CIDRs of a VPC, then IPv6 ones."""
        vpc = self._vpcs.get(vpc_id)
        return vpc.cidrs if vpc else ()

    # --- readings --------------------------------------------------------------------------------------------------

    def merge(
        self,
        vpc_id: str,
        subnets: Read[SubnetView],
        groups: Read[GroupView],
        tables: Read[RouteTableView],
        vpcs: Read[VpcView],
    ) -> None:
        """A whole reading of one VPC."""
        vpc = self._vpcs.setdefault(vpc_id, _Vpc())
        vpc.groups = tuple(sorted(groups.items, key=lambda each: each.id))
        vpc.cidrs = tuple(cidr for each in vpcs.items for cidr in (*each.cidrs, *each.ipv6_cidrs))
        governed = [replace(each, route_table=route_table_of(each.id, vpc_id, tables.items)) for each in subnets.items]
        self._merge_subnets(vpc, governed, subnets.asked_at)
        for gone in set(vpc.subnets) - {each.id for each in governed}:
            del vpc.subnets[gone]
        self._home |= {each.id: vpc_id for each in governed}

    def merge_counts(self, vpc_id: str, subnets: Read[SubnetView]) -> None:
        """A reading of the subnets alone; each keeps its route table."""
        vpc = self._vpcs.get(vpc_id)
        if vpc is not None:
            known = [each for each in subnets.items if each.id in vpc.subnets]
            kept = [replace(each, route_table=vpc.subnets[each.id].read.route_table) for each in known]
            self._merge_subnets(vpc, kept, subnets.asked_at)

    def _merge_subnets(self, vpc: _Vpc, subnets: list[SubnetView], asked_at: float) -> None:
        for subnet in subnets:
            stock = vpc.subnets.get(subnet.id)
            if stock is None:
                vpc.subnets[subnet.id] = _Stock(subnet, asked_at)
            elif asked_at >= stock.asked_at:
                stock.read, stock.asked_at = subnet, asked_at
                stock.since = [each for each in stock.since if each[0] > asked_at]
                if stock.refused_at is not None and asked_at > stock.refused_at:
                    stock.refused_at = None

    # --- debits ----------------------------------------------------------------------------------------------------

    def debit(self, action: Action) -> Ticket:
        """Take from the free counts what the action will take."""
        ticket = Ticket(next(self._numbers), debits(Plan((action,))))
        for subnet_id, (addresses, _) in ticket.taken.items():
            stock = self._stock(subnet_id)
            if stock is not None:
                stock.open[ticket.number] = addresses
        return ticket

    def settle(self, ticket: Ticket, at: float) -> None:
        """It was taken, or may have been: a reading asked for after `at` has it in its count."""
        for subnet_id, (addresses, _) in ticket.taken.items():
            stock = self._stock(subnet_id)
            if stock is not None and stock.open.pop(ticket.number, None) is not None:
                stock.since.append((at, addresses))

    def refund(self, ticket: Ticket) -> None:
        """It was not taken."""
        for subnet_id in ticket.taken:
            stock = self._stock(subnet_id)
            if stock is not None:
                stock.open.pop(ticket.number, None)

    def credit(self, subnet_id: str, addresses: int, at: float) -> None:
        """Addresses went back to the subnet."""
        stock = self._stock(subnet_id)
        if stock is not None:
            stock.since.append((at, -addresses))

    def refused(self, subnet_id: str, at: float, *, prefixes: bool) -> str:
        """EC2 says that there is no room (for a whole /28). Returns the VPC to read again, or ''."""
        stock = self._stock(subnet_id)
        if stock is not None and prefixes:
            stock.no_prefix_until = at + NO_PREFIX_FOR_S
        elif stock is not None:
            stock.refused_at = at
        return self._home.get(subnet_id, "")

    def _stock(self, subnet_id: str) -> _Stock | None:
        vpc = self._vpcs.get(self._home.get(subnet_id, ""))
        return vpc.subnets.get(subnet_id) if vpc else None
