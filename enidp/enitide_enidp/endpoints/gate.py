"""Who gives a pod its policy, as the life of a pod sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from enitide_ipam.records import PodRef

Addresses = Iterable[IPv4Address | IPv6Address]


class Gate(Protocol):
    """A pod is closed from its record in the datapath to the end of `attach`."""

    async def admit(self, pod: Callable[[], PodRef], is_gone: Callable[[], bool]) -> None:
        """Return once the pod could be given its policy; `CniError` with the reason when that takes too long.

        `pod` says who it is, as far as that is known at the moment of asking.
        """
        ...

    def attach(self, owner: str, pod: PodRef, ifindex: int, addresses: Addresses) -> None:
        """The datapath knows the pod; its policy is in the kernel when this returns."""
        ...

    def detach(self, owner: str) -> None:
        """It is gone. Unknown is no error."""
        ...


class OpenGate:
    """Where policy is off: the datapath lets every pod through that it knows."""

    async def admit(self, pod: Callable[[], PodRef], is_gone: Callable[[], bool]) -> None:
        """At once."""

    def attach(self, owner: str, pod: PodRef, ifindex: int, addresses: Addresses) -> None:
        """Nothing."""

    def detach(self, owner: str) -> None:
        """Nothing."""
