"""The rules that keep an address safe, each taken out once: what a random interleaving must find.

Each mutant changes real code in one place, as a careless edit would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from unittest import mock

import msgspec

from enitide_api.resources import Demand, ENINodeStatus, PoolLevels
from enitide_enidp.memory import Memory
from enitide_ipam import tide
from enitide_ipam.pool import Pool
from enitide_ipam.records import Record
from enitide_ipam.stock import Stock
from enitide_lab.simulate.operator import Leash
from enitide_operator.publisher import Publisher

LATE_S = 0.5


@contextmanager
def no_compare_and_swap() -> Iterator[None]:
    """The operator's status writes carry no resourceVersion."""
    original = Leash.__getattr__

    def getattr_(self: Leash, name: str) -> Any:
        method = original(self, name)
        if name != "patch":
            return method

        async def patch(kind: Any, key: str, body: Any, **options: Any) -> bytes:
            if kind.kind == "ENINode" and "metadata" in body:
                body = {part: value for part, value in body.items() if part != "metadata"}
            return bytes(await method(kind, key, body, **options))

        return patch

    with mock.patch.object(Leash, "__getattr__", getattr_):
        yield


@contextmanager
def yielded_is_handed_out() -> Iterator[None]:
    """The agent goes on handing out what it has yielded."""

    def close(self: Stock, cidrs: Collection[str]) -> None:
        self._closed = set(cidrs)  # known, and yet free

    with mock.patch.object(Stock, "close", close):
        yield


@contextmanager
def answered_before_the_journal() -> Iterator[None]:
    """What the pool decided is on file only a while after the answer."""
    original = Memory.keep

    def keep(self: Memory, records: Sequence[Record]) -> None:
        def write() -> None:
            with suppress(asyncio.CancelledError):  # of a process that has died meanwhile
                self._journal.append(records)

        asyncio.get_running_loop().call_later(LATE_S, write)
        original(self, ())
        if records:
            self.changed()

    with mock.patch.object(Memory, "keep", keep):
        yield


@contextmanager
def no_limit() -> Iterator[None]:
    """The plan does not know of maxAllocate."""
    original = tide.levels

    def levels(demand: Demand, bound: int, pool: PoolLevels, *, prefix_delegation: bool = False) -> tide.Levels:
        unlimited = msgspec.structs.replace(pool, max_allocate=None)
        return original(demand, bound, unlimited, prefix_delegation=prefix_delegation)

    with mock.patch.object(tide, "levels", levels):
        yield


@contextmanager
def yielded_believed_too_early() -> Iterator[None]:
    """The agent uses again what the operator asks for no more, though spec.yielded may still list it."""
    original = Pool.apply_status

    def apply_status(
        self: Pool, status: ENINodeStatus, version: str, now: float, *, listed: Collection[str] | None = None
    ) -> tuple[Record, ...]:
        return original(self, status, version, now, listed=None if listed is None else ())

    with mock.patch.object(Pool, "apply_status", apply_status):
        yield


@contextmanager
def unassign_by_the_watch() -> Iterator[None]:
    """The operator unassigns what its watch shows in status.releasing, and asks nobody whether it still does."""

    async def sure(_self: Publisher) -> bool:
        return True

    with mock.patch.object(Publisher, "sure", sure):
        yield


MUTANTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    each.__name__: each
    for each in (
        no_compare_and_swap,
        yielded_is_handed_out,
        answered_before_the_journal,
        no_limit,
        yielded_believed_too_early,
        unassign_by_the_watch,
    )
}
