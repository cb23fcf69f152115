"""Elastic IPs: allocation, listing by tags, association with an ENI's own address.

The wire's other face leaves these to moto; here they are for callers without a wire. Rules kept: an address that is
associated moves only with `allow_reassociation`; an ENI that goes lets go of its address.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from enitide_lab.ec2model import listing
from enitide_lab.ec2model.errors import ModelError, unknown
from enitide_lab.ec2model.instances import InstanceVerbs
from enitide_lab.ec2model.types import ElasticAddress, Tags

ELASTIC_FILTERS: Mapping[str, listing.Reader[ElasticAddress]] = {
    "allocation-id": lambda e: e.id,
    "public-ip": lambda e: e.address,
    "network-interface-id": lambda e: e.interface_id or None,
    "association-id": lambda e: e.association_id or None,
}


@dataclass(slots=True)
class ElasticRecord:
    """One allocation."""

    id: str
    address: str
    association_id: str = ""
    interface_id: str = ""


class ElasticVerbs(InstanceVerbs):
    """AllocateAddress and its kin."""

    def clear(self) -> None:
        """Forget all records."""
        super().clear()
        self.elastic: dict[str, ElasticRecord] = {}
        self._public = itertools.count(1)

    def allocate_address(self, *, tags: Tags | None = None) -> ElasticAddress:
        """AllocateAddress: one of 203.0.113.0/24 and the networks above it."""
        number = next(self._public)
        record = ElasticRecord(self.new_id("eipalloc"), f"203.0.{113 + number // 256}.{number % 256}")
        self.elastic[record.id] = record
        if tags:
            self.tags[record.id].update(tags)
        return self._elastic(record)

    def describe_addresses(self, filters: listing.Filters | None = None) -> tuple[ElasticAddress, ...]:
        """DescribeAddresses; it has no pages."""
        wanted = filters or {}
        listing.check_names(wanted, ELASTIC_FILTERS)
        views = (self._elastic(record) for record in self.elastic.values())
        return tuple(v for v in views if listing.fits(v, wanted, ELASTIC_FILTERS, lambda v: v.tags))

    def associate_address(self, allocation_id: str, interface_id: str, *, allow_reassociation: bool = True) -> str:
        """AssociateAddress with an ENI's own address; the association's id.

        InvalidAllocationID.NotFound, InvalidNetworkInterfaceID.NotFound, Resource.AlreadyAssociated.
        """
        record = self.elastic.get(allocation_id)
        if record is None:
            raise unknown("allocation", allocation_id)
        interface = self.interface_record(interface_id)
        holder = self._holder(record)
        present = next((each for each in self.elastic.values() if self._holder(each) == interface_id), None)
        if not allow_reassociation and (holder or present is not None):
            words = f"resource {allocation_id if holder else interface_id} is already associated"
            raise ModelError("Resource.AlreadyAssociated", words)
        self.keep(interface)
        if present is not None:
            present.association_id = present.interface_id = ""
        record.association_id, record.interface_id = self.new_id("eipassoc"), interface_id
        interface.elastic_ip = record.address
        return record.association_id

    def disassociate_address(self, association_id: str) -> None:
        """DisassociateAddress. InvalidAssociationID.NotFound."""
        record = next((each for each in self.elastic.values() if each.association_id == association_id), None)
        if record is None or not association_id:
            raise unknown("association", association_id)
        interface = self.interfaces.get(record.interface_id)
        if interface is not None:
            self.keep(interface)
            interface.elastic_ip = ""
        record.association_id = record.interface_id = ""

    def _holder(self, record: ElasticRecord) -> str:
        return record.interface_id if record.interface_id in self.interfaces else ""

    def _elastic(self, record: ElasticRecord) -> ElasticAddress:
        holder = self._holder(record)
        association_id = record.association_id if holder else ""
        return ElasticAddress(record.id, record.address, association_id, holder, dict(self.tags.get(record.id, {})))
