"""Which record stands in which batch: an append-only log that is cleaned in the background. Pure.

A record is never changed where it stands. News (an endpoint, another identity, an address that nobody has any more) is
appended to the open batch, so fifty changes anywhere in the cluster are one write; of two records for one address the
higher revision holds, everywhere, whatever else still stands. So an address that went to another pod needs no
old batch rewritten first, and a removal is as quick as an addition: it is a record too, of identity 0.

What is overtaken is dead weight. A batch of which half or more is dead is cleaned: its live records are appended to the
open batch (under their revision, so agents see no difference), and once that is accepted, the batch is deleted. At
no instant is the highest record of an address missing: an older one never shines through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

from enitide_api.resources import BATCH_SIZE, BatchEndpoint
from enitide_operator.batches.holders import Holders

CLEAN_BELOW = BATCH_SIZE // 2  # live records at or below which a batch is cleaned
_PREFIX = "b"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be told of one owner (a pod's uid, or `node/NAME`): never with identity 0."""

    addresses: tuple[str, ...]
    identity: int
    node: str
    subnets: tuple[str, ...] = ()


class Verb(Enum):
    """How a batch is written."""

    CREATE = "create"
    PATCH = "patch"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Write:
    """One write; `records` is the whole batch afterwards."""

    verb: Verb
    batch: str
    records: tuple[BatchEndpoint, ...]


@dataclass(slots=True, eq=False)
class Batch:
    """What the API server holds, as it last answered. `number` orders batches by age."""

    name: str
    number: int
    records: tuple[BatchEndpoint, ...] = ()
    exists: bool = False


def owner_of(record: BatchEndpoint) -> str:
    """Of whom it speaks; '' for addresses that nobody has."""
    if not record.identity:
        return ""
    return record.pod_uid or f"node/{record.node}"


