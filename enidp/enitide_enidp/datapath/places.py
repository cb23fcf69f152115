"""The places of endpoints in the array `policies`: small numbers, so that the programs read them without hashing."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from enitide_api.errors import DatapathFailed
from enitide_enidp.datapath.policycodec import MAX_PLACES


class Places:
    """By ifindex. Place 0 is the node itself and never given."""

    def __init__(self, taken: Mapping[int, int]) -> None:
        self._by_ifindex = dict(taken)
        self._free = sorted(set(range(1, MAX_PLACES)) - set(taken.values()))

    def of(self, ifindex: int) -> int | None:
        return self._by_ifindex.get(ifindex)

    def all(self) -> Iterable[int]:
        return self._by_ifindex.values()

    def ifindexes(self) -> frozenset[int]:
        return frozenset(self._by_ifindex)

    def take(self, ifindex: int) -> int:
        """A place for a new endpoint, the lowest that is free."""
        if not self._free:
            raise DatapathFailed(f"no place for a pod on ifindex {ifindex}: {MAX_PLACES - 1} are in use")
        place = self._by_ifindex[ifindex] = heapq.heappop(self._free)
        return place

    def give_back(self, ifindex: int) -> int | None:
        """The place that is free again; None if the endpoint had none."""
        place = self._by_ifindex.pop(ifindex, None)
        if place is not None:
            heapq.heappush(self._free, place)
        return place
