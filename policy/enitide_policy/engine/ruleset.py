"""One rule set: the rules of a group of policies distilled to map entries, and kept in step with their peers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from enitide_policy.engine.compiled import Block, Compiled, Handle, Order, Stage
from enitide_policy.labels import IdentityLabels, Ports
from enitide_policy.mapstate import (
    ADMIN_ACTION_SHIFT,
    BASELINE_ACTION_SHIFT,
    BASELINE_SHIFT,
    DIRECTION_SHIFT,
    MIDDLE_ALLOW,
    MIDDLE_DENY,
    Action,
    Direction,
    RuleSet,
    RuleSetDelta,
)

Identities = dict[int, IdentityLabels]
BlocksOf = Callable[[Compiled], Iterable[Block]]
_TIERED = ~(MIDDLE_ALLOW | MIDDLE_DENY)
_ANY = tuple(side << DIRECTION_SHIFT for side in Direction)


@dataclass(slots=True)
class Content:
    """What a rule set is made from: distinct rules, and the isolated directions."""

    rules: tuple[Compiled, ...]
    isolated: tuple[bool, bool]


class RuleSetState:
    """`entries` are as the kernel shall have them; `touched` holds the old value of keys changed since the last delta.

    `own`: the named ports of the pods whose policy it is, as far as ingress rules name them.
    """

    __slots__ = (
        "_lent",
        "by_handle",
        "content",
        "entries",
        "flags",
        "id",
        "members",
        "open",
        "own",
        "precedence",
        "touched",
    )

    def __init__(self, number: int) -> None:
        self.id = number
        self.own: Ports = ()
        self.members: dict[int, None] = {}
        self.content = Content((), (False, False))
        self.entries: dict[int, int] = {}
        self.flags = (False, False)
        self.open = [False, False]
        self.precedence: dict[Compiled, int] = {}
        self.by_handle: dict[Handle, list[Compiled]] = {}
        self.touched: dict[int, int] = {}
        self._lent = False

    def attach(self, content: Content) -> None:
        """Use these rules from now on, and hear of changes of their peers."""
        self.detach()
        self.content = content
        for rule in content.rules:
            for handle in rule.handles:
                self.by_handle.setdefault(handle, []).append(rule)
        for handle in self.by_handle:
            handle.rule_sets[self] = None
        self.precedence = _precedence(content.rules)

    def detach(self) -> None:
        """Hear of nothing any more."""
        for handle in self.by_handle:
            del handle.rule_sets[self]
        self.by_handle.clear()

    def distil(self, identities: Identities) -> dict[int, int]:
        """All entries, from nothing."""
        opening = {rule.direction for rule in self.content.rules if rule.allows_all}
        self.open = [side in opening for side in Direction]  # one entry makes every other allow of its direction idle
        entries = self._merged(self.content.rules, lambda rule: rule.blocks(self.own, identities))
        for side in Direction:
            if self.open[side] and self.content.isolated[side]:
                entries[_ANY[side]] = entries.get(_ANY[side], 0) | MIDDLE_ALLOW
        return entries

    def at(self, base: int, handles: Iterable[Handle], labels: IdentityLabels | None) -> dict[int, int]:
        """The entries of one peer that `handles` hold."""
        rules = dict.fromkeys(rule for handle in handles for rule in self.by_handle.get(handle, ()))
        return self._merged(rules, lambda rule: rule.blocks_at(base, self.own, labels))

    def _merged(self, rules: Iterable[Compiled], blocks_of: BlocksOf) -> dict[int, int]:
        allow: list[Block] = []
        deny: list[Block] = []
        tiered: list[Compiled] = []
        for rule in rules:
            if rule.stage is not Stage.MIDDLE:
                tiered.append(rule)
            elif rule.action is Action.DENY:
                deny += blocks_of(rule)
            elif self.content.isolated[rule.direction] and not self.open[rule.direction]:
                allow += blocks_of(rule)
        entries = {part + base: MIDDLE_ALLOW for part, bases in allow for base in bases}
        if deny:
            for key in {part + base for part, bases in deny for base in bases}:
                entries[key] = entries.get(key, 0) | MIDDLE_DENY
        if tiered:
            self._add_tiered(entries, tiered, blocks_of)
        return entries

    def _add_tiered(self, entries: dict[int, int], rules: list[Compiled], blocks_of: BlocksOf) -> None:
        """The strongest rule of each key and stage: written last, over the weaker."""
        rules.sort(key=self.precedence.__getitem__)
        for stage in (Stage.ADMIN, Stage.BASELINE):
            strongest: dict[int, int] = {}
            for rule in rules:
                if rule.stage is stage:
                    value = _tiered_value(stage, rule.action, self.precedence[rule])
                    strongest.update({part + base: value for part, bases in blocks_of(rule) for base in bases})
            for key, value in strongest.items():
                entries[key] = entries.get(key, 0) | value

    def put(self, found: dict[int, int]) -> None:
        """Entries that came with a new peer."""
        self._own_entries()
        for key, value in found.items():
            self.touched.setdefault(key, self.entries.get(key, 0))
            self.entries[key] = value

    def drop(self, keys: Iterable[int]) -> None:
        """Entries that went with a peer."""
        self._own_entries()
        for key in keys:
            old = self.entries.pop(key, 0)
            if old:
                self.touched.setdefault(key, old)

    def replace(self, entries: dict[int, int]) -> bool:
        """Take newly distilled entries. False, and nothing is taken, if only a new rule set can change without a gap.

        In place each packet meets the old or the new verdict as long as allows and denies alone change. Changes of
        ordered rules may mix, so they need a whole new set.
        """
        old = self.entries
        if any(value & _TIERED for value in old.values()) or any(value & _TIERED for value in entries.values()):
            tiered = {key: value & _TIERED for key, value in old.items() if value & _TIERED}
            if tiered != {key: value & _TIERED for key, value in entries.items() if value & _TIERED}:
                return False
        for key, value in entries.items() ^ old.items():
            del value
            self.touched.setdefault(key, old.get(key, 0))
        self.entries, self._lent = entries, False
        return True

    def rule_set(self) -> RuleSet:
        """As handed out when it is new."""
        self.touched.clear()
        self.flags = self.content.isolated
        return self.lend()

    def lend(self) -> RuleSet:
        """As it is."""
        self._lent = True
        return RuleSet(self.id, *self.flags, self.entries)

    def _own_entries(self) -> None:
        """What was handed out never changes: the first change after it is made on a copy."""
        if self._lent:
            self.entries, self._lent = dict(self.entries), False

    def delta(self) -> RuleSetDelta | None:
        """What changed since the last time, if anything; denies are put first and deleted last."""
        touched, self.touched = self.touched, {}
        denies: dict[int, int] = {}
        puts: dict[int, int] = {}
        gone: list[int] = []
        for key, old in touched.items():
            value = self.entries.get(key, 0)
            if value == old:
                continue
            if not value:
                gone.append(key)
            elif value & MIDDLE_DENY:
                denies[key] = value
            else:
                puts[key] = value
        flags, self.flags = self.flags, self.content.isolated
        if not (puts or denies or gone) and flags == self.flags:
            return None
        gone.sort(key=lambda key: touched[key] & MIDDLE_DENY)
        return RuleSetDelta(self.id, *self.flags, denies | puts if denies else puts, tuple(gone))


def _tiered_value(stage: Stage, action: Action, precedence: int) -> int:
    if stage is Stage.ADMIN:
        return precedence | action << ADMIN_ACTION_SHIFT
    return precedence << BASELINE_SHIFT | action << BASELINE_ACTION_SHIFT


def _precedence(rules: Iterable[Compiled]) -> dict[Compiled, int]:
    """Of the ordered rules of one set: counted from the weakest, 1, separately for each stage and direction.

    The two halves of one written rule (numbers, named ports) have one number, so it does not matter which came first.
    """
    found: dict[Compiled, int] = {}
    groups: dict[tuple[Stage, Direction], dict[Order, list[Compiled]]] = {}
    for rule in rules:
        if rule.order is not None:
            groups.setdefault((rule.stage, rule.direction), {}).setdefault(rule.order, []).append(rule)
    for group in groups.values():
        for number, order in enumerate(sorted(group, reverse=True), 1):
            found.update((rule, number) for rule in group[order])
    return found
