"""The /28 map of a subnet as a short text, and back: what SubnetReport carries and `enitide frag` draws.

One token for each block, in order: a letter for what the block is and, where some of its addresses are left, a
hexadecimal digit for how many. Runs of equal tokens are written once with their number before: `ac3P250w`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.blocks import FULL, Block, BlockMap, Use


class Look(StrEnum):
    """What one /28 is. The lower-case ones but `WHOLE` have addresses left; those are followed by a digit."""

    WHOLE = "w"
    KEPT = "K"  # free, in a prefix reservation: for /28s only
    OWN_PREFIX = "P"
    FOREIGN_PREFIX = "Q"
    OWN = "O"  # full, of this cluster's single addresses
    FOREIGN = "F"
    MIXED = "M"
    RESERVED = "R"
    BROKEN_OWN = "o"
    BROKEN_FOREIGN = "f"
    BROKEN_MIXED = "m"
    BROKEN_RESERVED = "a"  # nobody but AWS or a reservation holds addresses of it


BROKEN = frozenset({Look.BROKEN_OWN, Look.BROKEN_FOREIGN, Look.BROKEN_MIXED, Look.BROKEN_RESERVED})
_FULL = {"o": Look.OWN, "f": Look.FOREIGN, "m": Look.MIXED, "a": Look.RESERVED}
_TOKEN = re.compile(r"(\d*)(?:([wKPQOFMR])|([ofma])([0-9a-f]))")


@dataclass(frozen=True, slots=True)
class Cell:
    """One /28: what it is and how many of its addresses are left as single ones."""

    look: Look
    free: int

    @property
    def text(self) -> str:
        """Its token."""
        return f"{self.look}{self.free:x}" if self.look in BROKEN else str(self.look)


def cell(block: Block) -> Cell:
    """What a block of the map is."""
    uses = frozenset(block.uses)
    if Use.OWN_PREFIX in uses:
        return Cell(Look.OWN_PREFIX, 0)
    if Use.FOREIGN_PREFIX in uses:
        return Cell(Look.FOREIGN_PREFIX, 0)
    if uses == {Use.FREE}:
        return Cell(Look.WHOLE, block.free)
    if uses == {Use.FOR_PREFIXES}:
        return Cell(Look.KEPT, 0)
    own, foreign = Use.OWN in uses, Use.FOREIGN in uses
    holder = "m" if own and foreign else "o" if own else "f" if foreign else "a"
    return Cell(Look(holder), block.free) if block.free else Cell(_FULL[holder], 0)


def cells(blocks: BlockMap) -> Iterator[Cell]:
    """`cell` of every block, from the map's words: a /16 has 65,536 addresses, and this is done every minute."""
    doubts: dict[int, int] = {}
    for offset in (address - blocks.base for address in blocks.doubts):
        doubts[offset >> 4] = doubts.get(offset >> 4, 0) | 1 << (offset & 15)
    words = zip(blocks.own, blocks.foreign, blocks.closed, blocks.kept, blocks.held, strict=True)
    for index, (own, foreign, closed, kept, held) in enumerate(words):
        strange = (foreign | doubts.get(index, 0)) & ~own
        if not held:
            yield _WHOLE
        elif index in blocks.own_prefixes:
            yield _OWN_PREFIX
        elif index in blocks.foreign_prefixes:
            yield _FOREIGN_PREFIX
        elif kept == FULL and not own | strange | closed:
            yield _KEPT
        else:
            holder = "m" if own and strange else "o" if own else "f" if strange else "a"
            free = PREFIX_SIZE - held.bit_count()
            yield Cell(Look(holder), free) if free else Cell(_FULL[holder], 0)


_WHOLE, _KEPT = Cell(Look.WHOLE, PREFIX_SIZE), Cell(Look.KEPT, 0)
_OWN_PREFIX, _FOREIGN_PREFIX = Cell(Look.OWN_PREFIX, 0), Cell(Look.FOREIGN_PREFIX, 0)


def write(blocks: BlockMap) -> str:
    """The whole map."""
    runs = ((one, sum(1 for _ in run)) for one, run in groupby(cells(blocks)))
    return "".join(f"{count if count > 1 else ''}{one.text}" for one, count in runs)


def read(text: str) -> tuple[Cell, ...]:
    """Every block again. `ValueError` for a text that `write` does not write."""
    found_cells: list[Cell] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"the map is unreadable at its character {at}: {text[at : at + 12]!r}")
        count, full, broken, left = found.groups()
        free = int(left, 16) if left else PREFIX_SIZE if full == Look.WHOLE else 0
        found_cells += [Cell(Look(full or broken), free)] * int(count or 1)
        at = found.end()
    return tuple(found_cells)


def counts(blocks: Iterable[Cell]) -> dict[Look, int]:
    """How many blocks are what; those that are none are left out."""
    found: dict[Look, int] = {}
    for each in blocks:
        found[each.look] = found.get(each.look, 0) + 1
    return found
