"""What we know of VPCs: subnets with their free counts after our own debits, security groups, route tables, CIDRs.

Free counts are debited when an action is planned, not when it is answered, so that a thousand nodes that plan in the
same second do not all choose the same last addresses. What EC2 refused counts as none until the subnet is read again.
One subnet's books are in `subnet_stock`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.blocks import BlockMap
from enitide_ipam.model import (
    Action,
    AssignAddresses,
    CreateInterface,
    GroupView,
    Plan,
    RouteTableView,
    SubnetView,
)
from enitide_ipam.plan import debits
from enitide_ipam.subnets import route_table_of
from enitide_operator.ec2.port import Read, VpcView
from enitide_operator.gauges import SubnetGauge
from enitide_operator.subnet_stock import NO_PREFIX_FOR_S, SubnetStock, Taking


@dataclass(frozen=True, slots=True)
class Ticket:
    """A debit under way. Every ticket ends in exactly one `settle` or `refund`."""

    number: int
    taken: dict[str, tuple[int, int]]


@dataclass(slots=True)
class _Vpc:
    subnets: dict[str, SubnetStock] = field(default_factory=dict)
    groups: tuple[GroupView, ...] = ()
    cidrs: tuple[str, ...] = ()


class Book:
    """Facts by VPC. For one event loop."""

    def __init__(self) -> None:
        self._vpcs: dict[str, _Vpc] = {}
        self._home: dict[str, str] = {}  # subnet id -> VPC id
        self._numbers = itertools.count()
        self.name_beside_prefixes = True  # until EC2 says that it takes no address by name beside a count of /28s

    def knows(self, vpc_id: str) -> bool:
        """Whether the VPC has been read."""
        return vpc_id in self._vpcs

    def subnets(self, vpc_id: str, now: float) -> tuple[SubnetView, ...]:
        """All subnets of a VPC, by id, after debits."""
        vpc = self._vpcs.get(vpc_id)
        return tuple(vpc.subnets[each].view(now) for each in sorted(vpc.subnets)) if vpc else ()

    def gauges(self, now: float) -> tuple[SubnetGauge, ...]:
        """Every subnet of every VPC that is read, for metrics."""
        stocks = (stock for vpc in self._vpcs.values() for _, stock in sorted(vpc.subnets.items()))
        return tuple(_gauge(stock.view(now), stock.map) for stock in stocks)

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
                vpc.subnets[subnet.id] = SubnetStock(subnet, asked_at)
            else:
                stock.counted(subnet, asked_at)

    def merge_map(self, subnet_id: str, blocks: BlockMap, now: float) -> None:
        """A reading of a subnet's /28 map."""
        stock = self._stock(subnet_id)
        if stock is not None:
            stock.mapped(blocks, now)

    def plan_by_map(self, subnet_id: str) -> None:
        """From now on planning rests on the subnet's map, whenever it is read."""
        stock = self._stock(subnet_id)
        if stock is not None:
            stock.planned = True

    def map_of(self, subnet_id: str) -> BlockMap | None:
        """The map as it stands, for showing; None before the first reading."""
        stock = self._stock(subnet_id)
        return stock.map if stock is not None else None

    def counted_at(self, subnet_id: str) -> float:
        """When the subnet's last free count was asked for (Unix seconds), long ago where there is none."""
        stock = self._stock(subnet_id)
        return 0.0 if stock is None else stock.asked_at

    def vpc_of(self, subnet_id: str) -> str:
        """Id of a subnet's VPC, '' where it is not known."""
        return self._home.get(subnet_id, "")

    def subnet(self, subnet_id: str, now: float) -> SubnetView | None:
        """One subnet, after debits."""
        stock = self._stock(subnet_id)
        return None if stock is None else stock.view(now)

    # --- debits ----------------------------------------------------------------------------------------------------

    def debit(self, action: Action) -> Ticket:
        """Take from the free counts, and from the map what has a name, what the action will take."""
        ticket = Ticket(next(self._numbers), debits(Plan((action,))))
        names = action.names if isinstance(action, AssignAddresses | CreateInterface) else ()
        for subnet_id, (addresses, prefixes) in ticket.taken.items():
            stock = self._stock(subnet_id)
            if stock is not None:
                stock.order(ticket.number, Taking(addresses, prefixes, names))
        return ticket

    def settle(self, ticket: Ticket, at: float, addresses: Sequence[str] = (), prefixes: Sequence[str] = ()) -> None:
        """It was taken, or may have been: a reading asked for after `at` has it in its count. What, if it is known."""
        for subnet_id in ticket.taken:
            stock = self._stock(subnet_id)
            if stock is not None:
                stock.settle(ticket.number, at, addresses, prefixes)

    def refund(self, ticket: Ticket) -> None:
        """It was not taken."""
        for subnet_id in ticket.taken:
            stock = self._stock(subnet_id)
            if stock is not None:
                stock.refund(ticket.number)

    def credit(
        self, subnet_id: str, addresses: int, at: float, *, singles: Sequence[str] = (), prefixes: Sequence[str] = ()
    ) -> None:
        """Addresses went back to the subnet, these by name."""
        stock = self._stock(subnet_id)
        if stock is not None:
            stock.credit(addresses, at, singles, prefixes)

    def took(self, subnet_id: str, singles: Sequence[str], prefixes: Sequence[str], at: float) -> None:
        """An ENI of ours came without a ticket of this process: its order was accepted in an unheard answer."""
        stock = self._stock(subnet_id)
        if stock is not None:
            stock.took(len(singles) + PREFIX_SIZE * len(prefixes), at, singles, prefixes)

    def doubt(self, subnet_id: str, names: Sequence[str], at: float) -> None:
        """EC2 refused these addresses by name: others are chosen, for an hour or until a reading shows who has them."""
        stock = self._stock(subnet_id)
        if stock is not None:
            stock.doubt(names, at)

    def refused(self, subnet_id: str, at: float, *, prefixes: bool) -> str:
        """EC2 says that there is no room (for a whole /28). Returns the VPC to read again, or ''."""
        stock = self._stock(subnet_id)
        if stock is not None and prefixes:
            stock.no_prefix_until = at + NO_PREFIX_FOR_S
        elif stock is not None:
            stock.refused_at = at
        return self._home.get(subnet_id, "")

    def gone(self, subnet_id: str, at: float) -> None:
        """EC2 says that there is no such subnet: no ENI goes there, unless a later reading lists it all the same."""
        stock = self._stock(subnet_id)
        if stock is not None:
            stock.gone_at = at

    def _stock(self, subnet_id: str) -> SubnetStock | None:
        vpc = self._vpcs.get(self._home.get(subnet_id, ""))
        return vpc.subnets.get(subnet_id) if vpc else None


def _gauge(subnet: SubnetView, blocks: BlockMap | None) -> SubnetGauge:
    if blocks is None:
        return SubnetGauge(subnet.id, subnet.zone, subnet.free)
    return SubnetGauge(subnet.id, subnet.zone, subnet.free, blocks.whole, len(blocks.broken))
