"""The engine: events in, `Changes` out. The work of an event is that of what it selects, never of all there is.

Call the event methods in any order, then `commit`. After a commit everything handed out equals what a new engine would
make of the same facts. An event that changes nothing costs nothing further.

An identity that comes or goes touches, in the rule sets whose selectors hold it, its own entries. A policy that changes
is distilled again for the pods on this node that it selects or selected. Endpoints with equal policy share a rule set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from enitide_policy.engine.cidrs import CidrSet, CidrTable
from enitide_policy.engine.compiled import Handle
from enitide_policy.engine.dynamic import Dynamic
from enitide_policy.engine.named import NamedRanges
from enitide_policy.engine.placement import Placement
from enitide_policy.engine.policies import Gained, Installed, PolicyStore
from enitide_policy.engine.ruleset import RuleSetState
from enitide_policy.engine.selectorcache import SelectorCache, base_of
from enitide_policy.labels import IdentityLabels, Pairs, Relevance
from enitide_policy.mapstate import Changes, Network, RuleSet
from enitide_policy.model import Policy
from enitide_policy.problems import ObjectRef
from enitide_policy.selectors import flat, flat_node
from enitide_policy.world import Backend, Node, Service


@dataclass(slots=True)
class Counts:
    """What the last commit cost, for tests and metrics."""

    endpoints: int = 0
    distilled: int = 0
    peers: int = 0


class Engine:
    """`known_cidrs`: numbers of ranges from an earlier life; `first_id`: the smallest id a new rule set may have."""

    def __init__(self, known_cidrs: Mapping[Network, int] | None = None, first_id: int = 1) -> None:
        self.peers = SelectorCache()
        self.subjects = SelectorCache()
        self.nodes = SelectorCache()
        self.cidrs = CidrTable(known_cidrs)
        self.counts = Counts()
        self.labels: dict[int, IdentityLabels] = {}
        self.store = PolicyStore(self.peers, self.subjects, self.nodes, self.cidrs)
        self._dynamic = Dynamic()
        self.named = NamedRanges(self.labels)
        self._policies: dict[ObjectRef, tuple[Installed, ...]] = {}
        self.placement = Placement(self.subjects, self.nodes, self.store, self.labels)
        self.placement.next_id = first_id
        self._endpoints: dict[str, int] = {}
        self._of_identity: dict[int, dict[str, None]] = {}
        self._told: dict[str, int] = {}
        self._dirty: dict[int, None] = {}
        self._ask: dict[str, None] = {}
        self._peers_done = 0

    # ---- events

    def identity(self, number: int, labels: IdentityLabels | None) -> None:
        """An identity of the cluster is there with these labels, or (None) gone."""
        old = self.labels.get(number)
        if old == labels:
            return
        if old is not None:
            self._forget(number, old)
        if labels is not None:
            self._learn(number, labels)
        self.named.identity(number)
        if number in self._of_identity:
            self._localise(number)

    def policy(self, ref: ObjectRef, policies: Iterable[Policy] = ()) -> None:
        """All that one object says now; nothing if it is gone."""
        self._dynamic.keep(ref, tuple(policies))
        self._reinstall((ref,))

    def node(self, name: str, node: Node | None) -> None:
        """A node is there, or (None) gone. Matters to policies that name nodes by their labels."""
        self._reinstall(self._dynamic.node(name, node))

    def service(self, key: tuple[str, str], service: Service | None) -> None:
        """A Service is there, or (None) gone. Matters to policies that name Services or the API server."""
        self._reinstall(self._dynamic.service(key, service))

    def backends(self, slice_key: tuple[str, str], backends: Iterable[Backend]) -> None:
        """The endpoints of one EndpointSlice now."""
        self._reinstall(self._dynamic.backends(slice_key, tuple(backends)))

    def announce(self, keys: Relevance | None) -> None:
        """Identities are cut to these keys; None: to all. Matters to policies that name Services."""
        self._reinstall(self._dynamic.announce(keys))

    @property
    def held(self) -> tuple[ObjectRef, ...]:
        """Policies that wait for identities to be cut to the keys of a Service."""
        return tuple(self._dynamic.held)

    def endpoint(self, name: str, identity: int | None) -> None:
        """A pod on this node has this identity, or (None) is gone: also from the kernel, before the next commit.

        An identity that is not known yet is waited for, closed.
        """
        old = self._endpoints.get(name)
        if old == identity:
            return
        if old is not None:
            del self._endpoints[name]
            self._of_identity[old].pop(name)
            if not self._of_identity[old]:
                del self._of_identity[old]
                self._localise(old)
        self._told.pop(name, None) if identity is None else None
        if identity is not None:
            self._endpoints[name] = identity
            first = identity not in self._of_identity
            self._of_identity.setdefault(identity, {})[name] = None
            self._ask[name] = None
            if first:
                self._localise(identity)

    def host(self, name: str, number: int, labels: Pairs | None) -> None:
        """A node whose policies are kept here has these labels, or (None) is gone. `number`: no identity of pods.

        It is an endpoint from then on, and nobody's peer by its labels: peers know it by its addresses.
        """
        if number in self.nodes.labels:
            self.nodes.remove(number)
        if labels is not None:
            self.nodes.add(number, flat_node(labels))
        self._dirty[number] = None
        self.endpoint(name, number if labels is not None else None)

    # ---- what comes of them

    def commit(self) -> Changes:
        """Everything that changed since the last commit."""
        self._reinstall(self.named.take_stale())
        placement = self.placement
        early, added = placement.deltas(), self.cidrs.take_added()
        distilled = placement.settle(self._dirty)
        self._dirty.clear()
        created = placement.created()
        deltas = placement.deltas()
        self.store.release()
        endpoints = self._switched()
        gone, lost = self.cidrs.sweep()
        self._lose(lost)
        late = placement.deltas()
        dropped = placement.finish()
        self.counts = Counts(len(endpoints), distilled, self._peers_done)
        self._peers_done = 0
        return Changes(early, added, created, deltas, endpoints, tuple(gone), late, dropped)

    def _switched(self) -> dict[str, int]:
        """Endpoints that must be told another rule set than before."""
        found = {}
        for number in self.placement.switched:
            self._ask.update(self._of_identity.get(number, {}))
        for name in self._ask:
            if name in self._endpoints:
                state = self.placement.placed.get(self._endpoints[name])
                rule_set = state.id if state else 0
                if self._told.get(name) != rule_set:
                    found[name] = self._told[name] = rule_set
        self._ask.clear()
        self.placement.switched.clear()
        return found

    def rule_set_of(self, endpoint: str) -> RuleSet | None:
        """The rule set of an endpoint, to be asked right after a commit; None while it is closed."""
        state = self.placement.placed.get(self._endpoints.get(endpoint, 0))
        return state.lend() if state else None

    def is_selected(self, number: int) -> bool:
        """Whether, since the last commit, any policy selects the endpoints of this number."""
        return self.placement.is_selected(number)

    def endpoints_of(self, identity: int) -> tuple[str, ...]:
        """The endpoints of this node that have an identity."""
        return tuple(self._of_identity.get(identity, ()))

    # ---- identities

    def _learn(self, number: int, labels: IdentityLabels) -> None:
        self.labels[number] = labels
        entered = self.peers.add(number, flat(labels))
        base = base_of(number)
        for state in _sets_of(entered):
            self._touch(state)
            state.put(state.at(base, entered, labels))

    def _forget(self, number: int, labels: IdentityLabels) -> None:
        left = self.peers.matching(self.peers.labels[number])
        base = base_of(number)
        for state in _sets_of(left):
            self._touch(state)
            state.drop(state.at(base, left, labels))
        self.peers.remove(number)
        del self.labels[number]

    def _touch(self, state: RuleSetState) -> None:
        self.placement.moved[state] = None
        self._peers_done += 1

    def _localise(self, number: int) -> None:
        """Keep subjects to identities that pods of this node have."""
        local = number in self._of_identity and number in self.labels
        if number in self.subjects.labels:
            self.subjects.remove(number)
        if local:
            self.subjects.add(number, self.peers.labels[number])
        self._dirty[number] = None

    # ---- policies

    def _install(self, ref: ObjectRef, policies: tuple[Policy, ...]) -> None:
        old = {installed.policy: installed for installed in self._policies.pop(ref, ())}
        kept, touched = [], []
        for policy in policies:
            installed = old.pop(policy, None)
            if installed is None:
                installed, gained = self.store.install(policy)
                touched.append(installed.group)
                self._gain(gained)
            kept.append(installed)
        for installed in old.values():
            self.store.uninstall(installed)
            touched.append(installed.group)
        if kept:
            self._policies[ref] = tuple(kept)
        for group in touched:
            for identity in group.subject.snapshot():
                self._dirty[identity] = None
            self.placement.changed.update(group.sets)

    def _reinstall(self, refs: Iterable[ObjectRef]) -> None:
        for ref in refs:
            self._install(ref, self.named.expanded(ref, self._dynamic.resolved(ref)))

    def _gain(self, gained: Gained) -> None:
        for base, handles in _by_base(gained).items():
            for state in _sets_of(handles):
                self._touch(state)
                state.put(state.at(base, handles, None))

    def _lose(self, lost: Gained) -> None:
        for base, handles in _by_base(lost).items():
            for state in _sets_of(handles):
                self._touch(state)
                state.drop(state.at(base, handles, None))


def _sets_of(handles: Iterable[Handle]) -> dict[RuleSetState, None]:
    found: dict[RuleSetState, None] = {}
    for handle in handles:
        found.update(handle.rule_sets)
    return found


def _by_base(pairs: Gained) -> dict[int, list[CidrSet]]:
    found: dict[int, list[CidrSet]] = {}
    for handle, base in pairs:
        found.setdefault(base, []).append(handle)
    return found
