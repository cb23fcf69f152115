"""Named ports asked of ranges: a range has no names, but pods in it have, each its own numbers.

Such a rule becomes one more for the addresses of those pods. That needs the addresses of pods, which nothing else here
does: whoever uses the engine tells them only while `wanted`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network

from enitide_policy.labels import IdentityLabels
from enitide_policy.mapstate import Direction
from enitide_policy.model import L4, PROTOCOLS, CidrPeer, Policy, Rule
from enitide_policy.problems import ObjectRef
from enitide_policy.world import Address


class NamedRanges:
    """`labels`: of identities, as the engine keeps them."""

    def __init__(self, labels: Mapping[int, IdentityLabels]) -> None:
        self._labels = labels
        self._pods: dict[Address, int] = {}
        self._of: dict[int, dict[Address, None]] = {}
        self._ranges: dict[ObjectRef, tuple[CidrPeer, ...]] = {}
        self._stale: dict[ObjectRef, None] = {}

    @property
    def wanted(self) -> bool:
        """Whether any policy asks a range for a named port."""
        return bool(self._ranges)

    def pod(self, address: Address, number: int | None) -> None:
        """A pod of this identity has the address, or (None) nobody."""
        old = self._pods.pop(address, None)
        if old is not None:
            del self._of[old][address]
            if not self._of[old]:
                del self._of[old]
        if number is not None:
            self._pods[address] = number
            self._of.setdefault(number, {})[address] = None
        if old != number:
            self._touch([address])

    def identity(self, number: int) -> None:
        """Its labels are others now, or gone."""
        self._touch(self._of.get(number, ()))

    def _touch(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            for ref, ranges in self._ranges.items():
                if any(holds(one, address) for one in ranges):
                    self._stale[ref] = None

    def take_stale(self) -> tuple[ObjectRef, ...]:
        """Policies to expand again, since the last call."""
        stale, self._stale = self._stale, {}
        return tuple(stale)

    def forget(self) -> None:
        """All addresses: nobody tells them any more, or all are told anew."""
        self._pods.clear()
        self._of.clear()
        self._stale.update(dict.fromkeys(self._ranges))

    def expanded(self, ref: ObjectRef, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        """The resolved policies of one object, with the rules for pods in their ranges."""
        self._stale.pop(ref, None)
        ranges = dict.fromkeys(one for policy in policies for rule in policy.rules for one in _asked(rule))
        self._ranges.pop(ref, None)
        if not ranges:
            return policies
        self._ranges[ref] = tuple(ranges)
        return tuple(replace(policy, rules=tuple(self._rules(policy.rules))) for policy in policies)

    def _rules(self, rules: Iterable[Rule]) -> Iterator[Rule]:
        for rule in rules:
            yield rule
            ranges = _asked(rule)
            if ranges:
                for l4, peers in sorted(self._found(rule, ranges).items(), key=lambda item: str(item[0])):
                    yield replace(rule, peers=tuple(peers), l4=l4)

    def _found(self, rule: Rule, ranges: tuple[CidrPeer, ...]) -> dict[tuple[L4, ...], list[CidrPeer]]:
        found: dict[tuple[L4, ...], list[CidrPeer]] = {}
        named = [one for one in rule.l4 if one.name]
        for number, addresses in sorted(self._of.items()):
            l4 = _numbers(named, self._labels.get(number))
            if l4:
                inside = (each for each in addresses if any(holds(one, each) for one in ranges))
                found.setdefault(l4, []).extend(CidrPeer(ip_network(each)) for each in inside)
        return {l4: sorted(peers, key=str) for l4, peers in found.items() if peers}


def _asked(rule: Rule) -> tuple[CidrPeer, ...]:
    """The ranges that a rule asks for a name. Ranges of what is outside hold no pods."""
    if rule.direction is not Direction.EGRESS or not any(one.name for one in rule.l4):
        return ()
    return tuple(peer for peer in rule.peers if isinstance(peer, CidrPeer) and not peer.outside)


def _numbers(named: Iterable[L4], labels: IdentityLabels | None) -> tuple[L4, ...]:
    ports = labels.ports if labels is not None else ()
    return tuple(
        dict.fromkeys(
            L4(PROTOCOLS[word], number, number)
            for one in named
            for name, word, number in ports
            if name == one.name and one.protocol in (0, PROTOCOLS[word])
        )
    )


def holds(one: CidrPeer, address: Address) -> bool:
    """Whether an address is in a range and in none of its exceptions."""
    return address in one.network and not any(address in inner for inner in one.excepts)
