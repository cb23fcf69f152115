"""Owner references: who is owned by whom, and who is orphaned when an owner goes.

A real cluster's controller does this in the background; here it happens with the owner's removal. Owners are known by
uid: one of the same name that was made anew owns nothing of the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enitide_lab.apistore.table import Stored

Place = tuple[tuple[str, str], str]


class Owners:
    """Uids of what exists, and what each owns."""

    def __init__(self) -> None:
        self._alive: set[str] = set()
        self._owned: dict[str, dict[Place, Stored]] = {}

    def born(self, table: tuple[str, str], stored: Stored) -> None:
        """The object exists in this version."""
        self._alive.add(stored.obj["metadata"]["uid"])
        for owner in _owner_uids(stored):
            self._owned.setdefault(owner, {})[table, stored.key] = stored

    def gone(self, stored: Stored) -> None:
        """This version of the object is no more."""
        self._alive.discard(stored.obj["metadata"]["uid"])
        for owner in _owner_uids(stored):
            owned = self._owned.get(owner, {})
            for place in [place for place, known in owned.items() if known is stored]:
                del owned[place]
            if not owned:
                self._owned.pop(owner, None)

    def orphans_of(self, owner: Stored) -> list[Place]:
        """What is to go because this owner went and no other is left."""
        owned = self._owned.get(owner.obj["metadata"]["uid"], {})
        return [place for place, stored in owned.items() if not self._alive & set(_owner_uids(stored))]


def _owner_uids(stored: Stored) -> list[str]:
    return [reference["uid"] for reference in stored.obj["metadata"].get("ownerReferences", ())]
