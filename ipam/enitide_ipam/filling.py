"""Where wanted addresses go: the one working sheet of a plan, from "so many" to requests per ENI and new ENIs.

Fewest calls win: the ENI that can take most is asked first, and each new ENI brings all it may. A prefix anywhere, also
on a new ENI in a sibling subnet, comes before single addresses. Where the /28 map of a subnet is known, single
addresses are asked for by name, in blocks that are broken already, since EC2's own choice may break a whole one for
each. Mutable, local to one call of `plan_node`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from enitide_api.reasons import Reason
from enitide_api.resources import ENIClassSpec, InstanceFacts
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.capacity import NodeCapacity, Place, primary_serves
from enitide_ipam.model import SubnetView
from enitide_ipam.subnets import SubnetChoice, choose, new_interface_room, request_room


@dataclass(frozen=True, slots=True)
class Request:
    """`count` single addresses or /28s for an existing ENI; `names`: exactly these single ones."""

    eni_id: str
    subnet_id: str
    count: int
    prefixes: bool
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewInterface:
    """An ENI to be made with `count` secondary addresses or /28s; `own`: its own address serves a pod.

    `names`: its own address and all secondary ones by name, or none.
    """

    place: Place
    subnet: SubnetView
    count: int
    prefixes: bool
    own: bool
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Why something could not be placed."""

    reason: Reason
    message: str


