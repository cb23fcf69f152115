"""One rule set as the agent wrote it, and the head that says so in the kernel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from enitide_enidp.datapath import codec
from enitide_enidp.datapath import policycodec as pc

Entries = dict[int, int]
"""Packed keys and values, see `enitide_policy.mapstate`."""


@dataclass(slots=True)
class Kept:
    """One rule set as we wrote it. `closed`: its entries are not in the kernel, for want of room."""

    place: int
    isolated_ingress: bool
    isolated_egress: bool
    entries: Entries
    classes: Counter[int] = field(default_factory=Counter)
    rows: bytes = b""
    """The bitmaps of `classes` as a head has them; empty: not computed since these changed."""
    closed: bool = False
    generation: int = 0
    """Of the head in the kernel; nobody else writes it. It goes on counting when the place is used again."""

    def flags(self) -> int:
        flags = pc.RULESET_CLOSED if self.closed else 0
        flags |= pc.RULESET_ISOLATED_INGRESS if self.isolated_ingress else 0
        return flags | (pc.RULESET_ISOLATED_EGRESS if self.isolated_egress else 0)

    def head(self, number: int) -> tuple[bytes, bytes]:
        """Key and value in `rulesets`; `number` is the engine's id."""
        place = codec.U32.pack(self.place)
        if self.closed:
            return place, pc.encode_head(pc.Head(number, self.generation, self.flags(), 0))
        self.rows = self.rows or pc.pack_rows(pc.bitmaps(self.classes))
        return place, pc.pack_head(number, self.generation, self.flags(), len(self.entries), self.rows)
