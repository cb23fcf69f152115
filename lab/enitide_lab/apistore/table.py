"""One resource's objects, their recent history, and who watches them.

History is a bounded ring: whoever asks for changes older than it gets 410, as from a compacted etcd. A change is
matched only against watchers that may care: those pinned to the object's name or node by their selector, and those
that watch everything. Each object is encoded once, however many watchers get it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from enitide_lab.apistore.refusal import gone
from enitide_lab.apistore.selectors import Selector, field_value

if TYPE_CHECKING:
    from enitide_kube.port import Kind
    from enitide_kube.status import Status
    from enitide_lab.apistore.types import ResourceType

EventType = Literal["ADDED", "MODIFIED", "DELETED"]
INDEXED = ("metadata.name", "spec.nodeName")


@dataclass(slots=True, eq=False)
class Stored:
    """One version of one object. Never changed; `raw` and `line` remember what they encoded."""

    obj: dict[str, Any]
    rv: int
    key: str
    _raw: dict[Kind, bytes] = field(default_factory=dict)
    _lines: dict[tuple[Kind, str], bytes] = field(default_factory=dict)

    def raw(self, rtype: ResourceType) -> bytes:
        """The object's JSON as this type shows it."""
        raw = self._raw.get(rtype.kind)
        if raw is None:
            raw = self._raw[rtype.kind] = msgspec.json.encode(rtype.shown(self.obj) if rtype.view else self.obj)
        return raw

    def line(self, rtype: ResourceType, event: str) -> bytes:
        """The watch stream's line for it, with its newline."""
        line = self._lines.get((rtype.kind, event))
        if line is None:
            line = b'{"type":"' + event.encode() + b'","object":' + self.raw(rtype) + b"}\n"
            self._lines[rtype.kind, event] = line
        return line


@dataclass(slots=True, eq=False)
class Change:
    """What happened to one object at version `rv`: `old` None for a new one, `new` None for one that went."""

    rv: int
    old: Stored | None
    new: Stored | None
    _departed: Stored | None = None

    def seen_by(self, selector: Selector) -> tuple[EventType, Stored] | None:
        """The event for who selects so: entering a selection is ADDED, leaving it DELETED."""
        before = self.old is not None and selector.matches(self.old.obj)
        if self.new is not None and selector.matches(self.new.obj):
            return ("MODIFIED" if before else "ADDED"), self.new
        return ("DELETED", self.departed()) if before else None

    def departed(self) -> Stored:
        """The last state before, carrying the version of this change."""
        if self._departed is None:
            assert self.old is not None
            self._departed = reversioned(self.old, self.rv)
        return self._departed


def reversioned(stored: Stored, rv: int) -> Stored:
    """The same object at another version."""
    metadata = {**stored.obj["metadata"], "resourceVersion": str(rv)}
    return Stored({**stored.obj, "metadata": metadata}, rv, stored.key)


@dataclass(eq=False)
class Watcher:
    """Who is told. Both callbacks must not block and must not raise; `on_end` gets None for a plain end."""

    rtype: ResourceType
    selector: Selector
    on_event: Callable[[EventType, Stored], None]
    on_end: Callable[[Status | None], None]

    def offer(self, change: Change) -> None:
        """Tells of the change, if it is one for this selection."""
        seen = change.seen_by(self.selector)
        if seen is not None:
            self.on_event(*seen)


