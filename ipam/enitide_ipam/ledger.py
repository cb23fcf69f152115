"""Who holds which address, what cools, which containers were deleted: state that changes by records alone.

Live work and replay of the journal run the same code (`apply`), so they cannot differ. Decides nothing (`pool` does)
and knows nothing of ENIs (`stock` does).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from enitide_api.resources import EndpointRecord
from enitide_ipam.addresses import parse, text
from enitide_ipam.records import Held, Past, PodRef, Record, Released

TOMBSTONE_S = 600.0  # an ADD was seen to end 18 s after its DEL; runtimes give up within minutes
TOMBSTONES = 4096
PAST = 128  # former holders that are remembered
REUSE_S = 30.0  # an ADD that began this long after an answered attachment was deleted is a new one


def keys(pod: PodRef) -> tuple[str, ...]:
    """The words a pod can be found by: UID and `namespace/name`, those that are known."""
    return tuple(word for word in (pod.uid, pod.full_name) if word)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A container that was deleted `at`; `served`: after its ADD had been answered."""

    at: float
    served: bool

    def refuses(self, began: float | None) -> bool:
        """Whether it is too late for an ADD that began then (None: unknown).

        A DEL that came before any answer is the runtime's last word. After an answered ADD a container id may be
        used again (CNI allows it, and `cnitool` makes the id from the namespace's path), but an ADD that began before
        the DEL is a straggler, and one right behind it is taken for one.
        """
        return not self.served or began is None or began < self.at + REUSE_S

    def sentence(self, owner: str, now: float) -> str:
        """What a refused ADD is told."""
        if not self.served:
            return f"container {owner} was deleted before it was added"
        return (
            f"container {owner} was deleted {now - self.at:.0f} s ago; its id can be used again {REUSE_S:.0f} s after"
        )


class Ledger:
    """Addresses are integers. `held` by address, in no order; `cooling` in the order in which it began.

    `past`: who had an address last, the latest ends last, at most so many as it was told to `remember`.
    """

    def __init__(self, remember: int = PAST) -> None:
        self.past: deque[Past] = deque(maxlen=remember)
        self.held: dict[int, Held] = {}
        self.cooling: dict[int, float] = {}
        self.tombstones: dict[str, Tombstone] = {}
        self.by_owner: dict[str, int] = {}
        self._by_pod: dict[str, set[int]] = {}
        self._endpoints: tuple[EndpointRecord, ...] | None = None  # None: some holder has changed since

    def apply(self, record: Held | Released | Past) -> None:
        """One step, live or in replay."""
        if isinstance(record, Held):
            self._hold(record)
        elif isinstance(record, Past):
            self.past.append(record)
        else:
            self._release(record)

    def endpoints(self) -> tuple[EndpointRecord, ...]:
        """Pods that hold or are reserved addresses, by UID. Containers that are no pods have none."""
        if self._endpoints is None:
            by_uid: dict[str, list[str]] = {}
            for _, held in sorted(self.held.items()):
                if held.pod.uid:
                    by_uid.setdefault(held.pod.uid, []).extend(each for each in (held.address, held.ipv6) if each)
            self._endpoints = tuple(EndpointRecord(addresses=tuple(by_uid[uid]), pod_uid=uid) for uid in sorted(by_uid))
        return self._endpoints

    def of_pod(self, pod: PodRef) -> tuple[int, ...]:
        """What a pod holds or is reserved, sorted: by UID, by name only where the runtime did not say the UID."""
        words = keys(pod)
        return tuple(sorted(self._by_pod.get(words[0], ()))) if words else ()

    def expired(self, now: float, cooldown_s: float) -> Iterator[int]:
        """Forget what has cooled and tombstones that are old; yields each address that has cooled."""
        while self.cooling and (first := next(iter(self.cooling.items())))[1] + cooldown_s <= now:
            del self.cooling[first[0]]
            yield first[0]
        while self.tombstones and (oldest := next(iter(self.tombstones.items())))[1].at + TOMBSTONE_S <= now:
            del self.tombstones[oldest[0]]

    def sort(self) -> None:
        """After a replay: cooling in the order in which it began."""
        self.cooling = dict(sorted(self.cooling.items(), key=lambda item: (item[1], item[0])))

    def records(self) -> tuple[Record, ...]:
        """The shortest list that gives this ledger."""
        graves = (
            Released(owner, "", grave.at, cool=False, tombstone=True, served=grave.served)
            for owner, grave in self.tombstones.items()
        )
        cooling = (Released("", text(each), at, cool=True, tombstone=False) for each, at in self.cooling.items())
        return (*self.past, *graves, *cooling, *(self.held[address] for address in sorted(self.held)))

    def _hold(self, record: Held) -> None:
        address = parse(record.address)
        self._forget(address)
        self.held[address] = record
        self._endpoints = None
        self.cooling.pop(address, None)
        if record.owner:
            self.by_owner[record.owner] = address
            self.tombstones.pop(record.owner, None)
        for word in keys(record.pod):
            self._by_pod.setdefault(word, set()).add(address)

    def _release(self, record: Released) -> None:
        if record.tombstone:
            self.tombstones.pop(record.owner, None)  # the newest stands last
            self.tombstones[record.owner] = Tombstone(record.at, record.served)
            while len(self.tombstones) > TOMBSTONES:
                del self.tombstones[next(iter(self.tombstones))]
        if not record.address:
            return
        address = parse(record.address)
        held = self.held.get(address)
        if held is not None and record.cool:  # it was in use, not only reserved
            self.past.append(Past(held.address, held.ipv6, held.owner, held.pod, held.since, record.at))
        self._forget(address)
        self.cooling.pop(address, None)
        if record.cool:
            self.cooling[address] = record.at

    def _forget(self, address: int) -> None:
        held = self.held.pop(address, None)
        if held is None:
            return
        self._endpoints = None
        if self.by_owner.get(held.owner) == address:
            del self.by_owner[held.owner]
        for word in keys(held.pod):
            mine = self._by_pod[word]
            mine.discard(address)
            if not mine:
                del self._by_pod[word]
