"""Create, delete, modify and describe ENIs.

Rules kept here: a client token makes Create repeatable, with the same parameters only; an attached ENI cannot be
deleted; groups must exist in the VPC; what one Create asks for is taken whole or not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from enitide_lab.ec2model import listing
from enitide_lab.ec2model.claim import Claim, Wish, claim, give_back, one_kind
from enitide_lab.ec2model.errors import ModelError, bad_value, dry_run, in_use, unknown
from enitide_lab.ec2model.network import NetworkVerbs
from enitide_lab.ec2model.state import InterfaceRecord, SubnetRecord
from enitide_lab.ec2model.types import NetworkInterface, Page, Tags

TOKEN_LIFE_S = 24 * 3600.0
MOST_ADDRESSES_UNATTACHED = 256
STRANGER_ADDRESSES = 50
NARROW = frozenset({"attachment.instance-id", "attachment.attachment-id", "network-interface-id"})
TYPES = ("interface", "efa", "efa-only", "trunk", "branch")

INTERFACE_FILTERS: Mapping[str, listing.Reader[NetworkInterface]] = {
    "network-interface-id": lambda n: n.id,
    "subnet-id": lambda n: n.subnet_id,
    "vpc-id": lambda n: n.vpc_id,
    "availability-zone": lambda n: n.zone,
    "description": lambda n: n.description,
    "mac-address": lambda n: n.mac,
    "group-id": lambda n: n.groups,
    "status": lambda n: n.status,
    "interface-type": lambda n: n.interface_type,
    "source-dest-check": lambda n: str(n.source_dest_check).lower(),
    "requester-managed": lambda n: str(n.requester_managed).lower(),
    "private-ip-address": lambda n: n.primary,
    "addresses.private-ip-address": lambda n: n.addresses,
    "addresses.primary": lambda n: ["true", "false"] if len(n.addresses) > 1 else ["true"] if n.addresses else [],
    "ipv6-addresses.ipv6-address": lambda n: n.ipv6_addresses,
    "attachment.attachment-id": lambda n: n.attachment.id if n.attachment else None,
    "attachment.instance-id": lambda n: n.attachment.instance_id if n.attachment else None,
    "attachment.device-index": lambda n: str(n.attachment.index) if n.attachment else None,
    "attachment.network-card-index": lambda n: str(n.attachment.card) if n.attachment else None,
    "attachment.status": lambda n: n.attachment.status if n.attachment else "detached",
    "attachment.delete-on-termination": lambda n: (
        str(n.attachment.delete_on_termination).lower() if n.attachment else None
    ),
}


class InterfaceVerbs(NetworkVerbs):
    """CreateNetworkInterface and its kin."""

    def create_network_interface(
        self,
        subnet_id: str,
        *,
        groups: Sequence[str] = (),
        description: str = "",
        address: str | None = None,
        addresses: Sequence[str] = (),
        secondary_count: int = 0,
        prefix_count: int = 0,
        prefixes: Sequence[str] = (),
        ipv6_count: int = 0,
        ipv6_addresses: Sequence[str] = (),
        ipv6_prefix_count: int = 0,
        ipv6_prefixes: Sequence[str] = (),
        interface_type: str = "interface",
        tags: Tags | None = None,
        client_token: str | None = None,
        dry: bool = False,
    ) -> NetworkInterface:
        """CreateNetworkInterface.

        `address`: the primary by name; `addresses`: singles by name, the first being the primary without `address`.
        InvalidSubnetID.NotFound, InvalidGroup.NotFound, InvalidIPAddress.InUse, InvalidParameterCombination,
        InsufficientFreeAddressesInSubnet, InsufficientCidrBlocks, IdempotentParameterMismatch, DryRunOperation.
        """
        self.advance()
        names = tuple(addresses)
        if address is not None:
            names = (address, *(name for name in names if name != address))
        wish = Wish(
            secondary_count + (not names),
            names,
            prefix_count,
            tuple(prefixes),
            ipv6_count,
            tuple(ipv6_addresses),
            ipv6_prefix_count,
            tuple(ipv6_prefixes),
        )
        if secondary_count:
            one_kind(
                secondaryPrivateIpAddressCount=secondary_count,
                privateIpAddresses=addresses,
                ipv4PrefixCount=prefix_count,
                ipv4Prefixes=prefixes,
            )
        require_consistent(wish, interface_type)
        asked = (subnet_id, tuple(groups), description, wish, interface_type, dict(tags or {}))
        if client_token and (known := self._by_token(client_token, asked)) is not None:
            return known
        subnet = self.subnet_record(subnet_id)
        group_ids = self.require_groups(groups, subnet.vpc.id) or self.default_groups(subnet)
        if dry:
            raise dry_run()
        record = InterfaceRecord(
            self.new_id("eni"), subnet, self.new_mac(), description, group_ids, interface_type, primary=None
        )
        furnish(record, claim(subnet, wish), own=0)
        self.adopt(record, tags)
        made = self.view(record)
        if client_token:
            self.tokens[client_token] = (self.clock(), asked, made)
        return made

    def _by_token(self, token: str, asked: object) -> NetworkInterface | None:
        if token not in self.tokens:
            return None
        since_s, before, made = self.tokens[token]
        if self.clock() - since_s > TOKEN_LIFE_S:
            del self.tokens[token]
            return None
        if before != asked:
            words = f"The client token '{token}' was used with different parameters."
            raise ModelError("IdempotentParameterMismatch", words)
        record = self.interfaces.get(made.id)
        return made if record is None else self.view(record)

    def place_interface(
        self,
        subnet_id: str,
        *,
        fixed_id: str | None = None,
        ipv4: bool = True,
        hidden: bool = False,
        requester_managed: bool = False,
        description: str = "",
        groups: Sequence[str] = (),
        address: str | None = None,
        addresses: Sequence[str] = (),
        count: int = 0,
        prefixes: Sequence[str] = (),
        prefix_count: int = 0,
        ipv6_prefix_count: int = 0,
        tags: Tags | None = None,
    ) -> NetworkInterface:
        """An ENI that exists beforehand, with rights no call has: its id, IPv6 alone, or hidden from every read."""
        subnet = self.subnet_record(subnet_id)
        record = InterfaceRecord(
            fixed_id or self.new_id("eni"),
            subnet,
            self.new_mac(),
            description,
            self.require_groups(groups, subnet.vpc.id) or self.default_groups(subnet),
            "interface",
            primary=None,
            requester_managed=requester_managed,
            hidden=hidden,
        )
        named = tuple(dict.fromkeys([address, *addresses] if address else addresses))
        wish = Wish(count + (address is None), named, prefix_count, tuple(prefixes), 0, (), ipv6_prefix_count)
        if not ipv4:
            wish = Wish(ipv6_count=int(subnet.map6 is not None), ipv6_prefix_count=ipv6_prefix_count)
        # Without `address` the ENI's own is EC2's choice, which a claim holds behind the named ones.
        furnish(record, claim(subnet, wish), own=None if not ipv4 else 0 if address else len(named))
        self.adopt(record, tags)
        return self.view(record)

    def default_groups(self, subnet: SubnetRecord) -> tuple[str, ...]:
        """The VPC's default security group, where it has one."""
        return tuple(g.id for g in self.groups.values() if g.vpc_id == subnet.vpc.id and g.name == "default")[:1]

    def adopt(self, record: InterfaceRecord, tags: Tags | None = None) -> None:
        """Enter a furnished ENI into the world's indices and tell the feed."""
        self.keep(record, new=True)
        self.interfaces[record.id] = record
        record.subnet.interfaces[record.id] = record
        for address in (*filter(None, (record.primary,)), *record.secondaries):
            record.subnet.by_address[address] = record
        self.use_groups(record.groups, 1)
        self._tag(record.id, tags)
        self.tell("created", record, **contents(record))

    def delete_network_interface(self, interface_id: str, *, dry: bool = False) -> None:
        """DeleteNetworkInterface. InvalidNetworkInterface.InUse while attached."""
        self.advance()
        record = self.interface_record(interface_id)
        if record.attachment is not None:
            raise in_use(f"Network interface '{interface_id}' is currently in use.")
        if dry:
            raise dry_run()
        self.drop(record)

    def drop(self, record: InterfaceRecord) -> None:
        """Remove an ENI and free all it holds."""
        self.keep(record)
        singles = [*filter(None, (record.primary,)), *record.secondaries]
        give_back(record.subnet, singles, tuple(record.prefixes), tuple(record.ipv6), tuple(record.ipv6_prefixes))
        for address in singles:
            del record.subnet.by_address[address]
        self.use_groups(record.groups, -1)
        self.tell("deleted", record, **contents(record))
        del self.interfaces[record.id], record.subnet.interfaces[record.id]
        self.tags.pop(record.id, None)

    def modify_network_interface_attribute(
        self,
        interface_id: str,
        *,
        groups: Sequence[str] | None = None,
        description: str | None = None,
        source_dest_check: bool | None = None,
        attachment_id: str | None = None,
        delete_on_termination: bool | None = None,
        dry: bool = False,
    ) -> None:
        """ModifyNetworkInterfaceAttribute: exactly one attribute per call, as in EC2."""
        self.advance()
        record = self.interface_record(interface_id)
        one_kind(
            groups=groups is not None,
            description=description is not None,
            sourceDestCheck=source_dest_check is not None,
            attachment=delete_on_termination is not None,
        )
        if groups is not None:
            groups = self.require_groups(groups, record.subnet.vpc.id)
            if not groups:
                raise ModelError("InvalidParameterValue", "At least one security group must be specified")
        if delete_on_termination is not None and (record.attachment is None or record.attachment.id != attachment_id):
            raise unknown("attachment", attachment_id or "")
        if dry:
            raise dry_run()
        self.keep(record)
        if groups is not None:
            self.use_groups(record.groups, -1)
            record.groups = tuple(groups)
            self.use_groups(record.groups, 1)
        if description is not None:
            record.description = description
        if source_dest_check is not None:
            record.source_dest_check = source_dest_check
        if delete_on_termination is not None and record.attachment is not None:
            record.attachment.delete_on_termination = delete_on_termination
        self.tell("modified", record)

    def describe_network_interfaces(
        self,
        interface_ids: Sequence[str] = (),
        filters: listing.Filters | None = None,
        *,
        max_results: int | None = None,
        next_token: str | None = None,
    ) -> Page[NetworkInterface]:
        """DescribeNetworkInterfaces. Named ids unknown or not visible yet: InvalidNetworkInterfaceID.NotFound."""
        self.advance()
        wanted = filters or {}
        readers = {**INTERFACE_FILTERS, "group-name": self._group_names}
        listing.check_names(wanted, readers)
        window = listing.window(
            ids=interface_ids, ids_name="networkInterfaceIds", max_results=max_results, next_token=next_token
        )
        records = self._candidates(interface_ids, wanted)
        strangers = {} if interface_ids else {view.id: view for view in self._strangers(wanted)}
        for interface_id in interface_ids:
            if interface_id not in records or self.seen(records[interface_id]) is None:
                raise unknown("interface", interface_id)

        def show(interface_id: str) -> NetworkInterface | None:
            view = strangers.get(interface_id) or self.seen(records[interface_id])
            fits = view is not None and listing.fits(view, wanted, readers, lambda n: n.tags)
            return view if fits else None

        return listing.cut([*records, *strangers], show, window)

    def _strangers(self, filters: listing.Filters) -> Iterator[NetworkInterface]:
        """What strangers hold (`set_subnet_room`) hangs on ENIs too: requester-managed ones, as a load balancer's.

        They are shown to whoever lists a subnet, or everything, and are no records of this world: nothing can be done
        to them.
        """
        if not NARROW.isdisjoint(filters):
            return
        named = filters.get("subnet-id")
        subnets = self.subnets.values() if named is None else [self.subnets[i] for i in named if i in self.subnets]
        for subnet in subnets:
            held = subnet.map.outside()
            for number, first in enumerate(range(0, len(held), STRANGER_ADDRESSES)):
                yield self._stranger(subnet, number, tuple(held[first : first + STRANGER_ADDRESSES]))

    def _stranger(self, subnet: SubnetRecord, number: int, addresses: tuple[str, ...]) -> NetworkInterface:
        name = hashlib.blake2b(f"{subnet.id}/{number}".encode(), digest_size=9).hexdigest()[:17]
        return NetworkInterface(
            id=f"eni-{name}",
            subnet_id=subnet.id,
            vpc_id=subnet.vpc.id,
            zone=subnet.zone,
            description="a stranger's",
            mac=f"06:{name[0:2]}:{name[2:4]}:{name[4:6]}:{name[6:8]}:{name[8:10]}",
            groups=(),
            status="in-use",
            interface_type="interface",
            source_dest_check=True,
            addresses=addresses,
            prefixes=(),
            ipv6_addresses=(),
            ipv6_prefixes=(),
            attachment=None,
            requester_managed=True,
            tags={},
        )

    def _group_names(self, view: NetworkInterface) -> list[str]:
        return [self.groups[i].name for i in view.groups if i in self.groups]

    def _candidates(self, interface_ids: Sequence[str], filters: listing.Filters) -> Mapping[str, InterfaceRecord]:
        """The fewest records that can hold the answer: by index where a filter names ids, plus what is changing."""
        if interface_ids:
            named = ((i, self.interfaces.get(i) or self.changing.get(i)) for i in interface_ids)
            return {i: record for i, record in named if record is not None}
        for name, index in (
            ("attachment.instance-id", lambda i: self.instances[i].devices.values() if i in self.instances else ()),
            ("subnet-id", lambda i: self.subnets[i].interfaces.values() if i in self.subnets else ()),
            ("network-interface-id", lambda i: [self.interfaces[i]] if i in self.interfaces else ()),
        ):
            values = filters.get(name)
            if values is not None and not any("*" in value or "?" in value for value in values):
                near = {record.id: record for value in values for record in index(value)}
                return near | self.changing
        return self.interfaces | self.changing if self.changing else self.interfaces


