"""Which identity numbers of this cluster are taken. A number that came free is the last one to be given again."""

from __future__ import annotations

from enitide_policy.numbers import CLUSTER_SHIFT, FIRST_NUMBER, NUMBER_MASK, identity_number


class Numbers:
    """One byte for each of the four million numbers; the next one is found by C code, from where the last one was."""

    def __init__(self, cluster: int) -> None:
        self._cluster = cluster
        self._taken = bytearray(NUMBER_MASK + 1)
        self._taken[:FIRST_NUMBER] = b"\1" * FIRST_NUMBER
        self._next = FIRST_NUMBER
        self.in_use = 0

    def is_ours(self, identity: int) -> bool:
        """Whether it lies in this cluster's range."""
        return identity >> CLUSTER_SHIFT == self._cluster and identity & NUMBER_MASK >= FIRST_NUMBER

    def hold(self, identity: int) -> None:
        """It is taken. The search goes on behind the highest one, so a restart does not begin with what came free."""
        number = identity & NUMBER_MASK
        if not self._taken[number]:
            self._taken[number] = 1
            self.in_use += 1
            self._next = max(self._next, number + 1)

    def free(self, identity: int) -> None:
        """It may be given again, after all others."""
        number = identity & NUMBER_MASK
        if self._taken[number]:
            self._taken[number] = 0
            self.in_use -= 1

    def take(self) -> int | None:
        """A free one, now taken; None if there is none."""
        found = self._taken.find(b"\0", self._next)
        if found < 0:
            found = self._taken.find(b"\0", FIRST_NUMBER)
        if found < 0:
            return None
        self._taken[found] = 1
        self.in_use += 1
        self._next = found + 1
        return identity_number(self._cluster, found)
