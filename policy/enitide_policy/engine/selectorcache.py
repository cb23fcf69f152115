"""Which identities each selector selects: every selector resolved once, shared by all that use it, kept up to date.

A selector is filed under one of its requirements, its anchor: the pair of key and value that a match must have, else a
key that it must have. So a new identity is tested against the selectors filed under its own labels and no others, and
20,000 selectors that ask for other labels cost nothing. A new selector is resolved by intersecting sets of the label
index. Selections are kept as the packed bases of map keys.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from enitide_policy.mapstate import IDENTITY_SHIFT, PEER_SHIFT, Peer
from enitide_policy.selectors import NAMESPACE, POD, Operator, Requirement, Selector

if TYPE_CHECKING:
    from enitide_policy.engine.ruleset import RuleSetState

_BASE = Peer.IDENTITY << PEER_SHIFT


def base_of(identity: int) -> int:
    """The packed key of an identity without direction and L4."""
    return _BASE | identity << IDENTITY_SHIFT


def identity_of(base: int) -> int:
    """The inverse of `base_of`."""
    return base >> IDENTITY_SHIFT & 0xFFFFFFFF


class Selection:
    """One selector and what it selects. `bases` are packed, `rule_sets` are told of changes, `users` count uses."""

    __slots__ = ("_snapshot", "anchor", "bases", "rest", "rule_sets", "selector", "users")

    def __init__(self, selector: Selector, bases: set[int]) -> None:
        self.selector = selector
        self.bases = bases
        self.anchor = _anchor(selector)
        self.rest = tuple(r for r in selector.requirements if r is not self.anchor)
        self.users: dict[Hashable, int] = {}
        self.rule_sets: dict[RuleSetState, None] = {}
        self._snapshot: tuple[int, ...] | None = None

    def snapshot(self) -> tuple[int, ...]:
        """The selected identities, sorted and never changed: what readers may keep."""
        if self._snapshot is None:
            self._snapshot = tuple(sorted(map(identity_of, self.bases)))
        return self._snapshot

    def put(self, base: int) -> None:
        """Select one more."""
        self.bases.add(base)
        self._snapshot = None

    def drop(self, base: int) -> None:
        """Select one less."""
        self.bases.discard(base)
        self._snapshot = None


def _anchor(selector: Selector) -> Requirement | None:
    """The requirement to file a selector under: one value before several, a pod's label before a namespace's."""

    def rank(requirement: Requirement) -> tuple[bool, int, bool, bool]:
        key = requirement.key
        return (
            requirement.operator is Operator.EXISTS,
            len(requirement.values),
            not key.startswith(POD),
            key == NAMESPACE,
        )

    positive = [r for r in selector.requirements if r.operator in (Operator.IN, Operator.EXISTS)]
    return min(positive, key=rank, default=None)


class SelectorCache:
    """`tests` counts selectors that were held against an identity's labels, for tests and metrics."""

    def __init__(self) -> None:
        self.selections: dict[Selector, Selection] = {}
        self.labels: dict[int, Mapping[str, str]] = {}
        self.tests = 0
        self._with: dict[str, dict[str, set[int]]] = {}
        self._filed: dict[tuple[str, str] | str | None, dict[Selection, None]] = {}

    def add(self, identity: int, labels: Mapping[str, str]) -> list[Selection]:
        """Know an identity; the selections that it entered."""
        self.labels[identity] = labels
        base = base_of(identity)
        for key, value in labels.items():
            self._with.setdefault(key, {}).setdefault(value, set()).add(base)
        entered = self.matching(labels)
        for selection in entered:
            selection.put(base)
        return entered

    def remove(self, identity: int) -> None:
        """Forget an identity."""
        labels, base = self.labels.pop(identity), base_of(identity)
        for selection in self.matching(labels):
            selection.drop(base)
        for key, value in labels.items():
            self._with[key][value].discard(base)
            if not self._with[key][value]:
                del self._with[key][value]

    def matching(self, labels: Mapping[str, str]) -> list[Selection]:
        """All selections that these labels belong to."""
        found = []
        for selection in self._candidates(labels):
            self.tests += 1
            if all(requirement.holds(labels) for requirement in selection.rest):
                found.append(selection)
        return found

    def _candidates(self, labels: Mapping[str, str]) -> Iterator[Selection]:
        filed = self._filed
        if None in filed:
            yield from filed[None]
        for pair in labels.items():
            if pair in filed:
                yield from filed[pair]
            if pair[0] in filed:
                yield from filed[pair[0]]

    def acquire(self, selector: Selector, user: Hashable) -> Selection:
        """The selection of a selector, made if nobody has it yet."""
        selection = self.selections.get(selector)
        if selection is None:
            selection = Selection(selector, self._select(selector))
            self.selections[selector] = selection
            for place in _places(selection.anchor):
                self._filed.setdefault(place, {})[selection] = None
        selection.users[user] = selection.users.get(user, 0) + 1
        return selection

    def release(self, selection: Selection, user: Hashable) -> None:
        """One use less; the last one forgets the selector."""
        selection.users[user] -= 1
        if selection.users[user]:
            return
        del selection.users[user]
        if selection.users:
            return
        del self.selections[selection.selector]
        for place in _places(selection.anchor):
            del self._filed[place][selection]
            if not self._filed[place]:
                del self._filed[place]

    def _select(self, selector: Selector) -> set[int]:
        """By the label index: the smallest set that must hold, cut by the others."""
        wanted: list[set[int]] = []
        unwanted: list[set[int]] = []
        for requirement in selector.requirements:
            by_value = self._with.get(requirement.key, {})
            values = requirement.values or by_value.keys()
            found = [by_value[value] for value in values if value in by_value]
            positive = requirement.operator in (Operator.IN, Operator.EXISTS)
            (wanted if positive else unwanted).append(found[0] if len(found) == 1 else set().union(*found))
        if wanted:
            wanted.sort(key=len)
            selected = wanted[0].intersection(*wanted[1:])
        else:
            selected = set(map(base_of, self.labels))
        return selected.difference(*unwanted)


def _places(anchor: Requirement | None) -> Iterable[tuple[str, str] | str | None]:
    if anchor is None:
        return (None,)
    return [(anchor.key, value) for value in anchor.values] or [anchor.key]
