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
from enitide_ipam.model import TAG_CLUSTER, EniView

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


def _words(blocks: int) -> array[int]:
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
        words = zip(self.own, self.foreign, self.closed, self.kept, strict=True)
        held = array("H", [own | foreign | closed | kept for own, foreign, closed, kept in words])
        for address in self.doubts:
            _mark(held, address - self.base)
        return held

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
        words = zip(self.own, self.foreign, self.closed, self.kept, strict=True)
        return sum(kept == FULL and not own | foreign | closed for own, foreign, closed, kept in words)

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
        own = array("H", self.own)
        for offset in self._offsets(addresses):
            _mark(own, offset)
        blocks = self._blocks(prefixes)
        for index in blocks:
            own[index] = FULL
        return replace(self, own=own, own_prefixes=self.own_prefixes | blocks)

    def given(self, addresses: Iterable[str] = (), prefixes: Iterable[str] = ()) -> BlockMap:
        """Our own ENIs gave these back."""
        own = array("H", self.own)
        for offset in self._offsets(addresses):
            own[offset >> 4] &= FULL ^ 1 << (offset & 15)
        blocks = self._blocks(prefixes)
        for index in blocks:
            own[index] = 0
        return replace(self, own=own, own_prefixes=self.own_prefixes - blocks)

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


def block_map(
    cidr: str,
    enis: Iterable[EniView],
    reservations: Iterable[CidrReservation],
    *,
    cluster: str,
    nodes: Collection[str] = (),
    asked_at: float = 0.0,
) -> BlockMap:
    """The map of a subnet from all ENIs in it. Own: with this cluster's tag, or attached to an instance of `nodes`."""
    blocks = max(1, (1 << 32 - parse_cidr(cidr)[1]) // PREFIX_SIZE)
    empty = BlockMap(cidr, _words(blocks), _words(blocks), _words(blocks), _words(blocks))
    clusters: dict[str, int] = {}
    mine: list[EniView] = []
    others: list[EniView] = []
    for eni in enis:
        tag = eni.tags.get(TAG_CLUSTER, "")
        own = (bool(cluster) and tag == cluster) or (bool(eni.instance_id) and eni.instance_id in nodes)
        (mine if own else others).append(eni)
        if tag and not own:
            held = bool(eni.primary) + len(eni.addresses) + PREFIX_SIZE * len(eni.prefixes)
            clusters[tag] = clusters.get(tag, 0) + held
    ours, theirs = empty.taken(*_held_by(mine)), empty.taken(*_held_by(others))
    closed, kept = _reserved(cidr, blocks, reservations)
    return BlockMap(
        cidr=cidr,
        own=ours.own,
        foreign=theirs.own,
        closed=closed,
        kept=kept,
        own_prefixes=ours.own_prefixes,
        foreign_prefixes=theirs.own_prefixes,
        clusters=MappingProxyType(clusters),
        asked_at=asked_at,
    )


def _held_by(enis: Iterable[EniView]) -> tuple[list[str], list[str]]:
    """Single addresses (the ENIs' own included) and /28s."""
    singles: list[str] = []
    prefixes: list[str] = []
    for eni in enis:
        singles += [each for each in (eni.primary, *eni.addresses) if each]
        prefixes += eni.prefixes
    return singles, prefixes


def _reserved(cidr: str, blocks: int, reservations: Iterable[CidrReservation]) -> tuple[array[int], array[int]]:
    """What no single address and no /28 may come from, and what only /28s may."""
    base = parse_cidr(cidr)[0]
    closed, kept = _words(blocks), _words(blocks)
    for offset in (*range(AWS_FIRST), PREFIX_SIZE * blocks - 1):
        _mark(closed, offset)
    for each in reservations:
        first, length = parse_cidr(each.cidr)
        words = kept if each.kind == "prefix" else closed
        for offset in range(first - base, first - base + (1 << 32 - length)):
            if 0 <= offset < PREFIX_SIZE * blocks:
                _mark(words, offset)
    return closed, kept


def _mark(words: array[int], offset: int) -> None:
    if 0 <= offset < PREFIX_SIZE * len(words):
        words[offset >> 4] |= 1 << (offset & 15)
