"""Installed policies: compiled, and grouped by whom they select, so that equal subjects are looked at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from enitide_policy.engine.cidrs import CidrSet, CidrTable
from enitide_policy.engine.compiled import STAGES, Compiled, Handle, Order, Stage
from enitide_policy.engine.ruleset import Content, RuleSetState
from enitide_policy.engine.selectorcache import Selection, SelectorCache, base_of
from enitide_policy.mapstate import Direction
from enitide_policy.model import L4, AnyPeer, CidrPeer, Peer, PodsPeer, Policy, ReservedPeer, Rule
from enitide_policy.selectors import PORT, Operator, Requirement, selector

Gained = list[tuple[CidrSet, int]]


@dataclass(slots=True, eq=False)
class Group:
    """All policies of one subject selector. `rules` count how many policies say the same."""

    subject: Selection
    policies: dict[Installed, None] = field(default_factory=dict)
    rules: Counter[Compiled] = field(default_factory=Counter)
    isolating: Counter[Direction] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    sets: dict[RuleSetState, None] = field(default_factory=dict)

    def count(self, installed: Installed, by: int) -> None:
        """Add (1) or take away (-1) what one policy says."""
        for counter, items in (
            (self.rules, installed.rules),
            (self.isolating, installed.policy.isolates),
            (self.names, installed.names),
        ):
            for item in items:
                counter[item] += by  # type: ignore[index]
                if not counter[item]:  # type: ignore[index]
                    del counter[item]


@dataclass(slots=True, eq=False)
class Installed:
    """One policy with its resolved peers, and what it holds of the caches."""

    policy: Policy
    group: Group
    rules: tuple[Compiled, ...]
    names: tuple[str, ...]
    selections: tuple[Selection, ...]
    ranges: tuple[CidrSet, ...]


class PolicyStore:
    """Compiles policies and keeps them in groups. It changes no rule set: it says which groups changed."""

    def __init__(self, peers: SelectorCache, subjects: SelectorCache, nodes: SelectorCache, cidrs: CidrTable) -> None:
        self.groups: dict[Selection, Group] = {}
        self._peers, self._subjects, self._nodes, self._cidrs = peers, subjects, nodes, cidrs
        self._interned: dict[object, Compiled] = {}
        self._leaving: list[Installed] = []

    def install(self, policy: Policy) -> tuple[Installed, Gained]:
        """The policy in its group, and what ranges of others gained by the ranges that it names."""
        key = (policy.ref, policy.part)
        subject = self._subjects_of(policy).acquire(policy.subject, key)
        group = self.groups.get(subject) or self.groups.setdefault(subject, Group(subject))
        installed, gained = self._compile(policy, group)
        group.policies[installed] = None
        group.count(installed, 1)
        return installed, gained

    def uninstall(self, installed: Installed) -> None:
        """Take it out of its group. What it holds of the caches is kept until `release`: rule sets still use it."""
        group = installed.group
        del group.policies[installed]
        group.count(installed, -1)
        if not group.policies:
            del self.groups[group.subject]
        self._leaving.append(installed)

    def release(self) -> None:
        """Give up what uninstalled policies held: their rule sets say something else by now."""
        for installed in self._leaving:
            key = (installed.policy.ref, installed.policy.part)
            for rule in installed.rules:
                rule.uses -= 1
                if not rule.uses:
                    del self._interned[_said(rule)]
            for selection in installed.selections:
                self._peers.release(selection, key)
            for found in installed.ranges:
                self._cidrs.release(found, key)
            self._subjects_of(installed.policy).release(installed.group.subject, key)
        self._leaving.clear()

    def _subjects_of(self, policy: Policy) -> SelectorCache:
        return self._nodes if policy.of_nodes else self._subjects

    def _compile(self, policy: Policy, group: Group) -> tuple[Installed, Gained]:
        key = (policy.ref, policy.part)
        handles: list[Handle] = []
        gained: Gained = []
        rules: list[Compiled] = []

        def handle(peer: PodsPeer | CidrPeer) -> Handle:
            if isinstance(peer, PodsPeer):
                handles.append(self._peers.acquire(peer.selector, key))
            else:
                found, more = self._cidrs.acquire(peer, key)
                handles.append(found)
                gained.extend(more)
            return handles[-1]

        for rule in policy.rules:
            for peers, l4 in _halves(rule):
                if peers and l4:
                    moving = [handle(peer) for peer in peers if isinstance(peer, PodsPeer | CidrPeer)]
                    rules.append(self._intern(policy, rule, moving, peers, l4))
        names = {
            one.name for rule in policy.rules if rule.direction is Direction.INGRESS for one in rule.l4 if one.name
        }
        selections = tuple(one for one in handles if isinstance(one, Selection))
        ranges = tuple(one for one in handles if isinstance(one, CidrSet))
        return Installed(policy, group, tuple(rules), tuple(names), selections, ranges), gained

    def _intern(
        self, policy: Policy, rule: Rule, moving: list[Handle], peers: tuple[Peer, ...], l4: tuple[L4, ...]
    ) -> Compiled:
        stage = STAGES[policy.tier]
        order: Order | None = None
        if stage is not Stage.MIDDLE:
            ref = policy.ref
            order = (policy.priority, ref.namespace, ref.name, ref.kind, policy.part, rule.index)
        fixed = {base for peer in peers for base in _fixed(peer)}
        made = Compiled((rule.direction, stage, rule.action, order), dict.fromkeys(moving), sorted(fixed), l4)
        found = self._interned.setdefault(_said(made), made)
        found.uses += 1
        return found


def _fixed(peer: Peer) -> tuple[int, ...]:
    if isinstance(peer, AnyPeer):
        return (0,)
    return (base_of(peer.identity),) if isinstance(peer, ReservedPeer) else ()


def _said(rule: Compiled) -> object:
    """What makes two rules the same."""
    names = frozenset(rule.names)
    place = (rule.direction, rule.stage, rule.action, rule.order)
    return place, frozenset(rule.handles), rule.fixed, rule.numeric, names


def _halves(rule: Rule) -> Iterator[tuple[tuple[Peer, ...], tuple[L4, ...]]]:
    """A named port of an egress rule is the receiving pod's: its peers are the pods that have it, and no ranges."""
    named = tuple(one for one in rule.l4 if one.name)
    if rule.direction is Direction.INGRESS or not named:
        yield rule.peers, rule.l4
        return
    yield rule.peers, tuple(one for one in rule.l4 if not one.name)
    if any(isinstance(peer, AnyPeer) for peer in rule.peers):
        wanted = (Requirement(PORT + one.name, Operator.EXISTS) for one in named)
        yield tuple(PodsPeer(selector([requirement])) for requirement in wanted), named
    else:
        yield tuple(peer for peer in rule.peers if isinstance(peer, PodsPeer)), named


def content_of(groups: frozenset[Group]) -> Content:
    """The distinct rules of some groups together, and which directions they isolate."""
    rules = dict.fromkeys(rule for group in groups for rule in group.rules)
    sides = tuple(any(side in group.isolating for group in groups) for side in Direction)
    return Content(tuple(rules), (sides[0], sides[1]))
