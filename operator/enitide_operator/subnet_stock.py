"""One subnet as planning may use it: EC2's count and /28 map when they were read, and what we took or gave since.

Debits are made when an action is planned, not when it is answered. A reading replaces what it can have seen and nothing
else: EC2's reads lag, so what was answered in the seconds before it is laid over it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from enitide_ipam.addresses import PREFIX_SIZE, parse
from enitide_ipam.blocks import BlockMap
from enitide_ipam.model import SubnetView

NO_PREFIX_FOR_S = 300.0  # after a refused /28; others free blocks meanwhile, and only asking tells
DOUBT_FOR_S = 3600.0  # an address that was refused although no read shows who holds it
LAG_S = 10.0  # how long EC2's reads may lag behind a mutation that we did
NAMELESS_S = 60.0
BLIND = 8  # if more than an eighth of what looks free is not
REMEMBER_S = 600.0  # longer than any reading takes


@dataclass(frozen=True, slots=True)
class Taking:
    """What one action takes: `addresses` of the count (the /28s' included), `prefixes` without a name, and `names`."""

    addresses: int = 0
    prefixes: int = 0
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Change:
    """A mutation of ours that EC2 answered at `at`."""

    at: float
    taken: bool
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...]


@dataclass(slots=True)
class SubnetStock:
    """`read`, `asked_at`: EC2's words and when they were asked for. Times are Unix seconds.

    `gone_at`: when EC2 said that there is no such subnet. `planned`: planning rests on the map; else it is only shown.
    `blind`: EC2 counts far fewer free addresses than the map shows, so most of the subnet is another account's and the
    map says nothing.
    """

    read: SubnetView
    asked_at: float
    open: dict[int, Taking] = field(default_factory=dict)
    since: list[tuple[float, int]] = field(default_factory=list)
    since_read: int = 0
    refused_at: float | None = None
    gone_at: float | None = None
    no_prefix_until: float | None = None
    map: BlockMap | None = None
    changes: deque[_Change] = field(default_factory=deque)
    doubts: dict[int, float] = field(default_factory=dict)
    doubted_at: float | None = None
    nameless_until: float = 0.0
    blind: bool = False
    planned: bool = False
    _shown: tuple[SubnetView, SubnetView] | None = None  # the last view, and the reading that it was made of

    # --- looking -----------------------------------------------------------------------------------------------------

    def view(self, now: float) -> SubnetView:
        """The subnet as planning may use it."""
        free = self._free()
        held_back = self.no_prefix_until is not None and now < self.no_prefix_until
        whole = 0 if held_back else None
        blocks = None if self.blind or not self.planned else self.map
        if blocks is not None:
            ordered = sum(each.prefixes for each in self.open.values())
            unnamed = sum(each.addresses for each in self.open.values() if not each.names) - PREFIX_SIZE * ordered
            free = min(free, blocks.free - unnamed - PREFIX_SIZE * max(0, ordered - blocks.kept_whole))
            whole = 0 if held_back else max(0, blocks.whole - ordered)
        if self.refused_at is not None:
            free = 0
        return self._as(max(0, free), whole, None if now < self.nameless_until else blocks)

    def _as(self, free: int, whole: int | None, blocks: BlockMap | None) -> SubnetView:
        """The reading with these; the view given last where it says the same, as every pass of every node asks."""
        gone = self.gone_at is not None
        if self._shown is not None and self._shown[1] is self.read:
            last = self._shown[0]
            if (last.free, last.whole_prefixes, last.gone) == (free, whole, gone) and last.blocks is blocks:
                return last
        made = replace(self.read, free=free, whole_prefixes=whole, blocks=blocks, gone=gone)
        self._shown = (made, self.read)
        return made

    def _free(self) -> int:
        return self.read.free - sum(each.addresses for each in self.open.values()) - self.since_read

    # --- readings ----------------------------------------------------------------------------------------------------

    def counted(self, subnet: SubnetView, asked_at: float) -> None:
        """A reading of the subnet itself; an older one than the last changes nothing."""
        if asked_at < self.asked_at:
            return
        self.read, self.asked_at = subnet, asked_at
        self.since = [each for each in self.since if each[0] > asked_at]
        self.since_read = sum(count for _, count in self.since)
        if self.refused_at is not None and asked_at > self.refused_at:
            self.refused_at = None
        if self.gone_at is not None and asked_at > self.gone_at:
            self.gone_at = None  # it is listed all the same

    def mapped(self, blocks: BlockMap, now: float) -> None:
        """A reading of its /28 map."""
        if self.map is not None and blocks.asked_at < self.map.asked_at:
            return
        explained = any(blocks.holds(address) for address in self.doubts)
        if explained and self.doubted_at is not None and blocks.asked_at > self.doubted_at:
            self.doubts = {}  # the read shows who has one of them: the others are to be had
        self.doubts = {address: until for address, until in self.doubts.items() if until > now}
        for each in self.changes:
            if each.at > blocks.asked_at - LAG_S:
                change = blocks.taken if each.taken else blocks.given
                blocks = change(each.addresses, each.prefixes)
        names = [name for taking in self.open.values() for name in taking.names]
        blocks = blocks.taken(names)
        unseen = blocks.free - self._free()
        self.blind = unseen * BLIND > blocks.free
        self.map = blocks.doubted(self.doubts)
        if not self.map.whole:
            self.no_prefix_until = None  # the map says so by itself, and will say when there is one again

    # --- work of ours ------------------------------------------------------------------------------------------------

    def order(self, number: int, taking: Taking) -> None:
        """Under way from now on."""
        self.open[number] = taking
        if self.map is not None and taking.names:
            self.map = self.map.taken(taking.names)

    def settle(self, number: int, at: float, addresses: Sequence[str], prefixes: Sequence[str]) -> None:
        """EC2 gave what was ordered, or may have: a reading asked for after `at` has it in its count.

        `addresses` and `prefixes`: what it gave, as far as that is known.
        """
        taking = self.open.pop(number, None)
        if taking is None:
            return
        kept = self.map.kept_whole if self.map is not None else 0
        self._count(at, taking.addresses - PREFIX_SIZE * min(taking.prefixes, kept))
        self._change(at, taken=True, addresses=tuple(addresses) or taking.names, prefixes=tuple(prefixes))

    def refund(self, number: int) -> None:
        """It was not taken."""
        taking = self.open.pop(number, None)
        if taking is not None and self.map is not None and taking.names:
            self.map = self.map.given(taking.names)

    def credit(self, addresses: int, at: float, singles: Sequence[str], prefixes: Sequence[str]) -> None:
        """Addresses went back; `singles` and `prefixes` by name, as far as they are known."""
        self._count(at, -addresses)
        self._change(at, taken=False, addresses=tuple(singles), prefixes=tuple(prefixes))

    def took(self, addresses: int, at: float, singles: Sequence[str], prefixes: Sequence[str]) -> None:
        """Addresses went that were not ordered here."""
        self._count(at, addresses)
        self._change(at, taken=True, addresses=tuple(singles), prefixes=tuple(prefixes))

    def doubt(self, names: Sequence[str], at: float) -> None:
        """EC2 refused these by name. Twice within a minute, and nothing is named for a while: EC2 chooses."""
        if self.doubted_at is not None and at - self.doubted_at < NAMELESS_S:
            self.nameless_until = at + NAMELESS_S
        self.doubted_at = at
        self.doubts |= {parse(name): at + DOUBT_FOR_S for name in names}
        if self.map is not None:
            self.map = self.map.doubted(self.doubts)

    def _count(self, at: float, taken: int) -> None:
        self.since.append((at, taken))
        self.since_read += taken

    def _change(self, at: float, *, taken: bool, addresses: tuple[str, ...], prefixes: tuple[str, ...]) -> None:
        addresses = tuple(each for each in addresses if each)  # an IPv6-only ENI has no own one
        if self.map is None or not (addresses or prefixes):
            return
        self.changes.append(_Change(at, taken, addresses, prefixes))
        while self.changes[0].at < at - REMEMBER_S:
            self.changes.popleft()
        self.map = self.map.taken(addresses, prefixes) if taken else self.map.given(addresses, prefixes)
