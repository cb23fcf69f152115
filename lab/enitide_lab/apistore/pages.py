"""Lists in pages: a page and the token with which the rest of the same snapshot can be had.

A token holds only as long as its snapshot is kept: a bounded number of them, for a bounded time, and none across a
compaction. An expired token is 410, and the client starts again.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from enitide_lab.apistore.refusal import bad_request, gone

if TYPE_CHECKING:
    from enitide_lab.apistore.table import Stored

MAX_SNAPSHOTS = 256
SNAPSHOT_LIFE_S = 300.0


class _Token(msgspec.Struct):
    snapshot: int
    offset: int


@dataclass(frozen=True, slots=True)
class Listed:
    """One page. `remaining` is None where a selector makes the number unknown to a real API server."""

    items: list[Stored]
    rv: int
    token: str
    remaining: int | None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    items: list[Stored]
    rv: int
    taken_s: float
    countable: bool


class Pages:
    """The snapshots that are being read."""

    def __init__(self) -> None:
        self._snapshots: OrderedDict[int, _Snapshot] = OrderedDict()
        self._next = 1

    def first(self, items: list[Stored], *, rv: int, limit: int, now_s: float, countable: bool) -> Listed:
        """The first page of `items`, which are the snapshot at `rv`. `limit` 0 is no limit."""
        if not limit or len(items) <= limit:
            return Listed(items, rv, "", None)
        number, self._next = self._next, self._next + 1
        self._snapshots[number] = _Snapshot(items, rv, now_s, countable)
        while len(self._snapshots) > MAX_SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return self._page(number, 0, limit)

    def following(self, token: str, *, limit: int, now_s: float) -> Listed:
        """The page that `token` names."""
        try:
            wanted = msgspec.json.decode(base64.urlsafe_b64decode(token), type=_Token)
        except (binascii.Error, msgspec.DecodeError, ValueError) as error:
            raise bad_request(f"continue key is not valid: {error}") from error
        snapshot = self._snapshots.get(wanted.snapshot)
        if snapshot is None or now_s - snapshot.taken_s > SNAPSHOT_LIFE_S:
            raise gone("the provided continue parameter is too old: start a new list without it")
        return self._page(wanted.snapshot, wanted.offset, limit)

    def _page(self, number: int, offset: int, limit: int) -> Listed:
        snapshot = self._snapshots[number]
        end = offset + limit if limit else len(snapshot.items)
        items = snapshot.items[offset:end]
        remaining = len(snapshot.items) - offset - len(items)
        if not remaining:
            return Listed(items, snapshot.rv, "", None)
        token = base64.urlsafe_b64encode(msgspec.json.encode(_Token(number, offset + len(items)))).decode()
        return Listed(items, snapshot.rv, token, remaining if snapshot.countable else None)

    def forget(self) -> None:
        """A compaction: every token has expired."""
        self._snapshots.clear()
