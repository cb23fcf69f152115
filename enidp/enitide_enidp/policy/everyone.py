"""Whose every address is, as one mapping that is never built: asked or walked, it makes an address at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from enitide_enidp.policy.remote import Address, Remote, address_of, key_of


class Everyone(Mapping[Address, int]):
    """What is told of the cluster, with this node's own pods (`own`, by address key) in front.

    `is_known`: an identity that is not has no addresses.
    """

    def __init__(self, remote: Remote, own: Mapping[int, int], is_known: Callable[[int], bool]) -> None:
        self._remote, self._own, self._is_known = remote, own, is_known

    def __getitem__(self, address: Address) -> int:
        own = self._own.get(key_of(address))
        if own is not None:
            return own
        number = self._remote.identity_of(address)
        if not number or not self._is_known(number):
            raise KeyError(address)
        return number

    def __iter__(self) -> Iterator[Address]:
        for key, number in self._remote.everything():
            if key not in self._own and self._is_known(number):
                yield address_of(key)
        for key in self._own:
            yield address_of(key)

    def __len__(self) -> int:
        return sum(1 for _ in self)
