"""What does not work for one node now: per kind of action, why, since when, and when it may be tried again.

Pure bookkeeping with times passed in. Trouble with one ENI or one subnet holds back only actions on that one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from random import Random

from enitide_api.errors import EC2Ambiguous, EC2IndexOccupied, EC2Throttled, EC2Unavailable, EnitideError, Retry
from enitide_api.reasons import Reason
from enitide_ipam.model import (
    Action,
    CreateInterface,
    FinishOrUndoPending,
    Reread,
)
from enitide_kube.backoff import Backoff

Key = tuple[str, str]

# A minute after an outage of five minutes all must be settled, under whatever name it came: the caps follow from that.
# What lasts longer may take up to five minutes to be noticed; of throttling the budget takes care.
_LATER = Backoff(base_s=1.0, cap_s=40.0, lasting_cap_s=300.0)
_OUTAGE = Backoff(base_s=1.0, cap_s=20.0, lasting_cap_s=300.0)
_THROTTLED = Backoff(base_s=1.0, cap_s=20.0)
_NEVER = Backoff(base_s=30.0, cap_s=600.0)  # it will not help, but the world changes under us
FORGET_S = 300.0
LINGER_S = 10.0  # so that the reason does not blink while a retry is under way


def key_of(action: Action) -> Key:
    """What an action's failure says something about: the kind of action on one ENI, or in one subnet."""
    if isinstance(action, CreateInterface):
        return ("CreateInterface", action.subnet_id)
    if isinstance(action, FinishOrUndoPending):
        return ("FinishOrUndoPending", action.intent.token)
    if isinstance(action, Reread):
        return ("Reread", "")
    return (type(action).__name__, action.eni_id)


def backoff_of(error: EnitideError) -> Backoff:
    """How long to leave alone what failed so, by the class of the error."""
    if isinstance(error, EC2Throttled):
        return _THROTTLED
    if isinstance(error, EC2Ambiguous | EC2Unavailable):
        return _OUTAGE
    # that no index is free is known only after all were tried: each further try makes an ENI in vain
    return _NEVER if error.retry is Retry.NEVER or isinstance(error, EC2IndexOccupied) else _LATER


@dataclass(frozen=True, slots=True)
class Trouble:
    """`until`: not before then again (Unix seconds); None while a retry is under way inside the gateway.

    `since`: when the first of the failures in a row was met (Unix seconds), None before any.
    """

    reason: Reason
    message: str
    failures: int
    until: float | None
    since: float | None = None


class Troubles:
    """One node's troubles by key."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Trouble] = {}

    def failed(self, key: Key, error: EnitideError, now: float, rng: Random) -> float:
        """It failed; returns when it may be tried again (Unix seconds)."""
        before = self._by_key.get(key)
        failures = (before.failures if before else 0) + 1
        since = now if before is None or before.since is None else before.since
        until = now + backoff_of(error).delay_s(failures, rng, now - since)
        self._by_key[key] = Trouble(error.reason, str(error), failures, until, since)
        return until

    def waiting(self, key: Key, error: EnitideError) -> None:
        """The gateway waits this out; nothing is to be held back by it."""
        before = self._by_key.get(key)
        failures, since = (before.failures, before.since) if before else (0, None)
        self._by_key[key] = Trouble(error.reason, str(error), failures, None, since)

    def eased(self, key: Key, now: float) -> None:
        """The wait inside the gateway is over. Failures are remembered until the whole has worked."""
        trouble = self._by_key.get(key)
        if trouble is not None and trouble.until is None:
            if trouble.failures:
                self._by_key[key] = replace(trouble, until=now)
            else:
                del self._by_key[key]

    def worked(self, key: Key) -> None:
        """It works (again)."""
        self._by_key.pop(key, None)

    def holds(self, key: Key, now: float) -> bool:
        """Whether it is too early to try again."""
        trouble = self._by_key.get(key)
        return trouble is not None and trouble.until is not None and now < trouble.until

    def of(self, key: Key) -> Trouble | None:
        """What is wrong with this."""
        return self._by_key.get(key)

    def next_at(self, now: float) -> float | None:
        """When the next hold ends."""
        return min((t.until for t in self._by_key.values() if t.until is not None and t.until > now), default=None)

    def prune(self, wanted: Collection[Key], now: float) -> None:
        """Drop what nothing has wanted for a while: its next failure is its first."""
        for key, trouble in tuple(self._by_key.items()):
            if trouble.until is not None and trouble.until + FORGET_S <= now and key not in wanted:
                del self._by_key[key]

    def worst(self, now: float) -> Trouble | None:
        """The one to tell of: the most failures, of those met now or a moment ago; None without any."""
        present = [t for t in self._by_key.values() if t.until is None or now < t.until + LINGER_S]
        return max(present, key=lambda each: (each.failures, each.reason), default=None)

    def clear(self) -> None:
        """A new instance, or a new term."""
        self._by_key.clear()