@dataclass(slots=True)
class Layout:
    """`put` what is wanted; take `append_write` and `clean_write`, then say `accepted` or `found`.

    `on_use(identity, change)`: so many more or fewer owners are told of under this number.
    """

    on_use: Callable[[int, int], None]
    batches: dict[str, Batch] = field(default_factory=dict)
    want: dict[str, BatchEndpoint] = field(default_factory=dict)
    _pending: dict[tuple[str, ...], BatchEndpoint] = field(default_factory=dict)  # by addresses, oldest first
    _moves: dict[int, BatchEndpoint] = field(default_factory=dict)  # by revision: live records of batches to clean
    _holders: Holders = field(default_factory=Holders)
    _owner: dict[str, str] = field(default_factory=dict)  # address -> who was given it last
    _dirty: dict[str, None] = field(default_factory=dict)  # batches that may be worth cleaning
    _flying: dict[str, tuple[BatchEndpoint, ...]] = field(default_factory=dict)  # by batch: what a write carries
    _open: str = ""
    _revision: int = 0
    _number: int = 0

    # --- what is wanted --------------------------------------------------------------------------------------------

    def load(self, batches: Mapping[str, tuple[BatchEndpoint, ...]]) -> None:
        """What the API server holds at the start: taken as if we had written it, so that what fits costs no write."""
        for name, records in batches.items():
            self._holds(self._batch(name), records, exists=True)
        everything = (each for records in batches.values() for each in records)
        for record in sorted(everything, key=lambda each: each.revision):
            self._revision = max(self._revision, record.revision)
            owner = owner_of(record)
            if owner:
                self.want[owner] = record
            for address in record.addresses:
                if owner:
                    self._owner[address] = owner
                else:
                    self._owner.pop(address, None)
        for record in self.want.values():
            self.on_use(record.identity, 1)
        self._open = max(self.batches, key=lambda name: self.batches[name].number, default="")

    def put(self, owner: str, wanted: Wanted | None) -> bool:
        """Tell this of the owner from now on; whether that is news."""
        before = self.want.get(owner)
        if before is None and wanted is None:
            return False
        if before is not None and wanted is not None and _says(before) == wanted:
            return False
        if wanted is not None:
            self._tell(owner, wanted)
        else:
            del self.want[owner]
        if before is not None:
            self._take_back(owner, before, wanted.addresses if wanted is not None else ())
        return True

    def _tell(self, owner: str, wanted: Wanted) -> None:
        record = BatchEndpoint(
            addresses=wanted.addresses,
            pod_uid="" if owner.startswith("node/") else owner,
            identity=wanted.identity,
            node=wanted.node,
            subnets=wanted.subnets,
            revision=self._next_revision(),
        )
        self.want[owner] = record
        for address in wanted.addresses:
            self._owner[address] = owner
        self._append(record)
        self.on_use(record.identity, 1)

    def _take_back(self, owner: str, before: BatchEndpoint, kept: tuple[str, ...]) -> None:
        self.on_use(before.identity, -1)
        if self._pending.get(before.addresses) is before:
            del self._pending[before.addresses]
        gone = [a for a in before.addresses if a not in kept and self._owner.get(a) == owner]
        for address in gone:
            del self._owner[address]
        self._remove(gone)

    def _remove(self, addresses: Iterable[str]) -> None:
        """Say that nobody has these, where something else was said."""
        said = tuple(a for a in addresses if a in self._holders or self._is_under_way(a))
        if said:
            self._append(BatchEndpoint(addresses=said, revision=self._next_revision()))

    def _append(self, record: BatchEndpoint) -> None:
        self._pending.pop(record.addresses, None)
        self._pending[record.addresses] = record

    def _is_under_way(self, address: str) -> bool:
        return any(address in each.addresses for sent in self._flying.values() for each in sent)

    def _next_revision(self) -> int:
        self._revision += 1
        return self._revision

    def is_under_way(self, batch: str) -> bool:
        """Whether a write of this batch waits for its answer."""
        return batch in self._flying

    # --- what is written -------------------------------------------------------------------------------------------

    @property
    def news(self) -> int:
        """Records that no write carries yet."""
        return len(self._pending)

    def unwritten(self) -> set[str]:
        """Owners of whom the API server does not hold what is wanted yet."""
        waiting = (*self._pending.values(), *(each for sent in self._flying.values() for each in sent))
        return {owner for each in waiting if (owner := owner_of(each)) and not self.is_written(owner)}

    def is_written(self, owner: str) -> bool:
        """Whether the API server holds what is wanted of this owner, if anything is."""
        record = self.want.get(owner)
        return record is None or self._holders.has(record)

    def append_write(self) -> Write | None:
        """News, oldest first, and what room is left for moves; None: nothing, or the open batch is under way."""
        batch = self._room() if self._pending or self._moves else None
        if batch is None:
            return None
        kept = self._live(batch)
        room = BATCH_SIZE - len(kept)
        added = [self._pending.pop(key) for key in tuple(islice(self._pending, room))]
        while self._moves and len(added) < room:
            record = self._moves.pop(next(iter(self._moves)))
            if not all(self._holders.is_overtaken(a, record.revision) for a in record.addresses):
                added.append(record)
        if not added:
            return None
        return self._send(Verb.PATCH if batch.exists else Verb.CREATE, batch, (*kept, *added))

    def _live(self, batch: Batch) -> tuple[BatchEndpoint, ...]:
        """Its records without those that may go. A removal waits for what is under way: that may be what it removes."""
        return tuple(
            each
            for each in batch.records
            if not self._holders.is_dead(each, batch.number, batch.name)
            or (not each.identity and any(self._is_under_way(a) for a in each.addresses))
        )

    def _room(self) -> Batch | None:
        """The open batch; a new one where it is full, or under way while a whole batch of news waits."""
        found = self.batches.get(self._open)
        is_flying = self._open in self._flying
        if found is not None and not is_flying and len(self._live(found)) < BATCH_SIZE:
            return found
        if is_flying and len(self._pending) < BATCH_SIZE:
            return None
        if found is not None:
            self._dirty[found.name] = None
        self._number += 1
        self._open = f"{_PREFIX}{self._number:010x}"
        return self._batch(self._open)

    def clean_write(self) -> Write | None:
        """A batch that may go, or the live records of batches that are half dead."""
        for name in list(self._dirty):
            batch = self.batches.get(name)
            if batch is not None and (name in self._flying or name == self._open):
                continue
            del self._dirty[name]
            if batch is None:
                continue
            live = self._live(batch)
            if not live:
                return self._send(Verb.DELETE, batch, ())
            if len(live) <= CLEAN_BELOW:
                self._moves.update((each.revision, each) for each in live if not self._is_moving(each))
            if len(self._moves) >= CLEAN_BELOW:
                break
        return self.append_write() if self._moves else None

    def _is_moving(self, record: BatchEndpoint) -> bool:
        return any(record in sent for sent in self._flying.values())

    def _send(self, verb: Verb, batch: Batch, records: tuple[BatchEndpoint, ...]) -> Write:
        self._flying[batch.name] = records
        return Write(verb, batch.name, records)

    # --- answers ---------------------------------------------------------------------------------------------------

    def accepted(self, write: Write) -> None:
        """The API server has taken it."""
        batch = self.batches[write.batch]
        self._flying.pop(batch.name, None)
        self._holds(batch, write.records, exists=write.verb is not Verb.DELETE)

    def found(self, name: str, records: tuple[BatchEndpoint, ...] | None) -> bool:
        """What the API server itself says it holds under this name; None: no such batch. Whether that was news.

        After a write of unknown outcome, or when somebody else wrote: what is missing is appended anew, what is
        strange is overtaken, and both are cleaned later.
        """
        if name not in self.batches and records is None:
            return False
        batch = self._batch(name)
        before, lost = batch.records, self._flying.pop(name, ())
        if records == before and not lost:
            return False
        self._revision = max((self._revision, *(each.revision for each in records or ())))
        self._holds(batch, records or (), exists=records is not None)
        self._make_good((*before, *lost))
        self._disown(records or ())
        return True

    def _make_good(self, records: Iterable[BatchEndpoint]) -> None:
        """Say again what should be said and stands nowhere now."""
        for each in records:
            for address in each.addresses:
                self._dirty.update(dict.fromkeys(self._holders.batches(address)))
            if self._holders.has(each):
                continue
            owner = owner_of(each)
            if not owner:
                self._remove([a for a in each.addresses if a not in self._owner])
            elif self.want.get(owner) is not None and self.want[owner].revision == each.revision:
                self._say_again(owner)

    def _disown(self, records: Iterable[BatchEndpoint]) -> None:
        """Overtake what nobody here has written."""
        for each in records:
            owner = owner_of(each)
            if owner and owner in self.want and _says(self.want[owner]) == _says(each):
                continue
            for address in each.addresses:
                holder = self._owner.get(address, "")
                if holder in self.want and self.want[holder].revision <= each.revision:
                    self._say_again(holder)
            nobodys = [a for a in each.addresses if a not in self._owner]
            if owner and any(not self._holders.is_overtaken(a, each.revision) for a in nobodys):
                self._remove(nobodys)

    def _say_again(self, owner: str) -> None:
        before = self.want.pop(owner)
        self._pending.pop(before.addresses, None)
        self.on_use(before.identity, -1)
        self._tell(owner, _says(before))

    def _holds(self, batch: Batch, records: tuple[BatchEndpoint, ...], *, exists: bool) -> None:
        old, new = set(batch.records), set(records)
        batch.records, batch.exists = records, exists
        for each in new - old:
            self._holders.add(each, batch.number, batch.name)
        for each in old - new:
            self._holders.remove(each, batch.number, batch.name)
        for each in old ^ new:  # others that speak of the same addresses may be dead now
            for address in each.addresses:
                self._dirty.update(dict.fromkeys(self._holders.batches(address)))
        if exists:
            self._dirty[batch.name] = None
        else:
            del self.batches[batch.name]

    def _batch(self, name: str) -> Batch:
        found = self.batches.get(name)
        if found is None:
            digits = name.removeprefix(_PREFIX)
            is_ours = len(digits) == 10 and all(each in "0123456789abcdef" for each in digits)
            found = self.batches[name] = Batch(name, int(digits, 16) if is_ours else 0)
            self._number = max(self._number, found.number)
        return found


def _says(record: BatchEndpoint) -> Wanted:
    return Wanted(record.addresses, record.identity, record.node, record.subnets)