class Filling:
    """Takes room from ENIs, places and subnets as requests are placed."""

    def __init__(
        self,
        *,
        instance: InstanceFacts,
        class_: ENIClassSpec,
        capacity: NodeCapacity,
        eni_subnets: Mapping[str, str],
        subnets: Iterable[SubnetView],
        per_eni: int,
        budget: int | None,
        name_beside_prefixes: bool = True,
    ) -> None:
        """`budget`: how many addresses the node may still take (maxAllocate), None without bound.

        `name_beside_prefixes`: EC2 lets the own address of an ENI be named that is made with /28s.
        """
        self._instance = instance
        self._class = class_
        self._free = dict(capacity.free_by_eni)
        self._places = list(capacity.places)
        self._eni_subnets = eni_subnets
        self._subnets = {subnet.id: subnet for subnet in subnets}
        self._per_eni = per_eni
        self._budget = budget
        self._name_beside_prefixes = name_beside_prefixes
        self._kept = {each.id: each.blocks.kept_whole for each in self._subnets.values() if each.blocks is not None}
        self.gained = 0
        self.requests: list[Request] = []
        self.new: list[NewInterface] = []
        self.refused: list[Refused] = []

    def place(self, count: int, *, prefixes: bool, may_create: Refused | None = None) -> int:
        """Place `count` singles or /28s; what could not be placed. `may_create`: why no ENI may be made, if so."""
        left = self._on_existing(count, prefixes=prefixes)
        while left > 0 and self._places:
            if may_create is not None:
                self.refused.append(may_create)
                break
            placed = self._on_new(left, prefixes=prefixes)
            if not placed:
                break
            left -= placed
        return max(0, left)

    def _on_existing(self, count: int, *, prefixes: bool) -> int:
        for eni_id in sorted(self._free, key=lambda each: self._turn(each, count, prefixes=prefixes)):
            room = self._eni_room(eni_id, prefixes=prefixes)
            given = min(count, room)
            if given > 0:
                subnet_id = self._eni_subnets[eni_id]
                names = () if prefixes else self._names(subnet_id, given)
                self.requests.append(Request(eni_id, subnet_id, given, prefixes, names))
                self._free[eni_id] -= given
                self._debit(subnet_id, given, prefixes=prefixes, names=names)
                count -= given
            elif self._free[eni_id] > 0 and count > 0:
                self.refused.append(self._dry(self._eni_subnets[eni_id], prefixes=prefixes))
        return count

    def _turn(self, eni_id: str, count: int, *, prefixes: bool) -> tuple[bool, int, str]:
        """First who can serve all without a whole /28 being broken for it, then who can serve most."""
        room = self._eni_room(eni_id, prefixes=prefixes)
        subnet = self._subnets.get(self._eni_subnets[eni_id])
        blocks = None if prefixes or subnet is None else subnet.blocks
        breaks = blocks is not None and (room < count or blocks.broken_room < count)
        return breaks, -room, eni_id

    def _names(self, subnet_id: str, count: int) -> tuple[str, ...]:
        """Single addresses by name; none where the map is unknown or does not have them: then EC2 chooses."""
        subnet = self._subnets[subnet_id]
        if subnet.blocks is None:
            return ()
        promised = subnet.blocks.whole - (subnet.whole_prefixes or 0)  # on order without a name
        names = subnet.blocks.pick(count, open_most=max(0, subnet.blocks.open_whole - promised))
        return names if len(names) == count else ()

    def _own_name(self, subnet_id: str) -> tuple[str, ...]:
        """The own address of an ENI that is made with /28s: by name, so that it does not break the last whole one."""
        blocks = self._subnets[subnet_id].blocks
        return blocks.pick(1, open_most=0) if blocks is not None and self._name_beside_prefixes else ()

    def _eni_room(self, eni_id: str, *, prefixes: bool) -> int:
        subnet = self._subnets.get(self._eni_subnets[eni_id])
        return 0 if subnet is None else min(self._free[eni_id], request_room(subnet, prefixes=prefixes))

    def _on_new(self, count: int, *, prefixes: bool) -> int:
        """One new ENI; how many of `count` it brings, 0 if no subnet will have it."""
        place = self._places[0]
        own = primary_serves(place, self._class.interfaces)
        secondary = min(self._per_eni, count - (own and not prefixes), self._allowed(own, prefixes=prefixes))
        if secondary < (0 if own and not prefixes else 1):
            return 0
        choice = self._choose(secondary, prefixes=prefixes)
        if choice.subnet is None:
            self.refused.append(Refused(choice.reason or Reason.NO_ELIGIBLE_SUBNET, choice.message))
            return 0
        secondary = min(secondary, new_interface_room(choice.subnet, prefixes=prefixes))
        self._places.pop(0)
        subnet_id = choice.subnet.id
        names = self._own_name(subnet_id) if prefixes else self._names(subnet_id, 1 + secondary)
        self.new.append(NewInterface(place, choice.subnet, secondary, prefixes, own, names))
        self._debit(subnet_id, secondary, prefixes=prefixes, own=1, names=names)
        self.gained += own
        return secondary + (own and not prefixes)

    def _allowed(self, own: bool, *, prefixes: bool) -> int:
        """Singles or /28s on a new ENI within the budget, its own address counted first; below 0: not even that."""
        if self._budget is None:
            return self._per_eni
        return (self._budget - self.gained - own) // (PREFIX_SIZE if prefixes else 1)

    def _choose(self, secondary: int, *, prefixes: bool) -> SubnetChoice:
        selector = self._class.interfaces.subnet_selector
        counts = {"prefixes": secondary} if prefixes else {"addresses": secondary}
        return choose(self._subnets.values(), self._instance, selector, **counts)

    def _debit(self, subnet_id: str, count: int, *, prefixes: bool, own: int = 0, names: tuple[str, ...] = ()) -> None:
        self.gained += count * (PREFIX_SIZE if prefixes else 1)
        subnet = self._subnets[subnet_id]
        whole, blocks, reserved = subnet.whole_prefixes, subnet.blocks, 0
        if prefixes:
            reserved = min(count, self._kept.get(subnet_id, 0))
            self._kept[subnet_id] = self._kept.get(subnet_id, 0) - reserved
            whole = None if whole is None else whole - count
        if blocks is not None and names:
            after = blocks.taken(names)
            whole = None if whole is None else whole - (blocks.whole - after.whole)
            blocks = after
        free = subnet.free - own - (PREFIX_SIZE * (count - reserved) if prefixes else count)
        self._subnets[subnet_id] = replace(subnet, free=free, whole_prefixes=whole, blocks=blocks)

    def _dry(self, subnet_id: str, *, prefixes: bool) -> Refused:
        subnet = self._subnets.get(subnet_id)
        if subnet is None:
            return Refused(Reason.NO_ELIGIBLE_SUBNET, f"subnet {subnet_id} of an attached ENI is not known")
        if prefixes:
            return Refused(Reason.NO_WHOLE_PREFIX, f"no whole free /28 in subnet {subnet_id}")
        return Refused(Reason.SUBNET_EXHAUSTED, f"no free address in subnet {subnet_id}")
