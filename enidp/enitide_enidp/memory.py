"""The pool and its journal as one: whatever the pool decided is on file before anyone may answer.

A record that cannot be kept is `JournalFailed`; the journal is then behind the pool, and the next chance writes it anew
as a whole before anything else is promised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from enitide_api.errors import JournalFailed
from enitide_api.logging import get_logger
from enitide_enidp.journal import Journal
from enitide_ipam.pool import Pool
from enitide_ipam.records import Record

_log = get_logger("memory")


class Memory:
    """`now` is a clock that outlives the process (CLOCK_BOOTTIME, seconds). Waiters are told of every change."""

    def __init__(self, pool: Pool, journal: Journal, now: Callable[[], float]) -> None:
        self.pool = pool
        self.now = now
        self._journal = journal
        self._is_behind = False
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Called after each change of the pool; it must not block."""
        self._listeners.append(listener)

    def restore(self) -> None:
        """Replay the journal; say what a crash tore off it."""
        found = self._journal.found
        if found.torn or found.damaged:
            _log.warning("journal was torn by a crash", torn_bytes=found.torn, damaged_lines=found.damaged)
        self.pool.restore(found.records, self.now())

    def keep(self, records: Sequence[Record]) -> None:
        """Write them before answering; then tell who waits. `JournalFailed` if they cannot be kept."""
        try:
            if self._is_behind:
                self._rewrite()
            elif records:
                self._journal.append(records)
                if self._journal.is_long:
                    self._rewrite()
        except JournalFailed:
            self._is_behind = True
            raise
        finally:
            if records:
                self.changed()

    def changed(self) -> None:
        """Tell the listeners that an answer of the pool may differ now."""
        for listener in self._listeners:
            listener()

    def _rewrite(self) -> None:
        self._journal.rewrite(self.pool.records(self.now()))
        self._is_behind = False
