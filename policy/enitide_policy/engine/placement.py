"""Which rule set each identity of this node has: shared, made when first needed, dropped with the last user."""

from __future__ import annotations

from collections.abc import Iterable

from enitide_policy.engine.policies import Group, PolicyStore, content_of
from enitide_policy.engine.ruleset import RuleSetState
from enitide_policy.engine.selectorcache import SelectorCache
from enitide_policy.labels import IdentityLabels, Ports
from enitide_policy.mapstate import RuleSet, RuleSetDelta

Key = tuple[frozenset[Group], Ports]


class Placement:
    """A rule set's key: the groups of policies, and the pod's own ports that their ingress rules name.

    A set that a pod is leaving is not changed in place: until the pod's endpoint is switched it still obeys it.
    `subjects` knows the identities of this node and no others, `nodes` the node itself.
    `switched`: identities with another set than before.
    """

    def __init__(
        self, subjects: SelectorCache, nodes: SelectorCache, store: PolicyStore, labels: dict[int, IdentityLabels]
    ) -> None:
        self.next_id = 1
        self.placed: dict[int, RuleSetState] = {}
        self.switched: dict[int, None] = {}
        self.moved: dict[RuleSetState, None] = {}
        self.changed: dict[RuleSetState, None] = {}
        self._subjects, self._nodes, self._store, self._labels = subjects, nodes, store, labels
        self._sets: dict[Key, RuleSetState] = {}
        self._keys: dict[RuleSetState, Key] = {}
        self._fresh: dict[RuleSetState, None] = {}
        self._left: dict[RuleSetState, None] = {}

    def settle(self, dirty: Iterable[int]) -> int:
        """Give each of these identities the set of its policies; distil what is new or changed, and count it."""
        moves: dict[tuple[RuleSetState | None, Key], list[int]] = {}
        for number in dirty:
            if number not in self._cache_of(number).labels:
                self._leave(number)
                continue
            state, key = self.placed.get(number), self._key(number)
            if state is None or self._keys[state] != key:
                moves.setdefault((state, key), []).append(number)
        for (state, key), numbers in moves.items():
            self._move(state, key, numbers)
        changed, self.changed = self.changed, {}
        return sum(self._distil(state) for state in changed if state.members)

    def created(self) -> tuple[RuleSet, ...]:
        """The sets made since the last `finish`, whole."""
        return tuple(state.rule_set() for state in self._fresh if state.members)

    def deltas(self) -> tuple[RuleSetDelta, ...]:
        """What changed in the sets that were there, since the last call."""
        if not self.moved:
            return ()
        moved = sorted((state for state in self.moved if state.members), key=lambda state: state.id)
        found = [delta for state in moved if (delta := state.delta())]
        self.moved = {state: None for state in self.moved if not state.members}
        return tuple(found)

    def finish(self) -> tuple[int, ...]:
        """Forget the sets without users; their ids, as far as they had been handed out."""
        unused = [state for state in self.moved if not state.members]
        for state in unused:
            state.detach()
            self._unname(state)
        dropped = tuple(sorted(state.id for state in unused if state not in self._fresh))
        self.moved.clear()
        self._fresh.clear()
        self._left.clear()
        return dropped

    def is_selected(self, number: int) -> bool:
        """Whether any policy selects it."""
        state = self.placed.get(number)
        return state is not None and bool(self._keys[state][0])

    def _cache_of(self, number: int) -> SelectorCache:
        return self._nodes if number in self._nodes.labels else self._subjects

    def _key(self, number: int) -> Key:
        cache = self._cache_of(number)
        matching = cache.matching(cache.labels[number])
        found = map(self._store.groups.get, matching)  # a subject whose policies have just gone has none
        groups = frozenset(group for group in found if group is not None)
        names = set().union(*(group.names for group in groups))
        labels = self._labels.get(number)  # none of a node: names of ports are pods'
        return groups, tuple(port for port in (labels.ports if labels else ()) if port[0] in names)

    def _move(self, state: RuleSetState | None, key: Key, numbers: list[int]) -> None:
        target = self._sets.get(key)
        if target is None and state and len(numbers) == len(state.members):
            self._name(state, key)  # all of its users go, so the set goes with them
            return
        if target is None:
            target = self._new(key)
        for number in numbers:
            self._leave(number)
            self._join(number, target)

    def _join(self, number: int, state: RuleSetState) -> None:
        state.members[number] = None
        self.placed[number] = state
        self.switched[number] = None

    def _leave(self, number: int) -> None:
        state = self.placed.pop(number, None)
        if state is not None:
            del state.members[number]
            self.moved[state] = self._left[state] = None
            self.switched[number] = None

    def _new(self, key: Key) -> RuleSetState:
        state = RuleSetState(self.next_id)
        self.next_id += 1
        self._fresh[state] = None
        self._name(state, key)
        return state

    def _name(self, state: RuleSetState, key: Key) -> None:
        self._unname(state)
        self._sets[key], self._keys[state] = state, key
        self.changed[state] = None
        state.own = key[1]
        for group in key[0]:
            group.sets[state] = None

    def _unname(self, state: RuleSetState) -> None:
        key = self._keys.pop(state, None)
        if key is not None:
            if self._sets.get(key) is state:
                del self._sets[key]
            for group in key[0]:
                group.sets.pop(state, None)

    def _distil(self, state: RuleSetState) -> int:
        state.attach(content_of(self._keys[state][0]))
        entries = state.distil(self._labels)
        if state in self._fresh:
            state.entries = entries
        elif state not in self._left and state.replace(entries):
            self.moved[state] = None
        else:
            self._succeed(state, entries)
        return 1

    def _succeed(self, state: RuleSetState, entries: dict[int, int]) -> None:
        """A new set with a new id takes over: the switch of an endpoint is one write."""
        state.detach()
        new = self._new(self._keys[state])
        new.attach(state.content)
        new.open, new.entries = state.open, entries
        for number in list(state.members):
            self._leave(number)
            self._join(number, new)
        del self.changed[new]
