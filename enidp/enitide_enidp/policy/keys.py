"""Policies as they may be in force now, given the keys to which the operator has announced identities to be cut.

A policy that names a key before that waits. An edited one is in force as it was before the edit, so that what both
versions allow passes all the while. A new one is held (`enitide_policy.held`): closed where it is not known yet whom
it means, and not in force for pods of which it is not known yet whether it selects them. Neither waits longer than
`WAIT_S`: then what is written is in force, closed wherever it is not known. Level-triggered, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from enitide_policy.engine.engine import Engine
from enitide_policy.held import held, names_hidden
from enitide_policy.labels import Relevance
from enitide_policy.model import Policy
from enitide_policy.problems import ObjectRef

WAIT_S = 60.0  # an operator announces within a second or two; a change of leaders takes up to 45

Policies = tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a policy is not in force as written. `before`: what it said when all its keys were known last.

    `until`: when the wait ends. `close`: what it may select is closed: nobody knows what was in force.
    """

    before: Policies
    until: float
    close: bool


@dataclass(slots=True)
class KeyHold:
    """`put` policies, `announce` keys; the engine is told what differs. `closing`: nobody knows what was in force.

    `clock`: seconds that never jump back; call `expire` at `due_at`.
    """

    engine: Engine
    clock: Callable[[], float]
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
        """When the next of them has waited long enough."""
        return min((hold.until for hold in self._held.values() if not hold.close), default=None)

    def expire(self) -> None:
        """Close what has waited too long."""
        now = self.clock()
        for ref, hold in tuple(self._held.items()):
            if not hold.close and hold.until <= now:
                self._held[ref] = replace(hold, before=(), close=True)
                self._install(ref)

    def _install(self, ref: ObjectRef, before: Policies = ()) -> None:
        """`before`: what the object said until now, where that was all known."""
        written = self._written[ref]
        if self.announced is None or not any(names_hidden(each, self.announced) for each in written):
            self._held.pop(ref, None)
            self.engine.policy(ref, dict.fromkeys(written))
            return
        known = () if self.closing else before
        hold = self._held.get(ref) or Hold(known, self.clock() + WAIT_S, self.closing)
        self._held[ref] = hold
        said = held(hold.before, self.announced) or held(written, self.announced, close=hold.close)
        self.engine.policy(ref, dict.fromkeys(said))
