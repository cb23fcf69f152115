"""Mirrors what moto owns into the model: VPCs, subnets, groups, route tables, CIDR reservations, stopped instances.

Level-triggered: `sync` makes the model's ground equal to moto's, whatever was missed before. What moto never had
(objects that a scenario made in the model) stays. It reads moto and never changes it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from enitide_lab.ec2model import EC2Model
from enitide_lab.ec2model.state import GroupRecord, RouteTableRecord, VpcRecord


class Mirror:
    """One way, from a moto backend to a model."""

    def __init__(self, model: EC2Model, backend: Any) -> None:
        self.model = model
        self.backend = backend
        self._mirrored: dict[str, set[str]] = {}

    def instances(self) -> dict[str, Any]:
        """Moto's instances by id."""
        return {i.id: i for reservation in self.backend.reservations.values() for i in reservation.instances}

    def sync(self) -> None:
        """Make the model's ground equal to moto's. Objects that only the model has stay."""
        backend, model = self.backend, self.model
        for vpc in backend.vpcs.values():
            record = model.vpcs.setdefault(vpc.id, VpcRecord(vpc.id, []))
            record.cidrs = _cidrs(vpc, ipv6=False)
            record.ipv6_cidrs = _cidrs(vpc, ipv6=True)
        for group in (group for groups in backend.groups.values() for group in groups.values()):
            model.groups.setdefault(group.id, GroupRecord(group.id, group.name, group.vpc_id)).name = group.name
        for table in backend.route_tables.values():
            targets = tuple(target for target in table._associations.values() if target.startswith("subnet-"))  # noqa: SLF001
            main = table.main_association_id is not None
            model.route_tables[table.id] = RouteTableRecord(table.id, table.vpc_id, main, targets)
        subnets = {subnet.id: subnet for zone in backend.subnets.values() for subnet in zone.values()}
        for subnet in subnets.values():
            self._sync_subnet(subnet)
        groups = {group_id for groups in backend.groups.values() for group_id in groups}
        self._forget("vpcs", backend.vpcs, model.vpcs)
        self._forget("groups", groups, model.groups)
        self._forget("route_tables", backend.route_tables, model.route_tables)
        self._forget("subnets", subnets, model.subnets)
        for instance in self.instances().values():
            state = instance.instance_state.name
            if instance.id in model.instances and state in ("running", "stopped"):
                model.set_instance_state(instance.id, state)

    def _forget(self, kind: str, present: Mapping[str, Any] | set[str], known: dict[str, Any]) -> None:
        for gone in self._mirrored.get(kind, set()) - set(present):
            known.pop(gone, None)
        self._mirrored[kind] = set(present)

    def _sync_subnet(self, subnet: Any) -> None:
        model = self.model
        if not subnet.cidr_block or subnet.ipv6_native:
            return  # without IPv4 no ENI of ours can be in it; moto answers for it
        if subnet.id not in model.subnets:
            model.create_subnet(
                subnet.vpc_id,
                subnet.cidr_block,
                subnet.availability_zone,
                fixed_id=subnet.id,
                zone_id=subnet.availability_zone_id,
            )
        record = model.subnets[subnet.id]
        associated = [
            (association["ipv6CidrBlock"], association["associationId"])
            for association in subnet.ipv6_cidr_block_associations.values()
            if association["ipv6CidrBlockState"]["State"] == "associated"
        ]
        model.set_subnet_ipv6(subnet.id, *(associated[0] if associated else (None,)))
        record.default_for_zone = true(subnet.default_for_az)
        record.map_public_ip = true(subnet.map_public_ip_on_launch)
        record.assign_ipv6 = true(subnet.assign_ipv6_address_on_creation)
        wanted = {r.id: r for r in subnet._cidr_reservations if isinstance(r.cidr, ipaddress.IPv4Network)}  # noqa: SLF001
        for gone in record.reservations.keys() - wanted.keys():
            model.delete_subnet_cidr_reservation(gone)
        for new in wanted.keys() - record.reservations.keys():
            model.create_subnet_cidr_reservation(
                subnet.id, str(wanted[new].cidr), wanted[new].reservation_type, fixed_id=new
            )


def _cidrs(vpc: Any, *, ipv6: bool) -> list[str]:
    associations = vpc.get_cidr_block_association_set(ipv6=ipv6)
    return [str(a["cidr_block"]) for a in associations if a["cidr_block_state"]["state"] == "associated"]


def true(value: Any) -> bool:
    """A flag as moto keeps it: a boolean or a word."""
    return value is True or str(value).lower() == "true"
