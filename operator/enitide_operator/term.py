"""A leader's term: the one thing that every mutating call and every status write asks first.

A new `Term` is made for each time the Lease is taken. Work that was planned in an ended term is never carried into the
next one: its `Term` stays ended even if this process leads again.
"""

from __future__ import annotations

from collections.abc import Callable

from enitide_api.errors import NotLeading


class Term:
    """`require` right before each send. `may_mutate` is the Lease's own arithmetic, by the clock of now."""

    def __init__(self, may_mutate: Callable[[], bool]) -> None:
        self._may_mutate = may_mutate
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether it is over for good. A term that does not hold for a moment may hold again."""
        return self._ended

    @property
    def holds(self) -> bool:
        """Whether a mutating call may be sent at this moment."""
        return not self._ended and self._may_mutate()

    def require(self) -> None:
        """`NotLeading` unless it holds."""
        if not self.holds:
            raise NotLeading("this process's term has ended: nothing is sent; the next leader reads and goes on")

    def end(self) -> None:
        """For good."""
        self._ended = True


class TermGate:
    """The gateway's and the wire's question, whichever term it is now; between terms nothing passes."""

    def __init__(self) -> None:
        self.current: Term | None = None

    def require(self) -> None:
        """`NotLeading` unless the current term holds."""
        if self.current is None:
            raise NotLeading("this process does not lead: nothing is sent")
        self.current.require()
