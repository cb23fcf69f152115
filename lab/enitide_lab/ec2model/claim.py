"""Taking addresses and prefixes out of a subnet, all that one call asks for or nothing.

A `Claim` collects what was taken; if the call fails before it is complete, everything goes back. Only the subnet's
maps change here: who holds an address afterwards is for the verbs to record.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from enitide_lab.ec2model.addresses import number, text
from enitide_lab.ec2model.addresses6 import AddressMap6
from enitide_lab.ec2model.errors import bad_combination, bad_value, no_free_addresses
from enitide_lab.ec2model.state import SubnetRecord


class Claim:
    """What one call has taken out of `subnet` so far, in text."""

    def __init__(self, subnet: SubnetRecord) -> None:
        self.subnet = subnet
        self.addresses: list[str] = []
        self.prefixes: list[str] = []
        self.ipv6: list[str] = []
        self.ipv6_prefixes: list[str] = []

    def take(self, count: int) -> None:
        """`count` single addresses of EC2's choice."""
        self.addresses += map(text, self.subnet.map.take(count))

    def take_named(self, addresses: Sequence[str]) -> None:
        """These single addresses."""
        for address in addresses:
            self.subnet.map.take_exact(number(address))
            self.addresses.append(address)

    def take_prefixes(self, count: int) -> None:
        """`count` /28 prefixes of EC2's choice."""
        self.prefixes += (f"{text(first)}/28" for first in self.subnet.map.take_blocks(count))

    def take_named_prefixes(self, prefixes: Sequence[str]) -> None:
        """These /28 prefixes."""
        for prefix in prefixes:
            self.subnet.map.take_exact_block(block_start(prefix))
            self.prefixes.append(prefix)

    def take_ipv6(self, count: int, named: Sequence[str]) -> None:
        """IPv6 addresses."""
        if count or named:
            space = ipv6_map(self.subnet)
            for address in named:
                space.take_exact(address)
                self.ipv6.append(address)
            self.ipv6 += space.take(count)

    def take_ipv6_prefixes(self, count: int, named: Sequence[str]) -> None:
        """/80 prefixes."""
        if count or named:
            space = ipv6_map(self.subnet)
            for prefix in named:
                space.take_exact_block(prefix)
                self.ipv6_prefixes.append(prefix)
            self.ipv6_prefixes += space.take_blocks(count)

    def undo(self) -> None:
        """Everything goes back."""
        give_back(self.subnet, self.addresses, self.prefixes, self.ipv6, self.ipv6_prefixes)


@contextmanager
def claim(subnet: SubnetRecord) -> Iterator[Claim]:
    """A claim that is undone if the block raises."""
    taken = Claim(subnet)
    try:
        yield taken
    except BaseException:
        taken.undo()
        raise


def give_back(
    subnet: SubnetRecord,
    addresses: Sequence[str] = (),
    prefixes: Sequence[str] = (),
    ipv6: Sequence[str] = (),
    ipv6_prefixes: Sequence[str] = (),
) -> None:
    """Return addresses and prefixes to the subnet."""
    for address in addresses:
        subnet.map.give(number(address))
    for prefix in prefixes:
        subnet.map.give_block(block_start(prefix))
    if subnet.map6 is not None:
        for address in ipv6:
            subnet.map6.give(address)
        for prefix in ipv6_prefixes:
            subnet.map6.give_block(prefix)


def block_start(prefix: str) -> int:
    """First address of a /28, or InvalidParameterValue."""
    try:
        network = ipaddress.IPv4Network(prefix)
    except ValueError as exc:
        raise bad_value(f"Value ({prefix}) for parameter ipv4Prefix is invalid. Must be a valid /28 prefix.") from exc
    if network.prefixlen != 28:
        raise bad_value(f"Value ({prefix}) for parameter ipv4Prefix is invalid. Must be a valid /28 prefix.")
    return int(network.network_address)


def ipv6_map(subnet: SubnetRecord) -> AddressMap6:
    """The subnet's IPv6 map, or InvalidParameterValue where it has no IPv6 CIDR."""
    if subnet.map6 is None:
        raise bad_value(f"The subnet {subnet.id} does not have an associated IPv6 CIDR block")
    return subnet.map6


def one_kind(**asked: object) -> None:
    """InvalidParameterCombination when more than one of the given parameters is present."""
    present = [name for name, value in asked.items() if value]
    if len(present) > 1:
        raise bad_combination(f"The parameters {' and '.join(present)} may not be specified together")


def require_room(subnet: SubnetRecord, singles: int) -> None:
    """InsufficientFreeAddressesInSubnet unless `singles` addresses are left."""
    if singles > subnet.map.free:
        raise no_free_addresses()
