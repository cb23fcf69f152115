"""Rule sets in the kernel: a head in `rulesets`, entries in `rules`, shared by all endpoints with the same policy.

A rule set has a place, which is what endpoints point at; the engine's id stands in its head. A new one is written
closed, then its entries, then its head opens: nothing is ever half in force. A change widens the bitmaps, writes what
is new, sets the isolation, removes what is old, then narrows, and at last counts the generation up, which makes every
connection ask again.
A rule set that does not fit is closed, alone, and tried again whenever room has come. After a restart the rule sets
that are there are adopted by content, and their generation counts up: a process that died may have written entries and
not come to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from enitide_api.errors import DatapathFailed, InternalError
from enitide_enidp.datapath import codec, syscalls
from enitide_enidp.datapath import policycodec as pc
from enitide_enidp.datapath.kept import Entries, Kept
from enitide_enidp.datapath.stamp import Stamp
from enitide_policy.mapstate import RuleSet, RuleSetDelta

_NO_ROOM = 7, 12, 28  # E2BIG, ENOMEM, ENOSPC


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a change. `writes` counts entries put and deleted; `closed`: no room, nothing passes."""

    place: int
    writes: int
    closed: bool
    adopted: bool = False


class RuleSets:
    """All rule sets of the node. `capacity` is that of the map `rules`. Not thread-safe."""

    def __init__(self, fds: Mapping[str, int], capacity: int = pc.MAX_RULES) -> None:
        self._heads, self._rules = fds["rulesets"], fds["rules"]
        self._stamp = Stamp(fds)
        self._capacity = capacity
        self._kept: dict[int, Kept] = {}
        self._orphans: dict[int, Kept] = {}
        self._free = list(range(pc.MAX_RULESETS - 1, 0, -1))
        self._generations: dict[int, int] = {}  # of places that are free
        self._used = 0
        self._adopt()

    # --- what is there ---------------------------------------------------------------------------------------------

    @property
    def closed(self) -> frozenset[int]:
        """Ids of the rule sets that found no room."""
        return frozenset(number for number, kept in self._kept.items() if kept.closed)

    @property
    def used(self) -> int:
        """Entries in the map `rules`."""
        return self._used

    @property
    def capacity(self) -> int:
        return self._capacity

    def ids(self) -> frozenset[int]:
        return frozenset(self._kept)

    def place(self, number: int) -> int:
        """Where rule set `number` stands; 0 for 0. `InternalError` if it was never applied."""
        if number == 0:
            return 0
        if number not in self._kept:
            raise InternalError(f"rule set {number} is not in the kernel: apply it before an endpoint points at it")
        return self._kept[number].place

    def id_at(self, place: int) -> int | None:
        """The engine's id of what stands at `place`; None for nothing, or for one of an earlier process."""
        return next((number for number, kept in self._kept.items() if kept.place == place), None)

    def _adopt(self) -> None:
        """Read what an earlier process left. A head that never opened, and entries without a head, are removed."""
        heads = {
            codec.U32.unpack(key)[0]: pc.decode_head(value)
            for key, value in syscalls.dump(self._heads, 4, pc.RULESET_BYTES, pc.MAX_RULESETS)
        }
        open_places = {place for place, head in heads.items() if head.id and not head.flags & pc.RULESET_CLOSED}
        found: dict[int, Entries] = {place: {} for place in open_places}
        debris: list[bytes] = []
        if any(head.id or head.generation for head in heads.values()):
            for key, value in syscalls.dump(self._rules, pc.KEY_BYTES, pc.RULE_BYTES, self._capacity):
                place, rule_key = pc.decode_key(key)
                if place in found:
                    found[place][rule_key] = pc.decode_value(value)
                else:
                    debris.append(key)
        syscalls.delete_batch(self._rules, debris)
        for place, entries in found.items():
            head = heads[place]
            self._orphans[place] = Kept(
                place,
                bool(head.flags & pc.RULESET_ISOLATED_INGRESS),
                bool(head.flags & pc.RULESET_ISOLATED_EGRESS),
                entries,
                pc.classes_of(entries),
                generation=head.generation,
            )
            self._used += len(entries)
        for place, head in heads.items():
            if head.id and place not in open_places:
                self._orphans[place] = Kept(place, False, False, {}, closed=True, generation=head.generation)
            elif not head.id and head.generation:
                self._generations[place] = head.generation
        self._free = [place for place in self._free if place not in self._orphans]

    def orphans(self) -> frozenset[int]:
        """Places of an earlier process's rule sets that nobody has claimed."""
        return frozenset(self._orphans)

    # --- change ----------------------------------------------------------------------------------------------------

    def apply(self, change: RuleSet | RuleSetDelta) -> Applied:
        """Make the kernel's copy what `change` says. `InternalError` for a delta of a set that was never applied."""
        kept = self._kept.get(change.id)
        try:
            if isinstance(change, RuleSet):
                return self._create(change) if kept is None else self._replace(kept, change)
            if kept is None:
                raise InternalError(f"rule set {change.id} is not in the kernel: apply the whole of it first")
            puts = {key: value for key, value in change.puts.items() if kept.entries.get(key) != value}
            deletes = [key for key in change.deletes if key in kept.entries and key not in change.puts]
            return self._alter(change, kept, puts, deletes)
        except OSError as error:
            raise DatapathFailed(f"rule set {change.id} cannot be written: {error.strerror}") from error

    def apply_all(self, changes: Iterable[RuleSetDelta]) -> int:
        """Many at once; returns the entries written. What only adds entries costs two calls for all sets together.

        A peer that many rule sets name is one entry in each: a hundred sets must not be a hundred times the system
        calls of one.
        """
        plain, others, added = list[tuple[RuleSetDelta, Kept]](), list[RuleSetDelta](), 0
        for change in changes:
            kept = self._kept.get(change.id)
            if kept is not None and self._only_adds(change, kept, added):
                plain.append((change, kept))
                added += len(change.puts)
            else:
                others.append(change)
        if not self._add_all(plain):
            others = [*(change for change, _ in plain), *others]
            added = 0
        return added + sum(self.apply(change).writes for change in others)

    def _only_adds(self, change: RuleSetDelta, kept: Kept, before: int) -> bool:
        """Whether the head need say nothing new but a generation: no entry goes, no flag and no bitmap changes."""
        return (
            not change.deletes
            and not kept.closed
            and (change.isolated_ingress, change.isolated_egress) == (kept.isolated_ingress, kept.isolated_egress)
            and self._used + before + len(change.puts) <= self._capacity
            and all(pc.class_of(key) in kept.classes for key in change.puts)
        )

    def _add_all(self, plain: list[tuple[RuleSetDelta, Kept]]) -> bool:
        """Entries of all sets, then heads of all sets; False if the map has no room for them after all."""
        keys, values, count = pc.pack_entries((kept.place, change.puts) for change, kept in plain)
        try:
            syscalls.update_packed(self._rules, keys, values, count)
            for change, kept in plain:
                before = len(kept.entries)
                for key in change.puts:
                    kept.classes[pc.class_of(key)] += key not in kept.entries
                kept.entries.update(change.puts)
                self._used += len(kept.entries) - before
                kept.generation += 1
            heads = [kept.head(change.id) for change, kept in plain]
            syscalls.update_batch(self._heads, heads)
            self._stamp.renew()
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            raise DatapathFailed(f"rule sets cannot be written: {error.strerror}") from error
        return True

    def retire(self, number: int) -> None:
        """Remove a rule set that no endpoint points at any more. Unknown is no error. Room may let others open."""
        kept = self._kept.pop(number, None)
        if kept is not None:
            self._remove(kept)
            self.retry()

    def retire_orphans(self, in_use: frozenset[int]) -> int:
        """Remove what nobody claimed and no endpoint points at; returns how many. After the first full sync."""
        gone = [place for place in self._orphans if place not in in_use]
        for place in gone:
            self._remove(self._orphans.pop(place))
        self.retry()
        return len(gone)

    def retry(self) -> frozenset[int]:
        """Try closed rule sets again, the smallest first; returns the ids of those that opened."""
        opened = set[int]()
        for number, kept in sorted(self._kept.items(), key=lambda item: len(item[1].entries)):
            if kept.closed and self._used + len(kept.entries) <= self._capacity:
                try:
                    self._write_all(number, kept)
                except OSError as error:
                    raise DatapathFailed(f"rule set {number} cannot be written: {error.strerror}") from error
                if not kept.closed:
                    opened.add(number)
        return frozenset(opened)

    def repair(self) -> list[str]:
        """Compare every entry in the kernel with what we wrote; put right what differs. One sentence a rule set."""
        try:
            found: dict[int, Entries] = {}
            self._catch_up()
            for key, value in syscalls.dump(self._rules, pc.KEY_BYTES, pc.RULE_BYTES, self._capacity):
                place, packed = pc.decode_key(key)
                found.setdefault(place, {})[packed] = pc.decode_value(value)
            known = {kept.place: (number, kept) for number, kept in self._kept.items()}
            known |= {place: (0, kept) for place, kept in self._orphans.items()}
            repairs = [text for place in sorted(found.keys() - known.keys()) for text in self._sweep(place, found)]
            for place, (number, kept) in sorted(known.items()):
                if found.get(place, {}) != ({} if kept.closed else kept.entries) and number:
                    repairs.append(f"entries of rule set {number} were not what was written: written anew")
                    self._rewrite_place(number, kept, found.get(place, {}))
        except OSError as error:
            raise DatapathFailed(f"rule sets cannot be compared: {error.strerror}") from error
        return repairs

    def _catch_up(self) -> None:
        """Never count from below what stands there: somebody may have written a head."""
        for kept in (*self._kept.values(), *self._orphans.values()):
            head = syscalls.lookup(self._heads, codec.U32.pack(kept.place), pc.RULESET_BYTES)
            kept.generation = max(kept.generation, pc.decode_head(head).generation if head else 0)

    def _sweep(self, place: int, found: dict[int, Entries]) -> list[str]:
        syscalls.delete_batch(self._rules, [pc.encode_key(place, key) for key in found[place]])
        return [f"{len(found[place])} entries of no rule set removed from the kernel"]

    def _rewrite_place(self, number: int, kept: Kept, found: Entries) -> None:
        wanted = {} if kept.closed else kept.entries
        self._put(kept, {key: value for key, value in wanted.items() if found.get(key) != value})
        syscalls.delete_batch(self._rules, [pc.encode_key(kept.place, key) for key in found if key not in wanted])
        self._settle(number, kept)

    def _create(self, wanted: RuleSet) -> Applied:
        claimed = self._claim(wanted)
        if claimed is not None:
            return Applied(claimed.place, 0, claimed.closed, adopted=True)
        if not self._free:
            raise DatapathFailed(f"no place for rule set {wanted.id}: {pc.MAX_RULESETS - 1} are in use")
        place = self._free.pop()
        kept = Kept(
            place,
            wanted.isolated_ingress,
            wanted.isolated_egress,
            dict(wanted.entries),
            pc.classes_of(wanted.entries),
            generation=self._generations.pop(place, 0),
        )
        self._kept[wanted.id] = kept
        self._write_all(wanted.id, kept)
        return Applied(place, 0 if kept.closed else len(kept.entries), kept.closed)

    def _claim(self, wanted: RuleSet) -> Kept | None:
        """One of an earlier process with the same content: its head gets the new id."""
        for place, kept in self._orphans.items():
            if (
                not kept.closed
                and kept.isolated_ingress == wanted.isolated_ingress
                and kept.isolated_egress == wanted.isolated_egress
                and kept.entries == wanted.entries
            ):
                self._kept[wanted.id] = self._orphans.pop(place)
                self._settle(wanted.id, kept)
                return kept
        return None

    def _replace(self, kept: Kept, wanted: RuleSet) -> Applied:
        puts = {key: value for key, value in wanted.entries.items() if kept.entries.get(key) != value}
        deletes = [key for key in kept.entries if key not in wanted.entries]
        return self._alter(wanted, kept, puts, deletes)

    def _alter(self, change: RuleSet | RuleSetDelta, kept: Kept, puts: Entries, deletes: list[int]) -> Applied:
        flags = (change.isolated_ingress, change.isolated_egress)
        if flags == (kept.isolated_ingress, kept.isolated_egress) and not (puts or deletes or kept.closed):
            return Applied(kept.place, 0, closed=False)
        new = [key for key in puts if key not in kept.entries]
        if kept.closed or self._used + len(new) > self._capacity:
            return self._rewrite(change, kept, puts, deletes)
        before = pc.bitmaps(kept.classes)
        kept.classes.update(pc.classes_of(new))
        kept.rows = b""
        if pc.bitmaps(kept.classes) != before:
            self._write_head(change.id, kept)
        written = self._put(kept, puts)
        kept.isolated_ingress, kept.isolated_egress = change.isolated_ingress, change.isolated_egress
        if written and deletes:
            self._write_head(change.id, kept)
            syscalls.delete_batch(self._rules, [pc.encode_key(kept.place, key) for key in deletes])
        self._remember(kept, puts, deletes)
        if written:
            self._used += len(new) - len(deletes)
            self._settle(change.id, kept)
        else:
            self._used += len(new)
            self._close(change.id, kept, [*kept.entries, *deletes])
        return Applied(kept.place, len(puts) + len(deletes), kept.closed)

    def _rewrite(self, change: RuleSet | RuleSetDelta, kept: Kept, puts: Entries, deletes: list[int]) -> Applied:
        """A change beside which there may be no room for what is there: out with the old, in with the new."""
        if not kept.closed:
            self._close(change.id, kept, list(kept.entries))
        kept.classes.update(pc.classes_of(key for key in puts if key not in kept.entries))
        kept.isolated_ingress, kept.isolated_egress = change.isolated_ingress, change.isolated_egress
        self._remember(kept, puts, deletes)
        self._write_all(change.id, kept)
        return Applied(kept.place, 0 if kept.closed else len(kept.entries), kept.closed)

    @staticmethod
    def _remember(kept: Kept, puts: Entries, deletes: list[int]) -> None:
        kept.entries.update(puts)
        for key in deletes:
            del kept.entries[key]
        kept.classes -= pc.classes_of(deletes)
        kept.rows = b""

    # --- the kernel ------------------------------------------------------------------------------------------------

    def _put(self, kept: Kept, entries: Entries) -> bool:
        """Write entries; False if the map has no room."""
        keys, values, count = pc.pack_entries([(kept.place, entries)])
        try:
            syscalls.update_packed(self._rules, keys, values, count)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            return False
        return True

    def _write_all(self, number: int, kept: Kept) -> None:
        """Head closed, entries, head open. Without room it stays closed and holds no entry."""
        kept.closed = True
        self._write_head(number, kept)
        if self._used + len(kept.entries) > self._capacity:
            return
        self._used += len(kept.entries)
        if not self._put(kept, kept.entries):
            self._close(number, kept, list(kept.entries))
            return
        kept.closed = False
        self._settle(number, kept)

    def _close(self, number: int, kept: Kept, keys: list[int]) -> None:
        """Nothing passes from now on. Its entries leave the map, which is room for others."""
        kept.closed = True
        self._settle(number, kept)
        syscalls.delete_batch(self._rules, [pc.encode_key(kept.place, key) for key in keys])
        self._used -= len(keys)

    def _remove(self, kept: Kept) -> None:
        self._close(0, kept, [] if kept.closed else list(kept.entries))
        self._free.append(kept.place)
        self._generations[kept.place] = kept.generation

    def _settle(self, number: int, kept: Kept) -> None:
        """What holds now, and only then the generation: a verdict with the new one is never of the old rules."""
        self._write_head(number, kept)
        kept.generation += 1
        self._write_head(number, kept)
        self._stamp.renew()

    def _write_head(self, number: int, kept: Kept) -> None:
        syscalls.update(self._heads, *kept.head(number))
