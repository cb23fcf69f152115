"""Rules as they are distilled: packed bases of peers and packed parts of ports, shared by all that say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum

from enitide_policy.engine.cidrs import CidrSet
from enitide_policy.engine.ports import named_parts, parts
from enitide_policy.engine.selectorcache import Selection
from enitide_policy.labels import IdentityLabels, Ports
from enitide_policy.mapstate import DIRECTION_SHIFT, Action, Direction
from enitide_policy.model import L4, Tier

Handle = Selection | CidrSet
Order = tuple[int, str, str, str, int, int]


class Stage(IntEnum):
    """Where a rule decides. The middle has no order: deny is stronger wherever it stands."""

    ADMIN = 0
    MIDDLE = 1
    BASELINE = 2


STAGES = {
    Tier.ADMIN: Stage.ADMIN,
    Tier.NETWORK_POLICY: Stage.MIDDLE,
    Tier.CILIUM: Stage.MIDDLE,
    Tier.BASELINE: Stage.BASELINE,
}


class Compiled:
    """One rule. `handles` are its peers that change, `fixed` the packed bases of those that do not.

    `order` tells rules of the admin and baseline stage apart: the smaller is the stronger. Rules of the middle have
    none, so equal ones are one object (`PolicyStore` sees to that).
    """

    __slots__ = ("action", "direction", "fixed", "handles", "names", "numeric", "order", "stage", "uses")

    def __init__(
        self,
        place: tuple[Direction, Stage, Action, Order | None],
        handles: Iterable[Handle],
        fixed: Iterable[int],
        l4: Iterable[L4],
    ) -> None:
        self.direction, self.stage, self.action, self.order = place
        self.handles = tuple(handles)
        self.fixed = tuple(fixed)
        l4 = tuple(l4)
        side = self.direction << DIRECTION_SHIFT
        self.numeric = tuple(sorted({side | part for one in l4 if not one.name for part in parts(one)}))
        self.names = tuple(one for one in l4 if one.name)
        self.uses = 0

    def keys(self, own: Ports, identities: dict[int, IdentityLabels]) -> Iterator[map[int] | list[int]]:
        """All keys, in bunches. `own`: the named ports of the pod whose policy it is."""
        bunches: list[Iterable[int]] = [self.fixed] if self.fixed else []
        bunches += [handle.bases for handle in self.handles]
        for part in self._parts(own):
            for bases in bunches:
                yield map(part.__add__, bases)
        if self.names and self.direction is Direction.EGRESS:
            yield from self._named(identities)

    def keys_at(self, base: int, own: Ports, labels: IdentityLabels | None) -> list[int]:
        """The keys of one peer that it matches. `labels`: of that peer, if it is an identity."""
        found = [part + base for part in self._parts(own)]
        if labels and self.direction is Direction.EGRESS:
            found += [base + part for part in self._egress(labels)]
        return found

    def _parts(self, own: Ports) -> tuple[int, ...]:
        if not self.names or self.direction is Direction.EGRESS:
            return self.numeric
        return (*self.numeric, *(part for one in self.names for part in named_parts(one, own)))

    def _egress(self, labels: IdentityLabels) -> Iterator[int]:
        side = Direction.EGRESS << DIRECTION_SHIFT
        return (side | part for one in self.names for part in named_parts(one, labels.ports))

    def _named(self, identities: dict[int, IdentityLabels]) -> Iterator[list[int]]:
        for handle in self.handles:
            if isinstance(handle, Selection):
                for identity, base in zip(handle.snapshot(), sorted(handle.bases), strict=True):
                    yield [base + part for part in self._egress(identities[identity])]
