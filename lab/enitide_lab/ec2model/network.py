"""VPCs, subnets, CIDR reservations, security groups, route tables and tags of the model.

These make the ground that ENIs stand on. Only what the address rules need is modelled; rules of a group and routes of
a table are not: nothing here forwards packets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from enitide_lab.ec2model import listing
from enitide_lab.ec2model.addresses import AddressMap
from enitide_lab.ec2model.addresses6 import AddressMap6
from enitide_lab.ec2model.errors import ModelError, bad_value, unknown
from enitide_lab.ec2model.state import GroupRecord, RouteTableRecord, SubnetRecord, VpcRecord, World
from enitide_lab.ec2model.types import CidrReservation, Page, RouteTable, SecurityGroup, Subnet, Tags, Vpc

SUBNET_FILTERS: Mapping[str, listing.Reader[Subnet]] = {
    "subnet-id": lambda s: s.id,
    "vpc-id": lambda s: s.vpc_id,
    "availability-zone": lambda s: s.zone,
    "availabilityZone": lambda s: s.zone,
    "availability-zone-id": lambda s: s.zone_id,
    "available-ip-address-count": lambda s: str(s.free),
    "cidr": lambda s: s.cidr,
    "cidr-block": lambda s: s.cidr,
    "cidrBlock": lambda s: s.cidr,
    "default-for-az": lambda s: str(s.default_for_zone).lower(),
    "defaultForAz": lambda s: str(s.default_for_zone).lower(),
    "ipv6-cidr-block-association.ipv6-cidr-block": lambda s: s.ipv6_cidr,
    "map-public-ip-on-launch": lambda s: str(s.map_public_ip).lower(),
    "state": lambda _: "available",
}
VPC_FILTERS: Mapping[str, listing.Reader[Vpc]] = {
    "vpc-id": lambda v: v.id,
    "cidr": lambda v: v.cidrs[0],
    "cidr-block-association.cidr-block": lambda v: v.cidrs,
    "state": lambda _: "available",
}
GROUP_FILTERS: Mapping[str, listing.Reader[SecurityGroup]] = {
    "group-id": lambda g: g.id,
    "group-name": lambda g: g.name,
    "vpc-id": lambda g: g.vpc_id,
}
ROUTE_TABLE_FILTERS: Mapping[str, listing.Reader[RouteTable]] = {
    "route-table-id": lambda r: r.id,
    "vpc-id": lambda r: r.vpc_id,
    "association.main": lambda r: str(r.main).lower(),
    "association.subnet-id": lambda r: r.subnets,
}


class NetworkVerbs(World):
    """The verbs, and the makers that a scenario uses (ids may be given there)."""

    # --- makers ----------------------------------------------------------------------------------------------

    def create_vpc(
        self,
        cidrs: Sequence[str],
        *,
        fixed_id: str | None = None,
        ipv6_cidrs: Sequence[str] = (),
        tags: Tags | None = None,
    ) -> Vpc:
        """A VPC with a default security group and a main route table."""
        record = VpcRecord(fixed_id or self.new_id("vpc"), list(cidrs), list(ipv6_cidrs))
        self.vpcs[record.id] = record
        self._tag(record.id, tags)
        self.create_security_group(record.id, "default")
        self.create_route_table(record.id, main=True)
        return self._vpc(record)

    def create_subnet(
        self,
        vpc_id: str,
        cidr: str,
        zone: str,
        *,
        fixed_id: str | None = None,
        ipv6_cidr: str | None = None,
        zone_id: str = "",
        tags: Tags | None = None,
    ) -> Subnet:
        """A subnet. InvalidVpcID.NotFound, InvalidSubnet.Range outside the VPC, InvalidSubnet.Conflict."""
        vpc = self.vpcs.get(vpc_id)
        if vpc is None:
            raise unknown("vpc", vpc_id)
        network = ipaddress.IPv4Network(cidr)
        if not any(network.subnet_of(ipaddress.IPv4Network(own)) for own in vpc.cidrs):
            raise ModelError("InvalidSubnet.Range", f"The CIDR '{cidr}' is invalid.")
        for other in self.subnets.values():
            if other.vpc is vpc and network.overlaps(ipaddress.IPv4Network(other.cidr)):
                raise ModelError("InvalidSubnet.Conflict", f"The CIDR '{cidr}' conflicts with another subnet")
        record = SubnetRecord(
            id=fixed_id or self.new_id("subnet"),
            vpc=vpc,
            zone=zone,
            zone_id=zone_id or zone,
            cidr=cidr,
            map=AddressMap(cidr, self.choice, self.seed),
        )
        self.subnets[record.id] = record
        self.set_subnet_ipv6(record.id, ipv6_cidr)
        self._tag(record.id, tags)
        return self._subnet(record)

    def set_subnet_ipv6(self, subnet_id: str, cidr: str | None, association_id: str = "") -> None:
        """Give the subnet an IPv6 CIDR, or take it away."""
        record = self.subnet_record(subnet_id)
        if cidr != record.ipv6_cidr:
            record.ipv6_cidr = cidr
            record.map6 = None if cidr is None else AddressMap6(cidr)
            record.ipv6_association_id = association_id or self.new_id("subnet-cidr-assoc")

    def set_subnet_room(self, subnet_id: str, free: int, whole_prefixes: int | None = None) -> None:
        """Let strangers hold addresses so that exactly this room is left (`AddressMap.set_room`)."""
        self.subnet_record(subnet_id).map.set_room(free, whole_prefixes)

    def create_security_group(
        self,
        vpc_id: str,
        name: str,
        *,
        fixed_id: str | None = None,
        tags: Tags | None = None,
    ) -> SecurityGroup:
        """A security group of a VPC."""
        record = GroupRecord(fixed_id or self.new_id("sg"), name, vpc_id)
        self.groups[record.id] = record
        self._tag(record.id, tags)
        return self._group(record)

    def create_route_table(
        self,
        vpc_id: str,
        *,
        main: bool = False,
        subnets: Sequence[str] = (),
        fixed_id: str | None = None,
        tags: Tags | None = None,
    ) -> RouteTable:
        """A route table; `main` replaces the VPC's main one."""
        if main:
            for other in [r for r in self.route_tables.values() if r.main and r.vpc_id == vpc_id]:
                del self.route_tables[other.id]
        record = RouteTableRecord(fixed_id or self.new_id("rtb"), vpc_id, main, tuple(subnets))
        self.route_tables[record.id] = record
        self._tag(record.id, tags)
        return self._route_table(record)

    # --- verbs -----------------------------------------------------------------------------------------------

    def delete_subnet(self, subnet_id: str) -> None:
        """DeleteSubnet. DependencyViolation while ENIs are in it."""
        record = self.subnet_record(subnet_id)
        if record.interfaces:
            raise ModelError("DependencyViolation", f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
        del self.subnets[subnet_id]
        self.tags.pop(subnet_id, None)

    def delete_security_group(self, group_id: str) -> None:
        """DeleteSecurityGroup. DependencyViolation while ENIs use it."""
        record = self.groups.get(group_id)
        if record is None:
            raise unknown("group", group_id)
        if record.uses:
            raise ModelError("DependencyViolation", f"resource {group_id} has a dependent object")
        del self.groups[group_id]
        self.tags.pop(group_id, None)

    def create_subnet_cidr_reservation(
        self,
        subnet_id: str,
        cidr: str,
        kind: str,
        *,
        fixed_id: str | None = None,
        description: str = "",
    ) -> CidrReservation:
        """CreateSubnetCidrReservation for IPv4. InvalidParameterValue outside the subnet or over another one."""
        record = self.subnet_record(subnet_id)
        network = ipaddress.IPv4Network(cidr)
        if kind not in ("prefix", "explicit") or not network.subnet_of(ipaddress.IPv4Network(record.cidr)):
            raise bad_value(f"The CIDR '{cidr}' with type '{kind}' cannot be reserved in subnet {subnet_id}")
        if any(network.overlaps(ipaddress.IPv4Network(other.cidr)) for other in record.reservations.values()):
            raise bad_value(f"The CIDR '{cidr}' overlaps an existing reservation")
        if kind == "prefix" and network.prefixlen > 28:
            raise bad_value(f"The CIDR '{cidr}' holds no whole /28")
        made = CidrReservation(fixed_id or self.new_id("scr"), subnet_id, cidr, kind, description)
        record.map.reserve(int(network.network_address), network.num_addresses, for_prefixes=kind == "prefix")
        record.reservations[made.id] = made
        return made

    def delete_subnet_cidr_reservation(self, reservation_id: str) -> CidrReservation:
        """DeleteSubnetCidrReservation. InvalidSubnetCidrReservationID.NotFound."""
        for record in self.subnets.values():
            if (gone := record.reservations.pop(reservation_id, None)) is not None:
                network = ipaddress.IPv4Network(gone.cidr)
                record.map.unreserve(int(network.network_address), network.num_addresses)
                return gone
        raise unknown("reservation", reservation_id)

    def get_subnet_cidr_reservations(self, subnet_id: str) -> tuple[CidrReservation, ...]:
        """GetSubnetCidrReservations (IPv4)."""
        return tuple(self.subnet_record(subnet_id).reservations.values())

    def describe_subnets(
        self,
        subnet_ids: Sequence[str] = (),
        filters: listing.Filters | None = None,
        *,
        max_results: int | None = None,
        next_token: str | None = None,
    ) -> Page[Subnet]:
        """DescribeSubnets. Names unknown: InvalidSubnetID.NotFound."""
        wanted = filters or {}
        listing.check_names(wanted, SUBNET_FILTERS)
        window = listing.window(ids=subnet_ids, ids_name="subnetIds", max_results=max_results, next_token=next_token)

        def show(subnet_id: str) -> Subnet | None:
            view = self._subnet(self.subnet_record(subnet_id))
            return view if listing.fits(view, wanted, SUBNET_FILTERS, lambda s: s.tags) else None

        return listing.cut(set(subnet_ids) or self.subnets, show, window)

    def describe_vpcs(self, vpc_ids: Sequence[str] = (), filters: listing.Filters | None = None) -> tuple[Vpc, ...]:
        """DescribeVpcs."""
        wanted = filters or {}
        listing.check_names(wanted, VPC_FILTERS)
        for vpc_id in vpc_ids:
            if vpc_id not in self.vpcs:
                raise unknown("vpc", vpc_id)
        views = (self._vpc(v) for v in self.vpcs.values() if not vpc_ids or v.id in vpc_ids)
        return tuple(v for v in views if listing.fits(v, wanted, VPC_FILTERS, lambda v: v.tags))

    def describe_security_groups(
        self, group_ids: Sequence[str] = (), filters: listing.Filters | None = None
    ) -> tuple[SecurityGroup, ...]:
        """DescribeSecurityGroups. Ids unknown: InvalidGroup.NotFound."""
        wanted = filters or {}
        listing.check_names(wanted, GROUP_FILTERS)
        for group_id in group_ids:
            if group_id not in self.groups:
                raise unknown("group", group_id)
        views = (self._group(g) for g in self.groups.values() if not group_ids or g.id in group_ids)
        return tuple(g for g in views if listing.fits(g, wanted, GROUP_FILTERS, lambda g: g.tags))

    def describe_route_tables(self, filters: listing.Filters | None = None) -> tuple[RouteTable, ...]:
        """DescribeRouteTables."""
        wanted = filters or {}
        listing.check_names(wanted, ROUTE_TABLE_FILTERS)
        views = (self._route_table(r) for r in self.route_tables.values())
        return tuple(r for r in views if listing.fits(r, wanted, ROUTE_TABLE_FILTERS, lambda r: r.tags))

    def create_tags(self, resource_ids: Sequence[str], tags: Tags) -> None:
        """CreateTags; all resources must exist. TagLimitExceeded above 50 tags on one."""
        for resource_id in resource_ids:
            self.require_resource(resource_id)
            if len({*self.tags.get(resource_id, {}), *tags}) > 50:
                raise ModelError("TagLimitExceeded", f"The resource {resource_id} would have more than 50 tags")
        for resource_id in resource_ids:
            if resource_id in self.interfaces:
                self.keep(self.interfaces[resource_id])
            self.tags[resource_id].update(tags)

    def delete_tags(self, resource_ids: Sequence[str], tags: Mapping[str, str | None]) -> None:
        """DeleteTags; a value of None removes the key whatever its value."""
        for resource_id in resource_ids:
            self.require_resource(resource_id)
        for resource_id in resource_ids:
            if resource_id in self.interfaces:
                self.keep(self.interfaces[resource_id])
            own = self.tags.get(resource_id, {})
            for key, value in tags.items():
                if key in own and value in (None, own[key]):
                    del own[key]

    def require_resource(self, resource_id: str) -> None:
        """The NotFound error of the resource's kind, if it is of a kind that the model keeps and is not there."""
        kinds: tuple[tuple[str, str, Mapping[str, object]], ...] = (
            ("eni", "interface", self.interfaces),
            ("subnet", "subnet", self.subnets),
            ("vpc", "vpc", self.vpcs),
            ("sg", "group", self.groups),
            ("i", "instance", self.instances),
        )
        for prefix, kind, known in kinds:
            if resource_id.partition("-")[0] == prefix and resource_id not in known:
                raise unknown(kind, resource_id)

    # --- views -----------------------------------------------------------------------------------------------

    def _tag(self, resource_id: str, tags: Tags | None) -> None:
        if tags:
            self.tags[resource_id].update(tags)

    def _tags(self, resource_id: str) -> Tags:
        return dict(self.tags.get(resource_id, {}))

    def _vpc(self, record: VpcRecord) -> Vpc:
        return Vpc(record.id, tuple(record.cidrs), tuple(record.ipv6_cidrs), self._tags(record.id))

    def _subnet(self, record: SubnetRecord) -> Subnet:
        return Subnet(
            id=record.id,
            vpc_id=record.vpc.id,
            zone=record.zone,
            zone_id=record.zone_id,
            cidr=record.cidr,
            ipv6_cidr=record.ipv6_cidr,
            ipv6_association_id=record.ipv6_association_id,
            free=record.map.free,
            whole_prefixes=record.map.blocks_left(),
            default_for_zone=record.default_for_zone,
            map_public_ip=record.map_public_ip,
            assign_ipv6=record.assign_ipv6,
            tags=self._tags(record.id),
        )

    def _group(self, record: GroupRecord) -> SecurityGroup:
        return SecurityGroup(record.id, record.name, record.vpc_id, self._tags(record.id))

    def _route_table(self, record: RouteTableRecord) -> RouteTable:
        return RouteTable(record.id, record.vpc_id, record.main, record.subnets, self._tags(record.id))
