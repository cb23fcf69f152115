"""Where wanted addresses go: the one working sheet of a plan, from "so many" to requests per ENI and new ENIs.

Fewest calls win: the ENI that can take most is asked first, and each new ENI brings all it may. A prefix anywhere, also
on a new ENI in a sibling subnet, comes before single addresses. Mutable, local to one call of `plan_node`.
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
    """`count` single addresses or /28s for an existing ENI."""

    eni_id: str
    subnet_id: str
    count: int
    prefixes: bool


@dataclass(frozen=True, slots=True)
class NewInterface:
    """An ENI to be made with `count` secondary addresses or /28s; `own`: its own address serves a pod."""

    place: Place
    subnet: SubnetView
    count: int
    prefixes: bool
    own: bool


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
    ) -> None:
        """`budget`: how many addresses the node may still take (maxAllocate), None without bound."""
        self._instance = instance
        self._class = class_
        self._free = dict(capacity.free_by_eni)
        self._places = list(capacity.places)
        self._eni_subnets = eni_subnets
        self._subnets = {subnet.id: subnet for subnet in subnets}
        self._per_eni = per_eni
        self._budget = budget
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
        for eni_id in sorted(self._free, key=lambda each: (-self._eni_room(each, prefixes=prefixes), each)):
            room = self._eni_room(eni_id, prefixes=prefixes)
            given = min(count, room)
            if given > 0:
                subnet_id = self._eni_subnets[eni_id]
                self.requests.append(Request(eni_id, subnet_id, given, prefixes))
                self._free[eni_id] -= given
                self._debit(subnet_id, given, prefixes=prefixes)
                count -= given
            elif self._free[eni_id] > 0 and count > 0:
                self.refused.append(self._dry(self._eni_subnets[eni_id], prefixes=prefixes))
        return count

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
        self.new.append(NewInterface(place, choice.subnet, secondary, prefixes, own))
        self._debit(choice.subnet.id, secondary, prefixes=prefixes, own=1)
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

    def _debit(self, subnet_id: str, count: int, *, prefixes: bool, own: int = 0) -> None:
        self.gained += count * (PREFIX_SIZE if prefixes else 1)
        subnet = self._subnets[subnet_id]
        whole = subnet.whole_prefixes
        if prefixes and whole is not None:
            whole -= count
        free = subnet.free - own - count * (PREFIX_SIZE if prefixes else 1)
        self._subnets[subnet_id] = replace(subnet, free=free, whole_prefixes=whole)

    def _dry(self, subnet_id: str, *, prefixes: bool) -> Refused:
        subnet = self._subnets.get(subnet_id)
        if subnet is None:
            return Refused(Reason.NO_ELIGIBLE_SUBNET, f"subnet {subnet_id} of an attached ENI is not known")
        if prefixes:
            return Refused(Reason.NO_WHOLE_PREFIX, f"no whole free /28 in subnet {subnet_id}")
        return Refused(Reason.SUBNET_EXHAUSTED, f"no free address in subnet {subnet_id}")
