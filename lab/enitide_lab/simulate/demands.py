"""Who asked for what and when it was met: from what ENINodes say, as an outsider would measure it.

A change of demand or of the governing class is met by the first write after it with which the node lacks nothing (or
is full) and is governed by that class. What was covered beforehand is met at once. Knows nothing of the operator.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from enitide_api.resources import Demand, ENIClass, decode
from enitide_ipam.status import AT_CAPACITY
from enitide_ipam.tide import levels
from enitide_kube.port import ENICLASS, ENINODE, Kind
from enitide_lab.apistore.store import Store
from enitide_lab.apistore.table import EventType, Stored, Watcher
from enitide_operator.classes import ClassBook, Governing


@dataclass(slots=True)
class Asked:
    """One node's wishes. `unmet`: when each change that nothing has met yet was made. `latency` of the last change.

    `touched_s`: when anything about it last changed. `provisioned`, `full`, `governed_by`: what its ENINode says.
    """

    labels: Mapping[str, str]
    instance: str
    demand: Demand
    bound: int = 0
    unmet: list[float] = field(default_factory=list)
    latency: float | None = None
    touched_s: float = 0.0
    published: bool = False
    provisioned: int = 0
    full: bool = False
    governed_by: tuple[str, int] = ("", 0)


class Demands:
    """`is_full(node)`: at capacity, by what EC2 has. `samples`: seconds from each change to the write that met it."""

    def __init__(self, store: Store, clock: Callable[[], float], is_full: Callable[[str], bool]) -> None:
        self.nodes: dict[str, Asked] = {}
        self.samples = array("d")
        self.classes = ClassBook()
        self._store = store
        self._clock = clock
        self._is_full = is_full
        self._known: dict[str, ENIClass] = {}
        self._watch(ENICLASS, self._on_class)
        self._watch(ENINODE, self._on_eninode)

    def _watch(self, kind: Kind, listener: Callable[[EventType, Stored], None]) -> None:
        """A direct ear in the store: a watch that is dropped on command does not make it deaf."""
        rtype = self._store.type_of(kind)
        selector = self._store.selector(rtype, "", "", "")
        watcher = Watcher(rtype, selector, listener, lambda _status: self._store.watch(watcher, self._store.version))
        self._store.watch(watcher, 0, initial=True)

    # --- what is asked -----------------------------------------------------------------------------------------------

    def announce(self, node: str, labels: Mapping[str, str], instance: str, demand: Demand, bound: int) -> None:
        """A node's first wish."""
        self.nodes[node] = Asked(labels, instance, demand, bound)
        self._changed(node)

    def demand(self, node: str, demand: Demand) -> None:
        """Its agent's numbers."""
        asked = self.nodes.get(node)
        if asked is not None and asked.demand != demand:
            asked.demand = demand
            self._changed(node)

    def bound(self, node: str, bound: int) -> None:
        """The number of pods bound to it that hold or want an address."""
        asked = self.nodes.get(node)
        if asked is not None and asked.bound != bound:
            asked.bound = bound
            self._changed(node)

    def governing(self, node: str) -> Governing:
        """The class that governs it now."""
        return self.classes.governing(self.nodes[node].labels)

    def _changed(self, node: str) -> None:
        asked = self.nodes[node]
        asked.touched_s = self._clock()
        asked.unmet.append(asked.touched_s)
        asked.latency = None
        self._meet(node, asked)

    def _on_class(self, event: EventType, stored: Stored) -> None:
        new = decode(stored.raw(self._store.type_of(ENICLASS)), ENIClass)
        name = new.metadata.name
        known = self._known.get(name)
        if event == "MODIFIED" and known is not None and known.metadata.generation == new.metadata.generation:
            return  # the operator counted its nodes in the status
        before = {node: self.governing(node) for node in self.nodes}
        self.classes.on_change(name, known, None if event == "DELETED" else new)
        self._known[name] = new
        for node, old in before.items():
            new_one = self.governing(node)
            if (old.name, old.spec) != (new_one.name, new_one.spec):
                self._changed(node)

    # --- what is there -----------------------------------------------------------------------------------------------

    def _on_eninode(self, event: EventType, stored: Stored) -> None:
        asked = self.nodes.get(stored.key)
        if asked is None:
            return
        status: Mapping[str, Any] = {} if event == "DELETED" else stored.obj.get("status") or {}
        class_ = status.get("class") or {}
        asked.touched_s = self._clock()
        asked.published = status.get("instanceID") == asked.instance
        asked.provisioned = (status.get("capacity") or {}).get("provisioned", 0)
        asked.full = any(c["type"] == AT_CAPACITY and c["status"] == "True" for c in status.get("conditions") or ())
        asked.governed_by = (class_.get("name", ""), class_.get("generation", 0))
        if asked.unmet:
            self._meet(stored.key, asked)

    def lacks(self, node: str) -> int:
        """Addresses below low, whatever the reason."""
        asked = self.nodes[node]
        marks = levels(asked.demand, asked.bound, self.governing(node).spec.pool)
        return max(0, marks.low - asked.provisioned)

    def _meet(self, node: str, asked: Asked) -> None:
        governing = self.governing(node)
        if not asked.published or asked.governed_by != (governing.name, governing.generation):
            return
        if self.lacks(node) and not self._is_full(node):
            return
        now = self._clock()
        self.samples.extend(now - since for since in asked.unmet)
        asked.latency = now - asked.unmet[-1]
        asked.unmet.clear()
