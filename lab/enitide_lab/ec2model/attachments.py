"""Attach and detach ENIs, and assign and unassign what attached ENIs hold: the verbs bounded by the instance type.

Rules kept here: one ENI per (card, index); most ENIs per card; most address slots per ENI, where the ENI's own
address, each secondary and each prefix count one; the ENI and the instance share a zone; the primary ENI stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from enitide_lab.ec2model.claim import Wish, claim, give_back, one_kind
from enitide_lab.ec2model.errors import ModelError, bad_combination, bad_value, dry_run, in_use, unknown
from enitide_lab.ec2model.interfaces import MOST_ADDRESSES_UNATTACHED, InterfaceVerbs, contents
from enitide_lab.ec2model.state import AttachmentRecord, InstanceRecord, InterfaceRecord
from enitide_lab.ec2model.types import Assigned, Attachment


class AttachmentVerbs(InterfaceVerbs):
    """AttachNetworkInterface, AssignPrivateIpAddresses and their kin."""

    # --- attach and detach -----------------------------------------------------------------------------------

    def attach_network_interface(
        self, interface_id: str, instance_id: str, index: int, *, card: int = 0, dry: bool = False
    ) -> Attachment:
        """AttachNetworkInterface.

        InvalidNetworkInterface.InUse, InvalidParameterValue (occupied place, no such card), AttachmentLimitExceeded,
        PrivateIpAddressLimitExceeded, InvalidParameterCombination (other zone), IncorrectState.
        """
        self.advance()
        record, instance = self.interface_record(interface_id), self.instance_record(instance_id)
        if record.attachment is not None:
            raise in_use(f"Interface: [{interface_id}] in use.")
        self.require_place(record, instance, card, index)
        if dry:
            raise dry_run()
        return self.hang(record, instance, card, index, delete_on_termination=False)

    def require_place(self, record: InterfaceRecord, instance: InstanceRecord, card: int, index: int) -> None:
        """Raise what EC2 would if `record` were attached there."""
        most = self.limits_of(instance.type)
        if instance.state not in ("pending", "running", "stopped"):
            raise ModelError("IncorrectInstanceState", f"Instance '{instance.id}' is not 'running'.")
        if record.subnet.zone != instance.subnet.zone:
            words = (
                "You may not attach a network interface to an instance if they are not in the same availability zone"
            )
            raise bad_combination(words)
        if record.subnet.vpc is not instance.subnet.vpc:
            raise bad_combination("The network interface and the instance are not in the same VPC")
        if not 0 <= card < len(most.cards):
            raise bad_value(f"The instance type '{instance.type}' has no network card with index '{card}'.")
        if (card, index) in instance.devices:
            raise bad_value(f"Instance '{instance.id}' already has an interface attached at device index '{index}'.")
        on_card = sum(1 for used_card, _ in instance.devices if used_card == card)
        if on_card >= most.cards[card]:
            raise ModelError(
                "AttachmentLimitExceeded", f"Interface count {on_card + 1} exceeds the limit for {instance.type}"
            )
        self.require_slots(record, instance, Wish())

    def hang(
        self, record: InterfaceRecord, instance: InstanceRecord, card: int, index: int, *, delete_on_termination: bool
    ) -> Attachment:
        """Attach without asking; the device appears after `attach_delay_s`."""
        self.keep(record)
        attachment = AttachmentRecord(
            self.new_id("eni-attach"), instance, card, index, "attaching", delete_on_termination, self.clock()
        )
        record.attachment = attachment
        instance.devices[card, index] = record
        self.by_attachment[attachment.id] = record
        self.later(self.attach_delay_s, lambda: self._attached(record, attachment))
        made = self.view(record).attachment
        if made is None:
            raise AssertionError(f"{record.id} was just attached")
        return made

    def _attached(self, record: InterfaceRecord, attachment: AttachmentRecord) -> None:
        if record.attachment is attachment and attachment.status == "attaching":
            self.keep(record)
            attachment.status = "attached"
            self.tell("attached", record, **contents(record))

    def detach_network_interface(self, attachment_id: str, *, force: bool = False, dry: bool = False) -> None:
        """DetachNetworkInterface. OperationNotPermitted for the primary ENI; IncorrectState while detaching."""
        self.advance()
        record = self.by_attachment.get(attachment_id)
        if record is None or record.attachment is None:
            raise unknown("attachment", attachment_id)
        if (record.attachment.card, record.attachment.index) == (0, 0):
            raise ModelError(
                "OperationNotPermitted",
                "The network interface at device index 0 and networkCard index 0 cannot be detached.",
            )
        if record.attachment.status == "detaching" and not force:
            raise ModelError("IncorrectState", f"The attachment '{attachment_id}' is already detaching.")
        if dry:
            raise dry_run()
        self.keep(record)
        record.attachment.status = "detaching"
        attachment = record.attachment
        self.later(0 if force else self.detach_delay_s, lambda: self.unhang(record, attachment))

    def unhang(self, record: InterfaceRecord, attachment: AttachmentRecord) -> None:
        """The ENI leaves its instance."""
        if record.attachment is attachment:
            self.keep(record)
            self.tell("detached", record, **contents(record))
            record.attachment = None
            del attachment.instance.devices[attachment.card, attachment.index]
            del self.by_attachment[attachment.id]

    # --- assign and unassign ---------------------------------------------------------------------------------

    def assign_private_ip_addresses(
        self,
        interface_id: str,
        *,
        count: int = 0,
        addresses: Sequence[str] = (),
        prefix_count: int = 0,
        prefixes: Sequence[str] = (),
        allow_reassignment: bool = False,
    ) -> Assigned:
        """AssignPrivateIpAddresses; returns only what is new.

        InvalidParameterCombination, PrivateIpAddressLimitExceeded, InsufficientFreeAddressesInSubnet,
        InsufficientCidrBlocks, InvalidIPAddress.InUse.
        """
        self.advance()
        record = self.interface_record(interface_id)
        one_kind(
            secondaryPrivateIpAddressCount=count,
            privateIpAddresses=addresses,
            ipv4PrefixCount=prefix_count,
            ipv4Prefixes=prefixes,
        )
        mine = tuple(a for a in addresses if a in record.secondaries)  # assigning again what is here is no error in EC2
        theirs = self._movable(record, addresses) if allow_reassignment else {}
        named = tuple(a for a in addresses if a not in theirs and a not in mine)
        wish = Wish(count, named, prefix_count, tuple(prefixes))
        if wish.slots + len(mine) + len(theirs) == 0:
            raise ModelError("MissingParameter", "Either addresses, prefixes or a count of them must be specified")
        self.require_slots(record, self._owner(record), wish, len(theirs))
        taken = claim(record.subnet, wish)
        self.keep(record)
        for address, other in theirs.items():
            self._move(address, other)
        fresh = (*taken.addresses, *theirs)
        record.secondaries |= dict.fromkeys(fresh)
        record.prefixes |= dict.fromkeys(taken.prefixes)
        record.subnet.by_address |= dict.fromkeys(fresh, record)
        self.tell("assigned", record, addresses=fresh, prefixes=tuple(taken.prefixes))
        return Assigned(record.id, mine + fresh, tuple(taken.prefixes))

    def _movable(self, record: InterfaceRecord, addresses: Sequence[str]) -> dict[str, InterfaceRecord]:
        holders = {a: record.subnet.by_address[a] for a in addresses if a in record.subnet.by_address}
        for address, holder in holders.items():
            if holder.primary == address:
                raise bad_value(f"The primary address {address} of {holder.id} may not be reassigned")
        return {address: holder for address, holder in holders.items() if holder is not record}

    def _move(self, address: str, other: InterfaceRecord) -> None:
        self.keep(other)
        del other.secondaries[address]
        self.tell("unassigned", other, addresses=(address,))

    def unassign_private_ip_addresses(
        self, interface_id: str, *, addresses: Sequence[str] = (), prefixes: Sequence[str] = ()
    ) -> None:
        """UnassignPrivateIpAddresses; all or nothing. InvalidParameterValue for the primary or what is not assigned."""
        self.advance()
        record = self.interface_record(interface_id)
        one_kind(privateIpAddresses=addresses, ipv4Prefixes=prefixes)
        if not addresses and not prefixes:
            raise ModelError("MissingParameter", "Either addresses or prefixes must be specified")
        if record.primary in addresses:
            raise bad_value("The primary IP address of an interface may not be unassigned.")
        if not set(addresses) <= record.secondaries.keys() or not set(prefixes) <= record.prefixes.keys():
            raise bad_value(f"Some of the specified addresses are not assigned to interface {interface_id}")
        self.keep(record)
        gone, blocks = tuple(dict.fromkeys(addresses)), tuple(dict.fromkeys(prefixes))
        give_back(record.subnet, gone, blocks)
        for address in gone:
            del record.secondaries[address], record.subnet.by_address[address]
        for prefix in blocks:
            del record.prefixes[prefix]
        self.tell("unassigned", record, addresses=gone, prefixes=blocks)

    def assign_ipv6_addresses(
        self,
        interface_id: str,
        *,
        count: int = 0,
        addresses: Sequence[str] = (),
        prefix_count: int = 0,
        prefixes: Sequence[str] = (),
    ) -> Assigned:
        """AssignIpv6Addresses; returns only what is new."""
        self.advance()
        record = self.interface_record(interface_id)
        one_kind(ipv6AddressCount=count, ipv6Addresses=addresses, ipv6PrefixCount=prefix_count, ipv6Prefixes=prefixes)
        wish = Wish(
            ipv6_count=count, ipv6_named=tuple(addresses), ipv6_prefix_count=prefix_count, ipv6_prefixes=tuple(prefixes)
        )
        if not wish.slots6:
            raise ModelError("MissingParameter", "Either addresses, prefixes or a count of them must be specified")
        self.require_slots(record, self._owner(record), wish)
        taken = claim(record.subnet, wish)
        self.keep(record)
        record.ipv6 |= dict.fromkeys(taken.ipv6)
        record.ipv6_prefixes |= dict.fromkeys(taken.ipv6_prefixes)
        ipv6, blocks = tuple(taken.ipv6), tuple(taken.ipv6_prefixes)
        self.tell("assigned", record, ipv6_addresses=ipv6, ipv6_prefixes=blocks)
        return Assigned(record.id, ipv6, blocks)

    def unassign_ipv6_addresses(
        self, interface_id: str, *, addresses: Sequence[str] = (), prefixes: Sequence[str] = ()
    ) -> Assigned:
        """UnassignIpv6Addresses; returns what went. InvalidParameterValue for what is not assigned."""
        self.advance()
        record = self.interface_record(interface_id)
        if not addresses and not prefixes:
            raise ModelError("MissingParameter", "Either addresses or prefixes must be specified")
        if not set(addresses) <= record.ipv6.keys() or not set(prefixes) <= record.ipv6_prefixes.keys():
            raise bad_value(f"Some of the specified addresses are not assigned to interface {interface_id}")
        self.keep(record)
        gone, blocks = tuple(dict.fromkeys(addresses)), tuple(dict.fromkeys(prefixes))
        give_back(record.subnet, ipv6=gone, ipv6_prefixes=blocks)
        for address in gone:
            del record.ipv6[address]
        for prefix in blocks:
            del record.ipv6_prefixes[prefix]
        self.tell("unassigned", record, ipv6_addresses=gone, ipv6_prefixes=blocks)
        return Assigned(record.id, gone, blocks)

    # --- limits ----------------------------------------------------------------------------------------------

    def require_slots(
        self, record: InterfaceRecord, instance: InstanceRecord | None, wish: Wish, moved: int = 0
    ) -> None:
        """PrivateIpAddressLimitExceeded beyond the type's slots; UnsupportedOperation for prefixes off Nitro."""
        most = MOST_ADDRESSES_UNATTACHED
        most6 = MOST_ADDRESSES_UNATTACHED
        if instance is not None:
            limits = self.limits_of(instance.type)
            most, most6 = limits.ipv4, limits.ipv6
            if (wish.asks_prefixes or record.prefixes or record.ipv6_prefixes) and not limits.prefixes:
                words = f"The instance type '{instance.type}' does not support prefixes on its network interfaces"
                raise ModelError("UnsupportedOperation", words)
        if record.slots + wish.slots + moved > most or record.slots6 + wish.slots6 > most6:
            raise ModelError("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")

    def _owner(self, record: InterfaceRecord) -> InstanceRecord | None:
        return None if record.attachment is None else record.attachment.instance