class Table:
    """Objects by key (`namespace/name`, or `name`), in the order of their keys."""

    def __init__(self, ring: int, *, namespaced: bool) -> None:
        self.namespaced = namespaced
        self.objects: dict[str, Stored] = {}
        self.floor = 0  # changes up to this version are forgotten
        self._keys: list[str] = []
        self._ring: deque[Change] = deque()
        self._ring_size = ring
        self._by_node: dict[str, set[str]] = {}
        self._everything: dict[Watcher, None] = {}
        self._pinned: dict[str, dict[str, dict[Watcher, None]]] = {path: {} for path in INDEXED}

    # --- objects -------------------------------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Puts, replaces or removes the object, remembers the change and tells the watchers."""
        old, new = change.old, change.new
        if old is not None:
            self._unindex(old)
        if new is not None:
            self._index(new, is_new=old is None)
            self.objects[new.key] = new
        elif old is not None:
            del self.objects[old.key]
            del self._keys[bisect_left(self._keys, old.key)]
        self._ring.append(change)
        if len(self._ring) > self._ring_size:
            self.floor = self._ring.popleft().rv
        for watcher in self._concerned(change):
            watcher.offer(change)

    def _index(self, stored: Stored, *, is_new: bool) -> None:
        if is_new:
            insort(self._keys, stored.key)
        node = field_value(stored.obj, "spec.nodeName")
        if node:
            self._by_node.setdefault(node, set()).add(stored.key)

    def _unindex(self, stored: Stored) -> None:
        node = field_value(stored.obj, "spec.nodeName")
        keys = self._by_node.get(node)
        if keys is not None:
            keys.discard(stored.key)
            if not keys:
                del self._by_node[node]

    def select(self, selector: Selector) -> list[Stored]:
        """The objects selected, in key order."""
        name, node = selector.pinned("metadata.name"), selector.pinned("spec.nodeName")
        keys: Iterable[str] = self._keys
        if name is not None and (selector.namespace or not self.namespaced):
            key = f"{selector.namespace}/{name}" if selector.namespace else name
            keys = [key] if key in self.objects else []
        elif node is not None:
            keys = sorted(self._by_node.get(node, ()))
        elif selector.namespace:
            start = bisect_left(self._keys, f"{selector.namespace}/")
            keys = self._keys[start : bisect_left(self._keys, f"{selector.namespace}0")]  # '0' follows '/'
        if not (selector.labels or selector.fields):
            return [self.objects[key] for key in keys]
        return [self.objects[key] for key in keys if selector.matches(self.objects[key].obj)]

    # --- watchers ------------------------------------------------------------------------------------------------

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """All of them."""
        pinned = (w for by_value in self._pinned.values() for watchers in by_value.values() for w in watchers)
        return (*self._everything, *pinned)

    def watch(self, watcher: Watcher, since: int) -> None:
        """Tells of all changes after `since`, then of each new one. Raises the 410 where they are forgotten."""
        self.require(since)
        missed = []
        for change in reversed(self._ring):
            if change.rv <= since:
                break
            missed.append(change)
        for change in reversed(missed):
            watcher.offer(change)
        self._place(watcher)[watcher] = None

    def require(self, since: int) -> None:
        """Raises the 410 if changes after `since` are forgotten."""
        if since < self.floor:
            raise gone(f"too old resource version: {since} ({self.floor})")

    def unwatch(self, watcher: Watcher) -> None:
        """No more is told. Unknown watchers are fine: an end and a disconnect may cross."""
        self._place(watcher).pop(watcher, None)
        for path in INDEXED:
            value = watcher.selector.pinned(path)
            if value is not None and not self._pinned[path].get(value, True):
                del self._pinned[path][value]

    def _place(self, watcher: Watcher) -> dict[Watcher, None]:
        for path in INDEXED:
            value = watcher.selector.pinned(path)
            if value is not None:
                return self._pinned[path].setdefault(value, {})
        return self._everything

    def _concerned(self, change: Change) -> list[Watcher]:
        concerned = list(self._everything)
        for path, by_value in self._pinned.items():
            if by_value:
                values = {field_value(stored.obj, path) for stored in (change.old, change.new) if stored is not None}
                for value in sorted(values):
                    concerned.extend(by_value.get(value, ()))
        return concerned

    def compact(self, rv: int) -> None:
        """Forgets all changes up to `rv`, the present version."""
        self._ring.clear()
        self.floor = rv

    def end_watches(self, status: Status | None) -> int:
        """Ends every watch, with a Status inside the stream or without a word. Returns how many."""
        watchers = self.watchers
        for watcher in watchers:
            self.unwatch(watcher)
            watcher.on_end(status)
        return len(watchers)
