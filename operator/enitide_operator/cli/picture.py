"""A subnet's /28s as a picture: one character, or one square, for each block, in the order of their addresses. Pure.

The same few looks in both: what is free, broken, ours, foreign, reserved, and what is held as a prefix. In the terminal
a broken block's character shows how much of it is left, so that the picture can be read without colours too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from enitide_ipam.block_text import BROKEN, Cell, Look

PER_ROW = 64  # blocks in a row: 1,024 addresses, a /22
_EIGHTHS = "▁▂▃▄▅▆▇"


@dataclass(frozen=True, slots=True)
class Ink:
    """How one look is drawn: a character, a terminal colour, a colour for pictures, and what it is called."""

    character: str
    colour: str
    rgb: tuple[int, int, int]
    name: str


INKS: dict[Look, Ink] = {
    Look.WHOLE: Ink("·", "bright_black", (236, 239, 241), "whole and free"),
    Look.KEPT: Ink("k", "cyan", (178, 235, 242), "free, kept for prefixes"),
    Look.OWN_PREFIX: Ink("█", "blue", (21, 101, 192), "our prefix"),
    Look.OWN: Ink("▓", "green", (46, 125, 50), "full, ours"),
    Look.BROKEN_OWN: Ink("", "green", (165, 214, 167), "broken, ours"),
    Look.FOREIGN_PREFIX: Ink("█", "red", (183, 28, 28), "foreign prefix"),
    Look.FOREIGN: Ink("▓", "red", (211, 47, 47), "full, foreign"),
    Look.BROKEN_FOREIGN: Ink("", "red", (239, 154, 154), "broken, foreign"),
    Look.MIXED: Ink("▓", "yellow", (245, 127, 23), "full, ours and foreign"),
    Look.BROKEN_MIXED: Ink("", "yellow", (255, 213, 79), "broken, ours and foreign"),
    Look.RESERVED: Ink("r", "magenta", (106, 27, 154), "reserved"),
    Look.BROKEN_RESERVED: Ink("", "magenta", (206, 147, 216), "broken by a reservation"),
}


def character(cell: Cell) -> str:
    """One block: of a broken one, a bar as high as what is taken of it."""
    if cell.look not in BROKEN:
        return INKS[cell.look].character
    taken = 16 - cell.free
    return _EIGHTHS[min(len(_EIGHTHS) - 1, taken * len(_EIGHTHS) // 16)]


def rows(cells: Sequence[Cell], per_row: int = PER_ROW) -> list[Sequence[Cell]]:
    """The blocks in rows."""
    return [cells[start : start + per_row] for start in range(0, len(cells), per_row)]


def legend(cells: Iterable[Cell]) -> list[tuple[Look, int]]:
    """What there is in the picture and how often, in the order of `INKS`."""
    present: dict[Look, int] = {}
    for cell in cells:
        present[cell.look] = present.get(cell.look, 0) + 1
    return [(look, present[look]) for look in INKS if look in present]


def draw(cells: Sequence[Cell], title: str, *, per_row: int = PER_ROW, square: int = 12) -> Any:
    """A PIL image of the map with its legend. Needs the extra `lab` (pillow)."""
    from PIL import Image, ImageDraw, ImageFont

    lines, keys = rows(cells, per_row), legend(cells)
    font = ImageFont.load_default(size=13)
    margin, head, step = 16, 40, 20
    width = max(520, 2 * margin + square * min(per_row, len(cells)))
    height = head + square * len(lines) + margin + step * len(keys) + margin
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    pen.text((margin, 12), title, fill="black", font=font)
    for y, line in enumerate(lines):
        for x, cell in enumerate(line):
            left, top = margin + square * x, head + square * y
            _square(pen, cell, left, top, square)
    for number, (look, count) in enumerate(keys):
        top = head + square * len(lines) + margin + step * number
        _square(pen, Cell(look, 8 if look in BROKEN else 0), margin, top + 2, square)
        pen.text((margin + square + 10, top), f"{INKS[look].name}: {count}", fill="black", font=font)
    return image


def _square(pen: Any, cell: Cell, left: int, top: int, size: int) -> None:
    """One block; of a broken one only the part that is taken is filled, from below."""
    ink = INKS[cell.look]
    box = (left, top, left + size - 2, top + size - 2)
    if cell.look not in BROKEN:
        pen.rectangle(box, fill=ink.rgb)
        return
    pen.rectangle(box, fill=INKS[Look.WHOLE].rgb)
    taken = max(2, round((size - 1) * (16 - cell.free) / 16))
    pen.rectangle((left, top + size - 1 - taken, left + size - 2, top + size - 2), fill=ink.rgb)
