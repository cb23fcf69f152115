"""Taking addresses and prefixes out of a subnet, all that one call asks for or nothing.

A `Claim` collects what was taken; if the call fails before it is complete, everything goes back. Only the subnet's
maps change here: who holds an address afterwards is for the verbs to record.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from enitide_lab.ec2model.addresses import number, text
from enitide_lab.ec2model.addresses6 import AddressMap6
from enitide_lab.ec2model.errors import ModelError, bad_combination, bad_value, no_free_addresses
from enitide_lab.ec2model.state import SubnetRecord


@dataclass(frozen=True, slots=True)
class Wish:
    """What one call asks for: counts of EC2's choice, and things by name."""

    count: int = 0
    named: tuple[str, ...] = ()
    prefix_count: int = 0
    prefixes: tuple[str, ...] = ()
    ipv6_count: int = 0
    ipv6_named: tuple[str, ...] = ()
    ipv6_prefix_count: int = 0
    ipv6_prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.count, self.prefix_count, self.ipv6_count, self.ipv6_prefix_count) < 0:
            raise bad_value("A count of addresses or prefixes may not be negative")

    @property
    def slots(self) -> int:
        """IPv4 slots that it will take."""
        return self.count + len(self.named) + self.prefix_count + len(self.prefixes)

    @property
    def slots6(self) -> int:
        """IPv6 slots that it will take."""
        return self.ipv6_count + len(self.ipv6_named) + self.ipv6_prefix_count + len(self.ipv6_prefixes)

    @property
    def asks_prefixes(self) -> bool:
        """Whether it needs an instance type that takes prefixes."""
        return bool(self.prefix_count or self.prefixes or self.ipv6_prefix_count or self.ipv6_prefixes)


class Claim:
    """What one call has taken out of `subnet` so far, in text."""

    def __init__(self, subnet: SubnetRecord) -> None:
        self.subnet = subnet
        self.addresses: list[str] = []
        self.prefixes: list[str] = []
        self.ipv6: list[str] = []
        self.ipv6_prefixes: list[str] = []

    def take(self, wish: Wish) -> None:
        """All of `wish`: prefixes first, so that this call's own single addresses never break the last whole block."""
        space = self.subnet.map
        if wish.count > space.free:
            raise no_free_addresses()
        if wish.prefix_count:
            self.prefixes += (f"{text(first)}/28" for first in space.take_blocks(wish.prefix_count))
        for prefix in wish.prefixes:
            space.take_exact_block(block_start(prefix))
            self.prefixes.append(prefix)
        for address in wish.named:
            space.take_exact(number(address))
            self.addresses.append(address)
        self.addresses += map(text, space.take(wish.count))
        if wish.slots6:
            self._take_ipv6(wish, ipv6_map(self.subnet))

    def _take_ipv6(self, wish: Wish, space: AddressMap6) -> None:
        for address in wish.ipv6_named:
            space.take_exact(address)
            self.ipv6.append(address)
        self.ipv6 += space.take(wish.ipv6_count)
        for prefix in wish.ipv6_prefixes:
            space.take_exact_block(prefix)
            self.ipv6_prefixes.append(prefix)
        self.ipv6_prefixes += space.take_blocks(wish.ipv6_prefix_count)

    def undo(self) -> None:
        """Everything goes back."""
        give_back(self.subnet, self.addresses, self.prefixes, self.ipv6, self.ipv6_prefixes)


def claim(subnet: SubnetRecord, wish: Wish) -> Claim:
    """The whole `wish`, or the refusal with everything given back."""
    taken = Claim(subnet)
    try:
        taken.take(wish)
    except ModelError:
        taken.undo()
        raise
    return taken


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
