"""Which IPv4 addresses of one subnet are free, as EC2 sees it.

The subnet is a row of /28 blocks, each a 16-bit word: a set bit is a taken address. Counts are kept, never computed:
reading `free` costs O(1). EC2 reserves the first four addresses and the last one. CIDR reservations hold addresses
back: a `prefix` reservation serves prefixes only, an `explicit` one serves only addresses asked for by name.

Which single address EC2 picks by itself is its own business, so it is a policy here: `worst` (the default) breaks a
whole free /28 whenever there is one, which is the hardest case for prefix delegation; `dense` fills broken blocks
first; `scatter` is seeded chance. This never knows about ENIs, limits or time.
"""

from __future__ import annotations

import heapq
import ipaddress
from array import array
from random import Random
from typing import Literal

from enitide_lab.ec2model.errors import address_in_use, bad_value, no_free_addresses, no_free_blocks

Policy = Literal["worst", "dense", "scatter"]
FULL = 0xFFFF
BLOCK = 16


def text(address: int) -> str:
    """An IPv4 address as dotted text."""
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


def number(address: str) -> int:
    """Dotted text as an integer; InvalidParameterValue if it is no IPv4 address."""
    try:
        return int(ipaddress.IPv4Address(address))
    except ipaddress.AddressValueError as exc:
        raise bad_value(f"Value ({address}) for parameter address is invalid. Must be a valid IPv4 address.") from exc


