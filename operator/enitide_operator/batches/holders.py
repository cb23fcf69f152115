"""Which copies of records speak of an address: whether one of them may go. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from enitide_api.resources import BatchEndpoint

Copy = tuple[int, int, str]  # revision, age of the batch, name of the batch: the largest holds


@dataclass(slots=True)
class Holders:
    """By address, the copies that the API server holds."""

    _copies: dict[str, list[Copy]] = field(default_factory=dict)

    def __contains__(self, address: str) -> bool:
        return address in self._copies

    def batches(self, address: str) -> Iterator[str]:
        """Batches in which something is said of the address."""
        return (name for _, _, name in self._copies.get(address, ()))

    def add(self, record: BatchEndpoint, number: int, name: str) -> None:
        """This batch holds the record now."""
        for address in record.addresses:
            self._copies.setdefault(address, []).append((record.revision, number, name))

    def remove(self, record: BatchEndpoint, number: int, name: str) -> None:
        """It does no longer."""
        for address in record.addresses:
            copies = self._copies[address]
            copies.remove((record.revision, number, name))
            if not copies:
                del self._copies[address]

    def has(self, record: BatchEndpoint) -> bool:
        """Whether some batch holds this revision of it."""
        return any(copy[0] == record.revision for a in record.addresses for copy in self._copies.get(a, ()))

    def is_overtaken(self, address: str, revision: int) -> bool:
        """Whether something newer is said of the address."""
        return max(self._copies.get(address, ((0, 0, ""),)))[0] > revision

    def is_dead(self, record: BatchEndpoint, number: int, name: str) -> bool:
        """Whether this copy may go: overtaken for every address, or a removal with nothing left to overtake."""
        mine = (record.revision, number, name)
        for address in record.addresses:
            copies = self._copies[address]
            if max(copies) <= mine and (record.identity or len(copies) > 1):
                return False
        return True
