"""Which IPv6 addresses and /80 prefixes of one subnet are free.

A subnet's /64 holds 65,536 blocks of /80. Single addresses come out of the first block, so that they never break one
that a prefix could take. This never knows about ENIs, limits or time.
"""

from __future__ import annotations

import ipaddress

from enitide_lab.ec2model.errors import address_in_use, bad_value, no_free_blocks

BLOCK_BITS = 48
BLOCKS = 1 << 16


class AddressMap6:
    """The free-address map of one IPv6 /64."""

    __slots__ = ("_blocks", "_next", "_next_block", "_singles", "base")

    def __init__(self, cidr: str) -> None:
        network = ipaddress.IPv6Network(cidr)
        self.base = int(network.network_address)
        self._singles: set[int] = set()
        self._blocks: set[int] = set()
        self._next = 0x10  # the first addresses belong to EC2
        self._next_block = 1

    def take(self, count: int) -> list[str]:
        """`count` addresses of EC2's own choice."""
        taken: list[str] = []
        while len(taken) < count:
            self._next += 1
            if self._next not in self._singles:
                self._singles.add(self._next)
                taken.append(str(ipaddress.IPv6Address(self.base + self._next)))
        return taken

    def take_exact(self, address: str) -> None:
        """This one address; InvalidParameterValue outside the subnet, InvalidIPAddress.InUse when taken."""
        offset = self._offset(address)
        if offset in self._singles or offset >> BLOCK_BITS in self._blocks:
            raise address_in_use(address)
        self._singles.add(offset)

    def give(self, address: str) -> None:
        """An address comes back."""
        self._singles.remove(self._offset(address))

    def take_blocks(self, count: int) -> list[str]:
        """`count` whole /80 prefixes, all or none (InsufficientCidrBlocks)."""
        if count > BLOCKS - 1 - len(self._blocks):
            raise no_free_blocks()
        taken: list[str] = []
        while len(taken) < count:
            block = self._next_block
            self._next_block = block % (BLOCKS - 1) + 1
            if block not in self._blocks:
                self._blocks.add(block)
                taken.append(self._prefix(block))
        return taken

    def take_exact_block(self, prefix: str) -> None:
        """This one /80."""
        block = self._block(prefix)
        if block in self._blocks or any(single >> BLOCK_BITS == block for single in self._singles):
            raise address_in_use(prefix)
        self._blocks.add(block)

    def give_block(self, prefix: str) -> None:
        """A /80 comes back."""
        self._blocks.remove(self._block(prefix))

    def _prefix(self, block: int) -> str:
        return f"{ipaddress.IPv6Address(self.base + (block << BLOCK_BITS))}/80"

    def _block(self, prefix: str) -> int:
        network = parse6(prefix)
        if network.prefixlen != 80:
            raise bad_value(f"The prefix {prefix} is not a /80 block of the subnet")
        return self._offset(str(network.network_address)) >> BLOCK_BITS

    def _offset(self, address: str) -> int:
        offset = int(parse6(address).network_address) - self.base
        if not 0 <= offset < 1 << 64:
            raise bad_value("Address does not fall within the subnet's address range")
        return offset


def parse6(value: str) -> ipaddress.IPv6Network:
    """An address (as /128) or a prefix; InvalidParameterValue if it is neither."""
    try:
        return ipaddress.IPv6Network(value)
    except ValueError as exc:
        raise bad_value(f"Value ({value}) is invalid. Must be a valid IPv6 address or prefix.") from exc
