"""How a map is shown: what it is for, and its entries as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MapView:
    """A map: what it is for, the columns of its rows, and how they are read from the descriptors of all maps."""

    purpose: str
    columns: tuple[str, ...]
    rows: Callable[[dict[str, int]], list[Row]]
