"""Rules as they are distilled: packed bases of peers and packed parts of ports, shared by all that say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum

from enitide_policy.engine.cidrs import CidrSet
from enitide_policy.engine.ports import named_parts, parts
from enitide_policy.engine.selectorcache import Selection, identity_of
from enitide_policy.labels import IdentityLabels, Ports
from enitide_policy.mapstate import DIRECTION_SHIFT, Action, Direction
from enitide_policy.model import L4, Tier

Handle = Selection | CidrSet
# Keys: one L4 part with many bases; a key is part + base.
Block = tuple[int, Iterable[int]]
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

    __slots__ = ("action", "allows_all", "direction", "fixed", "handles", "names", "numeric", "order", "stage", "uses")

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
        allows = self.stage is Stage.MIDDLE and self.action is Action.ALLOW
        self.allows_all = allows and 0 in self.fixed and side in self.numeric

    def blocks(self, own: Ports, identities: dict[int, IdentityLabels]) -> list[Block]:
        """All keys. `own`: the named ports of the pod whose policy it is."""
        bunches: list[Iterable[int]] = [handle.bases for handle in self.handles]
        if self.fixed:
            bunches.append(self.fixed)
        found = [(part, bases) for part in self._parts(own) for bases in bunches]
        if self.names and self.direction is Direction.EGRESS:
            found += self._named(identities)
        return found

    def blocks_at(self, base: int, own: Ports, labels: IdentityLabels | None) -> Iterator[Block]:
        """The keys of one peer that it matches. `labels`: of that peer, if it is an identity."""
        bases = (base,)
        for part in self._parts(own):
            yield part, bases
        if labels and self.direction is Direction.EGRESS:
            for part in self._egress(labels):
                yield part, bases

    def _parts(self, own: Ports) -> tuple[int, ...]:
        if not self.names or self.direction is Direction.EGRESS:
            return self.numeric
        return (*self.numeric, *(part for one in self.names for part in named_parts(one, own)))

    def _egress(self, labels: IdentityLabels) -> Iterator[int]:
        side = Direction.EGRESS << DIRECTION_SHIFT
        return (side | part for one in self.names for part in named_parts(one, labels.ports))

    def _named(self, identities: dict[int, IdentityLabels]) -> Iterator[Block]:
        for handle in self.handles:
            if isinstance(handle, Selection):
                for base in handle.bases:
                    for part in self._egress(identities[identity_of(base)]):
                        yield part, (base,)