class AddressMap:
    """The free-address map of one subnet (/16 to /28)."""

    __slots__ = (
        "_broken",
        "_busy",
        "_held",
        "_kept",
        "_outside",
        "_random",
        "_whole",
        "base",
        "free",
        "policy",
        "size",
        "whole",
    )

    def __init__(self, cidr: str, policy: Policy = "worst", seed: int = 0) -> None:
        network = ipaddress.IPv4Network(cidr)
        if not 16 <= network.prefixlen <= 28:
            raise ModelRange(cidr)
        self.base = int(network.network_address)
        self.size = network.num_addresses
        self.policy = policy
        blocks = self.size // BLOCK
        self._busy = array("H", bytes(2 * blocks))  # taken by ENIs, by EC2 itself, or by strangers (`_outside`)
        self._held = array("H", bytes(2 * blocks))  # covered by a CIDR reservation of either kind
        self._outside = array("H", bytes(2 * blocks))  # taken by strangers, see set_room
        self._kept: set[int] = set()  # blocks inside a `prefix` reservation
        self._random = Random(f"{seed}/{cidr}")  # noqa: S311 - chance here must repeat, not be secret
        self._busy[0] = 0x000F
        self._busy[blocks - 1] |= 0x8000
        self.free = self.size - 5
        self.whole = sum(1 for word in self._busy if not word)
        # Lazily cleaned heaps of candidates: entries that stopped being true are dropped when met.
        self._whole = [i for i in range(blocks) if not self._busy[i]]
        self._broken = [i for i in range(blocks) if self._busy[i]]

    # --- looking ---------------------------------------------------------------------------------------------

    def offset(self, address: int) -> int:
        """Distance from the subnet's base; InvalidParameterValue outside the subnet or in EC2's reserved range."""
        offset = address - self.base
        if not 0 <= offset < self.size:
            raise bad_value("Address does not fall within the subnet's address range")
        if offset < 4 or offset == self.size - 1:
            raise bad_value("Address is in subnet's reserved address range")
        return offset

    def blocks_left(self) -> int:
        """Whole /28 blocks that a prefix can still take, those in prefix reservations included."""
        return self.whole + sum(1 for index in self._kept if not self._busy[index])

    def taken(self, address: int) -> bool:
        """Whether an address of this subnet is in use (by anyone, EC2 included)."""
        offset = address - self.base
        return bool(self._busy[offset >> 4] >> (offset & 15) & 1)

    # --- single addresses ------------------------------------------------------------------------------------

    def take(self, count: int) -> list[int]:
        """`count` addresses of EC2's own choice, all or none (InsufficientFreeAddressesInSubnet)."""
        if count > self.free:
            raise no_free_addresses()
        return [self._take_one() for _ in range(count)]

    def check(self, address: int) -> None:
        """Raise what EC2 would if `address` were asked for by name; change nothing."""
        offset = self.offset(address)
        if self.taken(address):
            raise address_in_use(text(address))
        if offset >> 4 in self._kept:
            raise bad_value(f"Address {text(address)} lies in a subnet CIDR reservation of type prefix")

    def take_exact(self, address: int) -> None:
        """This one address; InvalidIPAddress.InUse or InvalidParameterValue."""
        self.check(address)
        self._set(self.offset(address))

    def give(self, address: int) -> None:
        """An address comes back."""
        self._clear(address - self.base)

    # --- prefixes --------------------------------------------------------------------------------------------

    def take_blocks(self, count: int) -> list[int]:
        """First addresses of `count` whole /28 blocks, all or none (InsufficientCidrBlocks)."""
        reserved = sorted(i for i in self._kept if not self._busy[i])[:count]
        if count > len(reserved) + self.whole:
            raise no_free_blocks()
        for index in reserved:
            self._fill(index)
        chosen = reserved + [self._fill_whole() for _ in range(count - len(reserved))]
        return [self.base + index * BLOCK for index in chosen]

    def check_block(self, first: int) -> None:
        """Raise what EC2 would if the /28 at `first` were asked for by name."""
        offset = first - self.base
        if offset % BLOCK or not 0 <= offset < self.size:
            raise bad_value(f"The prefix {text(first)}/28 is not a /28 block of the subnet")
        index = offset >> 4
        if self._busy[index] or (self._held[index] and index not in self._kept):
            raise address_in_use(f"{text(first)}/28")

    def take_exact_block(self, first: int) -> None:
        """The /28 block that begins at `first`."""
        self.check_block(first)
        self._fill((first - self.base) >> 4)

    def give_block(self, first: int) -> None:
        """A /28 block comes back whole."""
        index = (first - self.base) >> 4
        for bit in range(BLOCK):
            self._clear(index * BLOCK + bit)

    # --- reservations and strangers --------------------------------------------------------------------------

    def reserve(self, first: int, size: int, *, for_prefixes: bool) -> None:
        """Hold `size` addresses from `first` back, for prefixes or for explicit requests only."""
        for offset in range(first - self.base, first - self.base + size):
            index, bit = offset >> 4, 1 << (offset & 15)
            self._held[index] |= bit
            self._recount(index, -(not self._busy[index] & bit), was=self._busy[index] | (self._held[index] & ~bit))
            if for_prefixes:
                self._kept.add(index)

    def unreserve(self, first: int, size: int) -> None:
        """A reservation ends."""
        for offset in range(first - self.base, first - self.base + size):
            index, bit = offset >> 4, 1 << (offset & 15)
            was = self._busy[index] | self._held[index]
            self._held[index] &= ~bit & FULL
            self._recount(index, int(not self._busy[index] & bit), was=was)
            self._kept.discard(index)

    def most_free(self, whole: int) -> int:
        """The most addresses that can be left while `whole` blocks are whole, as `set_room` counts."""
        words = [
            (busy & ~mine & FULL) | held for busy, mine, held in zip(self._busy, self._outside, self._held, strict=True)
        ]
        wholes = sum(not word for word in words)
        loose = sum(BLOCK - word.bit_count() for word in words if word)
        return loose + BLOCK * min(whole, wholes) + 15 * max(0, wholes - whole)

    def change_room(self, free: int | None, whole: int | None) -> None:
        """`set_room`, where None is what there is now (`free`: as near to it as `whole` lets it be)."""
        if free is None:
            free = self.free if whole is None else max(BLOCK * whole, min(self.free, self.most_free(whole)))
        self.set_room(free, whole)

    def set_room(self, free: int, whole: int | None = None) -> None:
        """Let strangers take or leave addresses so that exactly `free` are left, `whole` blocks of them whole.

        `whole` None: as many as `free` allows. `ValueError` says why a wish cannot be met. What ENIs of the model
        hold stays theirs; earlier strangers leave first.
        """
        for index, word in enumerate(self._outside):
            for bit in range(BLOCK):
                if word >> bit & 1:
                    self._outside[index] &= ~(1 << bit) & FULL
                    self._clear(index * BLOCK + bit)
        wanted = min(free // BLOCK, self.whole) if whole is None else whole
        words = [self._busy[i] | self._held[i] for i in range(len(self._busy))]
        wholes = [i for i, word in enumerate(words) if not word]
        loose = self.free - BLOCK * len(wholes)
        if wanted > len(wholes) or not BLOCK * wanted <= free <= BLOCK * wanted + loose + 15 * (len(wholes) - wanted):
            most = BLOCK * wanted + loose + 15 * (len(wholes) - wanted)
            instead = f"with {wanted} whole ones free is from {BLOCK * wanted} to {most}"
            if whole is None:
                instead = f"free is at most {self.free}"
            elif wanted > len(wholes):
                instead = f"wholePrefixes is at most {len(wholes)}"
            raise ValueError(
                f"a subnet with {self.free} free addresses and {len(wholes)} whole /28 blocks "
                f"cannot be left with {free} free and {wanted} whole: {instead}"
            )
        self._crowd(free, wholes[wanted:])

    def outside(self) -> list[str]:
        """What strangers hold, in order."""
        offsets = range(self.size)
        return [text(self.base + each) for each in offsets if self._outside[each >> 4] >> (each & 15) & 1]

    def _crowd(self, free: int, breakable: list[int]) -> None:
        # First one address of every block that must not stay whole, then one by one out of those that are broken.
        for index in breakable:
            self._occupy(index * BLOCK)
        spare = [i for i in range(self.size) if self._busy[i >> 4] | self._held[i >> 4]]
        for offset in spare:
            if self.free == free:
                return
            index, bit = offset >> 4, 1 << (offset & 15)
            if not (self._busy[index] | self._held[index]) & bit:
                self._occupy(offset)

    def _occupy(self, offset: int) -> None:
        self._outside[offset >> 4] |= 1 << (offset & 15)
        self._set(offset)

    # --- words -----------------------------------------------------------------------------------------------

    def _set(self, offset: int) -> None:
        index, bit = offset >> 4, 1 << (offset & 15)
        was = self._busy[index] | self._held[index]
        self._busy[index] |= bit
        self._recount(index, -(not self._held[index] & bit), was=was)

    def _clear(self, offset: int) -> None:
        index, bit = offset >> 4, 1 << (offset & 15)
        was = self._busy[index] | self._held[index]
        if not self._busy[index] & bit:
            raise AssertionError(f"{text(self.base + offset)} comes back but was not taken")
        self._busy[index] &= ~bit & FULL
        self._recount(index, int(not self._held[index] & bit), was=was)

    def _fill(self, index: int) -> None:
        was = self._busy[index] | self._held[index]
        self._busy[index] = FULL
        self._recount(index, -(BLOCK - self._held[index].bit_count()), was=was)

    def _recount(self, index: int, change: int, *, was: int) -> None:
        now = self._busy[index] | self._held[index]
        self.free += change
        if was and not now:
            self.whole += 1
            heapq.heappush(self._whole, index)
        elif now and not was:
            self.whole -= 1
        if now and now != FULL and (not was or was == FULL):
            heapq.heappush(self._broken, index)

    def _fill_whole(self) -> int:
        index = self._peek(self._whole, whole=True)
        if index is None:
            raise AssertionError("whole blocks are counted but none is found")
        self._fill(index)
        return index

    def _peek(self, heap: list[int], *, whole: bool) -> int | None:
        while heap:
            word = self._busy[heap[0]] | self._held[heap[0]]
            if (not word) if whole else (word and word != FULL):
                return heap[0]
            heapq.heappop(heap)
        return None

    def _take_one(self) -> int:
        # The busiest path of the model, so it is written out in one piece.
        if self.policy == "scatter":
            return self._take_scattered()
        for heap in (self._whole, self._broken) if self.policy == "worst" else (self._broken, self._whole):
            index = self._peek(heap, whole=heap is self._whole)
            if index is None:
                continue
            word = self._busy[index] | self._held[index]
            bit = ~word & (word + 1)
            self._busy[index] |= bit
            self.free -= 1
            if not word:
                self.whole -= 1
                heapq.heappush(self._broken, index)
            return self.base + index * BLOCK + bit.bit_length() - 1
        raise AssertionError("free addresses are counted but none is found")

    def _take_lowest(self, index: int) -> int:
        word = self._busy[index] | self._held[index]
        offset = index * BLOCK + (~word & (word + 1)).bit_length() - 1
        self._set(offset)
        return self.base + offset

    def _take_scattered(self) -> int:
        blocks = len(self._busy)
        start = self._random.randrange(blocks)
        for step in range(blocks):
            index = (start + step) % blocks
            if (self._busy[index] | self._held[index]) != FULL:
                return self._take_lowest(index)
        raise AssertionError("free addresses are counted but none is found")


class ModelRange(ValueError):
    """EC2 has no subnets of this size."""

    def __init__(self, cidr: str) -> None:
        super().__init__(f"{cidr} cannot be a subnet: write a CIDR from /16 to /28")
