"""What the agent waits for at this moment, each with its reason code: shown by the socket, metrics and Events.

One entry per subject (`metadata`, `node`, `api`, an ENI's id). Setting the same again changes nothing; what is over is
cleared. It decides nothing and never forgets a wait by time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enitide_api.errors import EnitideError
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason

_log = get_logger("waits")


@dataclass(frozen=True, slots=True)
class Wait:
    """`since` in the boot clock's seconds."""

    subject: str
    reason: Reason
    message: str
    since: float


class Waits:
    """`listener` hears of each new reason once."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._waits: dict[str, Wait] = {}
        self.listener: Callable[[Wait], None] = lambda _wait: None

    def put(self, subject: str, reason: Reason, message: str) -> None:
        """The subject waits for this reason; `since` stays while the reason does."""
        known = self._waits.get(subject)
        if known is not None and known.reason is reason:
            self._waits[subject] = Wait(subject, reason, message, known.since)
            return
        wait = Wait(subject, reason, message, self._now())
        self._waits[subject] = wait
        _log.warning("waiting", subject=subject, reason=reason, message=message)
        self.listener(wait)

    def put_error(self, subject: str, error: EnitideError) -> None:
        """The same, for an error."""
        self.put(subject, error.reason, f"{error}. {error.help}" if error.help else str(error))

    def clear(self, subject: str) -> None:
        """It waits no longer."""
        if self._waits.pop(subject, None) is not None:
            _log.info("no longer waiting", subject=subject)

    def all(self) -> tuple[Wait, ...]:
        """By subject."""
        return tuple(self._waits[subject] for subject in sorted(self._waits))

    def first(self) -> Wait | None:
        """The oldest, which the others usually follow from."""
        return min(self._waits.values(), key=lambda wait: wait.since, default=None)
