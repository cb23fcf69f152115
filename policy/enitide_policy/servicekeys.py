"""Which pod labels matter because a policy names a Service that selects by them. Pure: `now` is passed in.

Such a policy says the Service's name; the keys stand in the Service. Operator and agents watch Services only once a
policy names some, and both count the same keys, so that both find the same identity for a pod.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from enitide_policy.labels import Relevance
from enitide_policy.model import Policy, ServicePeer
from enitide_policy.relevance_book import RelevanceBook
from enitide_policy.world import Service, means

Key = tuple[str, str]


class ServiceKeys:
    """Policies with the Services that they name, and the Services there are; the book is told of each that counts."""

    def __init__(self, book: RelevanceBook) -> None:
        self._book = book
        self._peers: dict[Hashable, tuple[ServicePeer, ...]] = {}
        self._services: dict[Key, Service] = {}
        self._told: dict[Key, Relevance] = {}

    def policy(self, name: Hashable, peers: Iterable[ServicePeer], now: float) -> None:
        """The Services that a policy names from now on; none if it is gone."""
        found = tuple(peer for peer in peers if not peer.addresses)
        if found == self._peers.get(name, ()):
            return
        self._peers.pop(name, None)
        if found:
            self._peers[name] = found
        for key in self._services:
            self._tell(key, now)

    def service(self, key: Key, service: Service | None, now: float) -> None:
        """A Service (namespace, name) is there, changed, or (None) gone."""
        self._services.pop(key, None)
        if service is not None:
            self._services[key] = service
        self._tell(key, now)

    def _tell(self, key: Key, now: float) -> None:
        found = self._relevance(self._services.get(key))
        if found == self._told.get(key):
            return
        self._told.pop(key, None)
        if found is not None:
            self._told[key] = found
        self._book.put(("Service", *key), found, now)

    def _relevance(self, service: Service | None) -> Relevance | None:
        if service is None or not service.selector:
            return None
        if not any(means(peer, service) for peers in self._peers.values() for peer in peers):
            return None
        return Relevance(pod_keys=frozenset(key for key, _ in service.selector))


def services_named(policies: Iterable[Policy]) -> tuple[ServicePeer, ...]:
    """The Services that these policies name, each once."""
    peers = (peer for policy in policies for rule in policy.rules for peer in rule.peers)
    return tuple(dict.fromkeys(peer for peer in peers if isinstance(peer, ServicePeer)))
