"""Policies as they may be in force now, given the keys to which the operator has announced identities to be cut.

A policy that names a key before that is held (`enitide_policy.held`). Where it is not known yet which pods it selects,
what it said before stays in force beside it, so that an edit opens nothing. Level-triggered, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from enitide_policy.engine.engine import Engine
from enitide_policy.held import held, is_subject_held
from enitide_policy.labels import Relevance
from enitide_policy.model import Policy
from enitide_policy.problems import ObjectRef

Policies = tuple[Policy, ...]


@dataclass(slots=True)
class KeyHold:
    """`put` policies, `announce` keys; the engine is told what differs. `closing`: nobody knows what was in force."""

    engine: Engine
    announced: Relevance | None = None
    closing: bool = True
    _written: dict[ObjectRef, Policies] = field(default_factory=dict)
    _before: dict[ObjectRef, Policies] = field(default_factory=dict)  # what the last wholly known version said
    _held: dict[ObjectRef, bool] = field(default_factory=dict)  # with what `closing` was then

    def put(self, ref: ObjectRef, policies: Iterable[Policy]) -> None:
        """All that one object says now; nothing if it is gone."""
        found = tuple(policies)
        if ref not in self._held:
            self._before[ref] = self._written.get(ref, ())
        self._written[ref] = found
        self._install(ref)
        if not found:
            for kept in (self._written, self._before, self._held):
                kept.pop(ref, None)

    def announce(self, announced: Relevance | None) -> bool:
        """These keys are known of every identity from now on; whether that is news."""
        if announced == self.announced:
            return False
        self.announced = announced
        for ref in tuple(self._written):
            self._install(ref)
        return True

    @property
    def held(self) -> tuple[ObjectRef, ...]:
        """Policies that wait for a key."""
        return tuple(self._held)

    def _install(self, ref: ObjectRef) -> None:
        written = self._written[ref]
        if self.announced is None:
            said, is_held = written, False
        else:
            close = self._held.get(ref, self.closing)
            said = held(written, self.announced, close=close)
            is_subject = any(is_subject_held(each, self.announced) for each in written)
            is_held = is_subject or said != written
            if is_subject and not close:
                said += held(self._before.get(ref, ()), self.announced)
            if is_held:
                self._held[ref] = close
        if not is_held:
            self._held.pop(ref, None)
            self._before.pop(ref, None)
        self.engine.policy(ref, dict.fromkeys(said))
