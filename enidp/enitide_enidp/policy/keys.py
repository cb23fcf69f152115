"""Policies as they may be in force now, given the keys to which the operator has announced identities to be cut.

A policy that names a key before that is held. An edited one is in force as it was before the edit, so that what both
versions allow passes all the while, for `WAIT_S` at most. A new one, and then the edited one too, is in force as far as
is certain (`enitide_policy.held`): it selects the pods of this node by all of their own labels, and is closed where it
is not known yet whom its rules mean. Level-triggered, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from enitide_policy.engine.engine import Engine
from enitide_policy.held import held, names_hidden, selected_here
from enitide_policy.labels import IdentityLabels, Relevance
from enitide_policy.model import Policy
from enitide_policy.problems import ObjectRef

WAIT_S = 60.0  # an operator announces within a second or two; a change of leaders takes up to 45

Policies = tuple[Policy, ...]
Own = Sequence[tuple[IdentityLabels, IdentityLabels]]


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a policy is not in force as written. `before`: what it said when all its keys were known last.

    `until`: how long that stands. `close`: what it may select is closed: nobody knows what was in force.
    """

    before: Policies
    until: float
    close: bool


@dataclass(slots=True)
class KeyHold:
    """`put` policies, `announce` keys; the engine is told what differs. `closing`: nobody knows what was in force.

    `clock`: seconds that never jump back; call `look` at `due_at`, and when `own` gives something else: of each pod of
    this node the labels of its identity, and all of them.
    """

    engine: Engine
    clock: Callable[[], float]
    own: Callable[[], Own]
    announced: Relevance | None = None
    closing: bool = True
    _written: dict[ObjectRef, Policies] = field(default_factory=dict)
    _held: dict[ObjectRef, Hold] = field(default_factory=dict)

    def put(self, ref: ObjectRef, policies: Iterable[Policy]) -> None:
        """All that one object says now; nothing if it is gone."""
        before, found = self._written.get(ref, ()), tuple(policies)
        self._written[ref] = found
        self._install(ref, before)
        if not found:
            del self._written[ref]
            self._held.pop(ref, None)

    def announce(self, announced: Relevance | None) -> bool:
        """These keys are known of every identity from now on; whether that is news."""
        if announced == self.announced:
            return False
        self.announced = announced
        self.engine.announce(announced)
        for ref in tuple(self._written):
            self._install(ref)
        return True

    @property
    def held(self) -> tuple[ObjectRef, ...]:
        """Policies that wait for a key, of their own or of a Service that they name."""
        return tuple(dict.fromkeys((*self._held, *self.engine.held)))

    @property
    def due_at(self) -> float | None:
        """When the next edit has waited long enough."""
        return min((hold.until for hold in self._held.values() if hold.before), default=None)

    def look(self) -> None:
        """Bring what waits up to date: with the time, and with the pods of this node."""
        now, own = self.clock(), self.own() if self._held else ()
        for ref, hold in tuple(self._held.items()):
            if hold.before and hold.until <= now:
                self._held[ref] = replace(hold, before=())
            if not hold.close:
                self._install(ref, own=own)

    def _install(self, ref: ObjectRef, before: Policies = (), own: Own | None = None) -> None:
        """`before`: what the object said until now, where that was all known."""
        written = self._written[ref]
        if self.announced is None or not any(names_hidden(each, self.announced) for each in written):
            self._held.pop(ref, None)
            self.engine.policy(ref, dict.fromkeys(written))
            return
        known = () if self.closing else before
        hold = self._held.get(ref) or Hold(known, self.clock() + WAIT_S, self.closing)
        self._held[ref] = hold
        said = held(hold.before, self.announced)
        if not said:
            said = held(written, self.announced, close=hold.close)
            said += selected_here(written, self.announced, self.own() if own is None else own)
        self.engine.policy(ref, dict.fromkeys(said))
