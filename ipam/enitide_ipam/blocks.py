"""The /28 map of one subnet: a 16-bit word per /28 block, a set bit being an address that is not to be had.

It answers what a count cannot: how many whole /28s are left, and which single addresses lie in blocks that are broken
already. A map is a value: `taken`, `given` and `doubted` make new ones. Who cannot have what (AWS VPC user guide,
subnet sizing and subnet CIDR reservations): the first four addresses and the last one belong to AWS; an `explicit`
reservation is the user's own and never touched; a `prefix` reservation serves /28s only. ENIs that no read shows (those
of another account in a shared subnet) are not in it, so EC2 may still refuse an address by name: that one is `doubted`.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType

from enitide_ipam.addresses import PREFIX_SIZE, parse, parse_cidr, text

FULL = 0xFFFF
AWS_FIRST = 4  # network, router, DNS and one in reserve; the last address of a subnet is AWS's too


class Use(IntEnum):
    """What one address of a subnet is. `OWN`: held by this cluster's ENIs or nodes, `FOREIGN`: by anyone else's."""

    FREE = 0
    AWS = 1
    EXPLICIT = 2
    FOR_PREFIXES = 3
    OWN = 4
    OWN_PREFIX = 5
    FOREIGN = 6
    FOREIGN_PREFIX = 7


@dataclass(frozen=True, slots=True)
class CidrReservation:
    """A subnet CIDR reservation (IPv4). `kind`: `prefix` or `explicit`."""

    id: str
    cidr: str
    kind: str


@dataclass(frozen=True, slots=True)
class Block:
    """One /28 of the map, for pictures: its first address as text, and the use of each of its 16 addresses."""

    cidr: str
    uses: tuple[Use, ...]

    @property
    def free(self) -> int:
        """Addresses that EC2 would give out as single ones."""
        return self.uses.count(Use.FREE)


def words(blocks: int) -> array[int]:
    """One empty word per block."""
    return array("H", bytes(2 * blocks))


@dataclass(frozen=True)
class BlockMap:
    """See the module. The arrays are never changed once the map is made.

    `own`, `foreign`: words of held addresses, those in /28s included. `own_prefixes`, `foreign_prefixes`: indexes of
    blocks that are held as /28s. `closed`: AWS's own addresses and explicit reservations; `kept`: prefix reservations.
    `doubts`: addresses that EC2 refused although nobody is seen to hold them. `clusters`: addresses held by ENIs with
    other clusters' tags, by cluster name, as of the reading. `asked_at`: when that was asked for (Unix seconds).
    """

    cidr: str
    own: array[int]
    foreign: array[int]
    closed: array[int]
    kept: array[int]
    own_prefixes: frozenset[int] = frozenset()
    foreign_prefixes: frozenset[int] = frozenset()
    doubts: frozenset[int] = frozenset()
    clusters: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    asked_at: float = 0.0

    # --- counts ------------------------------------------------------------------------------------------------------

    @cached_property
    def base(self) -> int:
        """The subnet's first address."""
        return parse_cidr(self.cidr)[0]

    @cached_property
    def held(self) -> array[int]:
        """Words of addresses that cannot be had as single ones."""
        return array("H", map(self._word, range(len(self.own))))

    @cached_property
    def free(self) -> int:
        """Single addresses that are left."""
        return sum(PREFIX_SIZE - word.bit_count() for word in self.held)

    @cached_property
    def whole(self) -> int:
        """Whole /28s that a prefix can take, those of prefix reservations included."""
        return self.open_whole + self.kept_whole

    @cached_property
    def open_whole(self) -> int:
        """Whole free /28s outside reservations: those that a single address can break."""
        return self.held.count(0)

    @cached_property
    def kept_whole(self) -> int:
        """Whole free /28s in prefix reservations."""
        return sum(map(self._is_kept_whole, range(len(self.kept)))) if any(self.kept) else 0

    @cached_property
    def broken(self) -> tuple[int, ...]:
        """Indexes of broken blocks with room for single addresses: the fullest first, then in order."""
        held = self.held
        some = [index for index, word in enumerate(held) if word and word != FULL]
        return tuple(sorted(some, key=lambda index: (-held[index].bit_count(), index)))

    @cached_property
    def broken_room(self) -> int:
        """Single addresses left in broken blocks."""
        return self.free - PREFIX_SIZE * self.open_whole

    # --- choosing ----------------------------------------------------------------------------------------------------

    def pick(self, count: int, *, open_most: int | None = None) -> tuple[str, ...]:
        """Up to `count` single addresses: of broken blocks, the fullest first; then of whole ones, one after another.

        So the fewest blocks are broken that can be, and none while a broken one can serve. `open_most`: how many whole
        ones may be broken at most, None for as many as it takes.
        """
        chosen: list[int] = []
        whole = [index for index, word in enumerate(self.held) if not word]
        for index in (*self.broken, *whole[:open_most]):
            if len(chosen) >= count:
                break
            word, first = self.held[index], self.base + PREFIX_SIZE * index
            chosen += [first + bit for bit in range(PREFIX_SIZE) if not word >> bit & 1][: count - len(chosen)]
        return tuple(text(address) for address in chosen)

    # --- changes -----------------------------------------------------------------------------------------------------

    def taken(self, addresses: Iterable[str] = (), prefixes: Iterable[str] = ()) -> BlockMap:
        """Our own ENIs got these single addresses and /28s. What the subnet does not hold is passed over."""
        offsets, blocks = tuple(self._offsets(addresses)), self._blocks(prefixes)
        own = array("H", self.own)
        for offset in offsets:
            mark(own, offset)
        for index in blocks:
            own[index] = FULL
        after = replace(self, own=own, own_prefixes=self.own_prefixes | blocks)
        return self._counted(after, blocks.union(offset >> 4 for offset in offsets))

    def given(self, addresses: Iterable[str] = (), prefixes: Iterable[str] = ()) -> BlockMap:
        """Our own ENIs gave these back, whosoever the reading took them to be."""
        offsets, blocks = tuple(self._offsets(addresses)), self._blocks(prefixes)
        own, foreign = array("H", self.own), array("H", self.foreign)
        for row in (own, foreign):
            for offset in offsets:
                row[offset >> 4] &= FULL ^ 1 << (offset & 15)
            for index in blocks:
                row[index] = 0
        after = replace(
            self,
            own=own,
            foreign=foreign,
            own_prefixes=self.own_prefixes - blocks,
            foreign_prefixes=self.foreign_prefixes - blocks,
        )
        return self._counted(after, blocks.union(offset >> 4 for offset in offsets))

    def _counted(self, after: BlockMap, touched: Collection[int]) -> BlockMap:
        """Counts of the next map from those of this one: a change of a few blocks costs no look at thousands."""
        known, counts = self.__dict__, after.__dict__
        if "held" in known:
            counts["held"] = held = array("H", self.held)
            for index in touched:
                held[index] = after._word(index)
            if "free" in known:
                bits = sum(self.held[index].bit_count() - held[index].bit_count() for index in touched)
                counts["free"] = self.free + bits
        if "kept_whole" in known:
            change = sum(after._is_kept_whole(index) - self._is_kept_whole(index) for index in touched)
            counts["kept_whole"] = self.kept_whole + change
        return after

    def _word(self, index: int) -> int:
        first = self.base + PREFIX_SIZE * index
        doubts = sum(1 << bit for bit in range(PREFIX_SIZE) if first + bit in self.doubts) if self.doubts else 0
        return self.own[index] | self.foreign[index] | self.closed[index] | self.kept[index] | doubts

    def _is_kept_whole(self, index: int) -> bool:
        return self.kept[index] == FULL and not self.own[index] | self.foreign[index] | self.closed[index]

    def doubted(self, addresses: Iterable[int]) -> BlockMap:
        """The same map with exactly these addresses not to be asked for by name."""
        end = self.base + PREFIX_SIZE * len(self.own)
        return replace(self, doubts=frozenset(each for each in addresses if self.base <= each < end))

    def holds(self, address: int) -> bool:
        """Whether somebody is seen to hold the address."""
        offset = address - self.base
        inside = 0 <= offset < PREFIX_SIZE * len(self.own)
        return inside and bool((self.own[offset >> 4] | self.foreign[offset >> 4]) >> (offset & 15) & 1)

    # --- showing -----------------------------------------------------------------------------------------------------

    def blocks(self) -> Iterator[Block]:
        """Every /28, in order."""
        for index in range(len(self.own)):
            first = self.base + PREFIX_SIZE * index
            yield Block(f"{text(first)}/28", tuple(self._use(index, bit) for bit in range(PREFIX_SIZE)))

    def count(self, *uses: Use) -> int:
        """How many addresses are of these uses."""
        return sum(use in uses for block in self.blocks() for use in block.uses)

    def _use(self, index: int, bit: int) -> Use:
        mask = 1 << bit
        if self.own[index] & mask:
            return Use.OWN_PREFIX if index in self.own_prefixes else Use.OWN
        if self.foreign[index] & mask or self.base + PREFIX_SIZE * index + bit in self.doubts:
            return Use.FOREIGN_PREFIX if index in self.foreign_prefixes else Use.FOREIGN
        if self.closed[index] & mask:
            edge = (index == 0 and bit < AWS_FIRST) or (index == len(self.own) - 1 and bit == PREFIX_SIZE - 1)
            return Use.AWS if edge else Use.EXPLICIT
        return Use.FOR_PREFIXES if self.kept[index] & mask else Use.FREE

    def _offsets(self, addresses: Iterable[str]) -> Iterator[int]:
        size = PREFIX_SIZE * len(self.own)
        return (each for each in (parse(address) - self.base for address in addresses) if 0 <= each < size)

    def _blocks(self, prefixes: Iterable[str]) -> frozenset[int]:
        return frozenset(offset >> 4 for offset in self._offsets(prefix.partition("/")[0] for prefix in prefixes))


def mark(row: array[int], offset: int) -> None:
    """Set one address's bit; an offset outside the row is passed over."""
    if 0 <= offset < PREFIX_SIZE * len(row):
        row[offset >> 4] |= 1 << (offset & 15)
