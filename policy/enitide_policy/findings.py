"""What is wrong with every policy of a cluster: in itself, and where two clash. Pure, kept by difference."""

from __future__ import annotations

from collections.abc import Iterable

from enitide_policy.parse import Rank, clash
from enitide_policy.problems import ObjectRef, Problem


class Findings:
    """`put` each policy; `of` it says all that is wrong with it now."""

    def __init__(self) -> None:
        self._own: dict[ObjectRef, tuple[Problem, ...]] = {}
        self._ranks: dict[ObjectRef, frozenset[Rank]] = {}
        self._at: dict[Rank, dict[ObjectRef, None]] = {}

    def put(
        self, ref: ObjectRef, own: Iterable[Problem] | None, ranks: frozenset[Rank] = frozenset()
    ) -> tuple[ObjectRef, ...]:
        """A policy as it is now, or (None) gone. The policies about which something else may be said now."""
        before = self._ranks.pop(ref, frozenset())
        self._own.pop(ref, None)
        if own is not None:
            self._own[ref] = tuple(own)
            self._ranks[ref] = ranks
        after = self._ranks.get(ref, frozenset())
        touched = {ref: None} if own is not None else {}
        for rank in before ^ after:
            holders = self._at.setdefault(rank, {})
            if rank in before:
                del holders[ref]
            else:
                holders[ref] = None
            touched.update(holders)
            if not holders:
                del self._at[rank]
        return tuple(touched)

    def of(self, ref: ObjectRef) -> tuple[Problem, ...]:
        """All that is wrong with one policy."""
        ranks = ((rank, self._at.get(rank, {})) for rank in sorted(self._ranks.get(ref, ())))
        clashes = (clash(ref, rank, refs) for rank, refs in ranks if len(refs) > 1)
        return (*self._own.get(ref, ()), *clashes)