def contents(record: InterfaceRecord) -> dict[str, tuple[str, ...]]:
    """What an ENI holds, as feed fields; its own address first."""
    return {
        "addresses": (*filter(None, (record.primary,)), *record.secondaries),
        "prefixes": tuple(record.prefixes),
        "ipv6_addresses": tuple(record.ipv6),
        "ipv6_prefixes": tuple(record.ipv6_prefixes),
    }


def furnish(record: InterfaceRecord, taken: Claim, *, own: int | None) -> None:
    """Enter what was claimed into a new ENI. `own`: which of the single addresses is its own."""
    singles = list(taken.addresses)
    record.primary = None if own is None else singles.pop(own)
    record.secondaries = dict.fromkeys(singles)
    record.prefixes = dict.fromkeys(taken.prefixes)
    record.ipv6 = dict.fromkeys(taken.ipv6)
    record.ipv6_prefixes = dict.fromkeys(taken.ipv6_prefixes)


def require_consistent(wish: Wish, interface_type: str) -> None:
    """What CreateNetworkInterface refuses whatever the subnet holds."""
    if interface_type not in TYPES:
        raise bad_value(f"Value ({interface_type}) for parameter interfaceType is invalid.")
    if wish.prefix_count and wish.prefixes:
        one_kind(ipv4PrefixCount=wish.prefix_count, ipv4Prefixes=wish.prefixes)
    if wish.slots6:
        one_kind(ipv6AddressCount=wish.ipv6_count, ipv6Addresses=wish.ipv6_named)
        one_kind(ipv6PrefixCount=wish.ipv6_prefix_count, ipv6Prefixes=wish.ipv6_prefixes)
    if wish.slots > MOST_ADDRESSES_UNATTACHED:
        raise ModelError("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
