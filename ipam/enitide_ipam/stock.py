"""The addresses that are published for a node, which of them are free, and which to hand out next.

Knows ENIs, /28s and single addresses; knows nothing of pods, time or journals (`pool`). Choice is dense: the fullest
prefix, then the fullest ENI, so that whole prefixes and whole ENIs come free again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from enitide_api.resources import Interface
from enitide_ipam.addresses import PREFIX_SIZE, expand, parse, size
from enitide_ipam.capacity import NODE_PLACE
from enitide_ipam.handover import Idle, cidrs


@dataclass(slots=True)
class Unit:
    """One /28, or all single addresses of one ENI: those that are free, oldest freed first."""

    cidr: str  # empty for the single addresses
    members: dict[int, str] = field(default_factory=dict)  # address -> the CIDR by which it is given back
    free: dict[int, None] = field(default_factory=dict)
    used: int = 0  # held or cooling


@dataclass(slots=True)
class Eni:
    """One published ENI. `fixed`: its own address where it serves pods; it goes only with the whole ENI."""

    interface: Interface
    singles: Unit
    prefixes: dict[str, Unit]
    fixed: int | None
    used: int = 0
    ready: bool = False

    def units(self) -> Iterator[Unit]:
        """The single addresses first, then each /28."""
        yield self.singles
        yield from self.prefixes.values()


class Stock:
    """All published addresses by ENI. An address is free, or used (held or cooling), or closed (yielded)."""

    def __init__(self) -> None:
        self.enis: dict[str, Eni] = {}
        self._at: dict[int, tuple[Eni, Unit]] = {}
        self._holders: dict[str, Eni] = {}  # by CIDR or own address
        self._used: set[int] = set()
        self._closed: set[str] = set()
        self._ready: frozenset[str] = frozenset()

    def __contains__(self, address: int) -> bool:
        return address in self._at

    def __iter__(self) -> Iterator[tuple[int, Eni, str]]:
        for address, (eni, unit) in self._at.items():
            yield address, eni, unit.members[address]

    def publish(self, interfaces: Iterable[Interface], used: Collection[int], *, use_primary_address: bool) -> None:
        """Replace what is published; `used` addresses (held or cooling) are not free."""
        before = self._order()
        self._used = set(used)
        self.enis, self._at, self._holders = {}, {}, {}
        for interface in sorted(interfaces, key=lambda each: (each.card, each.index, each.id)):
            serves = use_primary_address and (interface.card, interface.index) != NODE_PLACE
            self._add(interface, before, fixed=parse(interface.primary) if serves else None)

    def _order(self) -> dict[int, int]:
        """When each free address came free, as a rank: a publication must not forget it."""
        free = (address for eni in self.enis.values() for unit in eni.units() for address in unit.free)
        return {address: rank for rank, address in enumerate(free)}

    def _add(self, interface: Interface, before: dict[int, int], *, fixed: int | None) -> None:
        singles = Unit("")
        if fixed is not None:
            singles.members[fixed] = interface.primary
        singles.members |= {parse(address): address for address in interface.addresses}
        prefixes = {cidr: Unit(cidr, dict.fromkeys(expand(cidr), cidr)) for cidr in interface.prefixes}
        eni = Eni(interface, singles, prefixes, fixed, ready=interface.id in self._ready)
        self.enis[interface.id] = eni
        self._holders |= dict.fromkeys((*cidrs(interface), interface.primary), eni)
        for unit in eni.units():
            for address in sorted(unit.members, key=lambda each: (before.get(each, -1), each)):
                self._at[address] = (eni, unit)
                if address in self._used:
                    unit.used += 1
                    eni.used += 1
                elif unit.members[address] not in self._closed:
                    unit.free[address] = None

    def set_ready(self, eni_ids: Collection[str]) -> None:
        """The ENIs whose devices are configured."""
        self._ready = frozenset(eni_ids)
        for eni_id, eni in self.enis.items():
            eni.ready = eni_id in self._ready

    def close(self, cidrs: Collection[str]) -> None:
        """The CIDRs out of use from now on, and no others; `used` addresses stay with whom they are."""
        opened, self._closed = self._closed - set(cidrs), set(cidrs)
        for cidr in cidrs:
            for address in expand(cidr):
                if address in self._at:
                    self._at[address][1].free.pop(address, None)
        for cidr in sorted(opened):
            for address in expand(cidr):
                self._reopen(address, cidr)

    def _reopen(self, address: int, cidr: str) -> None:
        if address in self._at and address not in self._used:
            unit = self._at[address][1]
            if unit.members[address] == cidr:
                unit.free[address] = None

    def is_closed(self, address: int) -> bool:
        """Whether it is yielded."""
        place = self._at.get(address)
        return place is not None and place[1].members[address] in self._closed

    def pick(self) -> int | None:
        """The next address to hand out, None when nothing is free on a ready ENI. Does not take it."""
        best: tuple[tuple[int, ...], Unit] | None = None
        for eni in self.enis.values():
            if not eni.ready:
                continue
            for unit in eni.units():
                if unit.free:
                    broken = unit.used if unit.cidr else 0
                    # fullest broken /28, else a single address rather than a whole /28, on the fullest ENI
                    # and of a draining ENI only where nothing else is free
                    calm = not eni.interface.draining
                    rank = (calm, broken, not unit.cidr, eni.used, -eni.interface.card, -eni.interface.index)
                    if best is None or rank > best[0]:
                        best = (rank, unit)
        return None if best is None else next(iter(best[1].free))

    def take(self, address: int) -> None:
        """Free -> used. Also for an address that is not published (any more): it counts once it is."""
        if address in self._used:
            return
        self._used.add(address)
        place = self._at.get(address)
        if place is not None:
            place[1].free.pop(address, None)
            place[0].used += 1
            place[1].used += 1

    def give(self, address: int) -> None:
        """Used -> free (or closed, or forgotten where it is not published)."""
        place = self._at.get(address)
        if address not in self._used:
            return
        self._used.discard(address)
        if place is None:
            return
        eni, unit = place
        eni.used -= 1
        unit.used -= 1
        if unit.members[address] not in self._closed:
            unit.free[address] = None

    def asked_for(self, closed: Iterable[str], count: int) -> tuple[str, ...]:
        """Which of these CIDRs the operator asks for: of draining ENIs all, of others `count` addresses."""
        listed: list[str] = []
        for cidr in closed:
            if self.is_draining(cidr):
                listed.append(cidr)
            elif cidr in self._holders and self._serves(cidr) and size(cidr) <= count:
                listed.append(cidr)
                count -= size(cidr)
        return tuple(listed)

    def _serves(self, cidr: str) -> bool:
        """Whether it counts for pods: an own address that serves none stands for nothing once its ENI stays."""
        eni = self._holders[cidr]
        return cidr != eni.interface.primary or (eni.fixed is not None and eni.interface.ours)

    def is_draining(self, cidr: str) -> bool:
        """Whether a CIDR, or an own address, belongs to a draining ENI."""
        return cidr in self._holders and self._holders[cidr].interface.draining

    @property
    def has_draining(self) -> bool:
        """Whether some ENI is draining."""
        return any(eni.interface.draining for eni in self.enis.values())

    def is_own(self, address: str) -> bool:
        """Whether it is the own address of a published ENI."""
        return address in self._holders and self._holders[address].interface.primary == address

    def eni_of(self, address: int) -> Eni | None:
        """The published ENI of an address."""
        place = self._at.get(address)
        return place[0] if place is not None else None

    def idle_units(self) -> Iterator[Idle]:
        """What could be yielded: CIDRs that are not closed yet."""
        for eni in self.enis.values():
            first = (eni.interface.card, eni.interface.index) == NODE_PLACE
            marks = {"first": first, "draining": eni.interface.draining}
            for address, cidr in eni.singles.members.items():
                if address != eni.fixed and cidr not in self._closed:
                    yield Idle(eni.interface.id, cidr, 1, int(address in self._used), **marks)
            for cidr, unit in eni.prefixes.items():
                if cidr not in self._closed:
                    yield Idle(eni.interface.id, cidr, PREFIX_SIZE, unit.used, **marks)
            yield from self._own(eni, marks)

    def _own(self, eni: Eni, marks: dict[str, bool]) -> Iterator[Idle]:
        """The ENI's own address, where it may be asked for with all the rest."""
        primary = eni.interface.primary
        serves = eni.fixed is not None and eni.interface.ours
        if primary and primary not in self._closed and (eni.interface.draining or serves):
            # held without serving (any more), it is not among what is counted as used on the ENI
            stray = eni.fixed is None and parse(primary) in self._used
            yield Idle(eni.interface.id, primary, 1, eni.used + stray, own=True, **marks)
