"""Identities of address ranges, known on this node only, and which of them each range of a policy holds.

An address has the identity of the longest range that any policy names and that holds it. So a rule for a range must be
written for every range inside it too, save those inside its exceptions: each keeps what the wider one grants.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING

from enitide_policy.mapstate import IDENTITY_SHIFT, PEER_SHIFT, Network, Peer
from enitide_policy.model import CidrPeer
from enitide_policy.numbers import LOCAL_BIT, local_number

if TYPE_CHECKING:
    from enitide_policy.engine.ruleset import RuleSetState

Prefix = tuple[int, int, int]  # family, first address, length


def prefix_of(network: Network) -> Prefix:
    """A range as numbers."""
    return network.version, int(network.network_address), network.prefixlen


def _inside(inner: Prefix, outer: Prefix) -> bool:
    shift = (32 if outer[0] == 4 else 128) - outer[2]
    return inner[0] == outer[0] and inner[2] >= outer[2] and inner[1] >> shift == outer[1] >> shift


class CidrSet:
    """One range of a policy with its exceptions, and the packed bases of the ranges that it holds."""

    __slots__ = ("_excepts", "bases", "kind", "peer", "prefix", "rule_sets", "users")

    def __init__(self, peer: CidrPeer) -> None:
        self.peer = peer
        self.prefix = prefix_of(peer.network)
        self._excepts = tuple(map(prefix_of, peer.excepts))
        self.kind = (Peer.CIDR_WORLD if peer.outside else Peer.CIDR_ANY) << PEER_SHIFT
        self.bases: set[int] = set()
        self.users: dict[Hashable, int] = {}
        self.rule_sets: dict[RuleSetState, None] = {}

    def holds(self, prefix: Prefix) -> bool:
        """Whether every address of `prefix` belongs."""
        return _inside(prefix, self.prefix) and not any(_inside(prefix, inner) for inner in self._excepts)

    def base(self, number: int) -> int:
        """The packed base of one range's identity."""
        return self.kind | number << IDENTITY_SHIFT


class CidrTable:
    """All ranges that policies name. A range that nobody names any more stays until `sweep`.

    `known`: numbers from an earlier life, kept so that addresses already entered keep their meaning.
    """

    def __init__(self, known: Mapping[Network, int] | None = None) -> None:
        self.numbers: dict[Network, int] = {}
        self.added: dict[Network, int] = {}
        self._known = dict(known or {})
        self._next = 1 + max((number & ~LOCAL_BIT for number in self._known.values()), default=0)
        self._numbered: dict[Prefix, int] = {}
        self._uses: dict[Network, int] = {}
        self._idle: dict[Network, None] = dict.fromkeys(self._known)
        self.sets: dict[CidrPeer, CidrSet] = {}
        self._by_prefix: dict[Prefix, dict[CidrSet, None]] = {}
        self._sorted: dict[int, list[tuple[int, int, Network]]] = {4: [], 6: []}
        for network, number in self._known.items():
            self._enter(network, number)

    def acquire(self, peer: CidrPeer, user: Hashable) -> tuple[CidrSet, list[tuple[CidrSet, int]]]:
        """The set of a range, and what other sets gained by its being named: (set, base)."""
        gained: list[tuple[CidrSet, int]] = []
        for network in (peer.network, *peer.excepts):
            gained += self._use(network)
        found = self.sets.get(peer)
        if found is None:
            found = self.sets[peer] = CidrSet(peer)
            found.bases = {found.base(self.numbers[n]) for n in self._within(found.prefix) if found.holds(prefix_of(n))}
            self._by_prefix.setdefault(found.prefix, {})[found] = None
        found.users[user] = found.users.get(user, 0) + 1
        return found, gained

    def release(self, found: CidrSet, user: Hashable) -> None:
        """One use less of a set and of its ranges."""
        found.users[user] -= 1
        if not found.users[user]:
            del found.users[user]
        if not found.users:
            del self.sets[found.peer]
            del self._by_prefix[found.prefix][found]
            if not self._by_prefix[found.prefix]:
                del self._by_prefix[found.prefix]
        for network in (found.peer.network, *found.peer.excepts):
            self._uses[network] -= 1
            if not self._uses[network]:
                del self._uses[network]
                self._idle[network] = None

    def sweep(self) -> tuple[list[Network], list[tuple[CidrSet, int]]]:
        """Forget the ranges that nobody names: those that had been handed out, and what sets lost."""
        gone: list[Network] = []
        lost: list[tuple[CidrSet, int]] = []
        if not self._idle:
            return gone, lost
        for network in self._idle:
            number, prefix = self.numbers.pop(network), prefix_of(network)
            del self._numbered[prefix]
            rows = self._sorted[prefix[0]]
            del rows[bisect_left(rows, prefix[1:], key=lambda row: row[:2])]
            if self.added.pop(network, None) is None:
                gone.append(network)
            for found in self._holders(prefix):
                found.bases.discard(found.base(number))
                lost.append((found, found.base(number)))
        self._idle.clear()
        return gone, lost

    def number_of(self, family: int, address: int) -> int:
        """The identity of the longest range that holds an address; 0 if none does."""
        width = 32 if family == 4 else 128
        for length in range(width, -1, -1):
            shift = width - length
            number = self._numbered.get((family, address >> shift << shift, length))
            if number is not None:
                return number
        return 0

    def take_added(self) -> dict[Network, int]:
        """The ranges that were new since the last call."""
        added, self.added = self.added, {}
        return added

    def _use(self, network: Network) -> list[tuple[CidrSet, int]]:
        self._uses[network] = self._uses.get(network, 0) + 1
        self._idle.pop(network, None)
        if network in self.numbers:
            return []
        number = local_number(self._next)
        self._next += 1
        self.added[network] = number
        return self._enter(network, number)

    def _enter(self, network: Network, number: int) -> list[tuple[CidrSet, int]]:
        prefix = prefix_of(network)
        self.numbers[network] = self._numbered[prefix] = number
        insort(self._sorted[prefix[0]], (prefix[1], prefix[2], network), key=lambda row: row[:2])
        gained = [(found, found.base(number)) for found in self._holders(prefix)]
        for found, base in gained:
            found.bases.add(base)
        return gained

    def _holders(self, prefix: Prefix) -> list[CidrSet]:
        """Sets whose range holds a prefix: one look-up for each shorter length."""
        family, first, length = prefix
        width = 32 if family == 4 else 128
        found: list[CidrSet] = []
        for shorter in range(length + 1):
            shift = width - shorter
            there = self._by_prefix.get((family, first >> shift << shift, shorter), ())
            found += [one for one in there if one.holds(prefix)]
        return found

    def _within(self, prefix: Prefix) -> Iterable[Network]:
        """Known ranges inside a prefix: a slice, because ranges nest or are apart."""
        family, first, length = prefix
        rows = self._sorted[family]
        end = first + (1 << ((32 if family == 4 else 128) - length))
        low = bisect_left(rows, (first, length), key=lambda row: row[:2])
        high = bisect_left(rows, (end, 0), key=lambda row: row[:2])
        return (row[2] for row in rows[low:high] if row[1] >= length)
