"""What is to be done about one identity. Pure.

An identity lives in two phases. In force: pods have it, or had it less than `UNUSED_S` ago. Retired: nothing uses it,
and its number stays with its labels until every agent has long forgotten it; then the object is deleted, and only
then may the number go to other labels. Labels that come back during that time get their old identity back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from enitide_api.resources import SecurityIdentity
from enitide_policy.identities import spec_of
from enitide_policy.labels import IdentityLabels

UNUSED_S = 300.0  # in force without a pod, so that a restarted Deployment finds its identity again
QUARANTINE_S = 900.0  # retired before its number is free: longer than any watch lasts without being renewed


class Act(Enum):
    """The next write, if any."""

    NOTHING = "nothing"
    CREATE = "create"
    REVIVE = "revive"
    RETIRE = "retire"
    DELETE = "delete"
    REVERT = "revert"  # somebody else's object under this name: delete it, then decide anew


@dataclass(frozen=True, slots=True)
class Step:
    """`after_s`: when to look again although nobody says so (None: never)."""

    act: Act
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """One identity as seen now. `number` 0: none given yet. `stored`: what the API server holds.

    `unused_s`, `retired_s`: for how long; None while it is used, or in force. `collecting`: views are fresh enough to
    take something away.
    """

    labels: IdentityLabels | None
    number: int
    used: bool
    stored: SecurityIdentity | None
    unused_s: float | None
    retired_s: float | None
    collecting: bool


def decide(view: View) -> Step:
    """The next step of one identity."""
    if view.stored is None:
        return Step(Act.CREATE if view.used else Act.NOTHING)
    if view.labels is None or view.stored.spec != spec_of(view.labels, view.number):
        return Step(Act.REVERT)
    if view.used:
        return Step(Act.NOTHING if view.retired_s is None else Act.REVIVE)
    if view.retired_s is None:
        return _later(Act.RETIRE, view.unused_s, UNUSED_S, collecting=view.collecting)
    return _later(Act.DELETE, view.retired_s, QUARANTINE_S, collecting=view.collecting)


def _later(act: Act, lasted_s: float | None, at_least_s: float, *, collecting: bool) -> Step:
    left_s = at_least_s - (lasted_s or 0.0)
    if left_s > 0:
        return Step(Act.NOTHING, left_s)
    return Step(act) if collecting else Step(Act.NOTHING, UNUSED_S)
