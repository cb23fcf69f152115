"""Tells the engine which pods have which address while a policy asks a range for a named port: pods with names alone.

All of them once, then what changes; nothing at all while no policy asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from enitide_enidp.policy.own import Identities
from enitide_enidp.policy.remote import Address, Remote, address_of
from enitide_policy.engine.named import NamedRanges


class Names:
    """`own()`: identities of this node's pods by address key; they go before what `remote` says."""

    def __init__(
        self, named: NamedRanges, remote: Remote, identities: Identities, own: Callable[[], Mapping[int, int]]
    ) -> None:
        self._named = named
        self._remote = remote
        self._identities = identities
        self._own = own
        self._is_told = False

    def restart(self) -> None:
        """The next telling is of all of them."""
        self._is_told = False

    def tell(self, puts: Mapping[Address, int], deletes: Iterable[Address]) -> None:
        """Addresses and their identities from now on, and those that nobody has; before the engine's commit."""
        if not self._named.wanted:
            if self._is_told:
                self._named.forget()
            self._is_told = False
            return
        if not self._is_told:
            self._named.forget()
            self._is_told = True
            puts = {**self._everyone(), **puts}
        for address in deletes:
            self._named.pod(address, None)
        for address, number in puts.items():
            self._named.pod(address, number if self._has_names(number) else None)

    def _everyone(self) -> dict[Address, int]:
        own = self._own()
        others = (pair for pair in self._remote.everything() if pair[0] not in own)
        return {address_of(key): number for key, number in chain(own.items(), others) if self._has_names(number)}

    def _has_names(self, number: int) -> bool:
        labels = self._identities.labels.get(number)
        return labels is not None and bool(labels.ports)
