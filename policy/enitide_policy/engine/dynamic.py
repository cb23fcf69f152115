"""Policies that name nodes or Services: what they stand for at present, and which of them an event may change."""

from __future__ import annotations

from collections.abc import Iterable

from enitide_policy.held import held_peers, names_hidden
from enitide_policy.labels import Relevance
from enitide_policy.model import NodesPeer, Policy, ServicePeer
from enitide_policy.problems import ObjectRef
from enitide_policy.world import Backend, Node, Service, World, resolved

Key = tuple[str, str]


class Dynamic:
    """Keeps every policy as written, and nodes, Services and backends to resolve it by.

    `held`: those that wait for identities to be cut to a Service's keys.
    An event asks only for the policies whose words could mean its Service: one that names another costs nothing.
    """

    def __init__(self) -> None:
        self._written: dict[ObjectRef, tuple[Policy, ...]] = {}
        self._by_nodes: dict[ObjectRef, None] = {}
        self._by_services: dict[ObjectRef, tuple[ServicePeer, ...]] = {}
        self._nodes: dict[str, Node] = {}
        self._services: dict[Key, Service] = {}
        self._slices: dict[Key, tuple[Backend, ...]] = {}
        self._of_service: dict[Key, dict[Key, None]] = {}
        self._announced: Relevance | None = None
        self.held: dict[ObjectRef, None] = {}

    def keep(self, ref: ObjectRef, policies: tuple[Policy, ...]) -> None:
        """The policies of one object as written; none if it is gone."""
        for kept in (self._written, self._by_nodes, self._by_services, self.held):
            kept.pop(ref, None)
        if policies:
            self._written[ref] = policies
        peers = [peer for policy in policies for rule in policy.rules for peer in rule.peers]
        services = tuple(peer for peer in peers if isinstance(peer, ServicePeer))
        if services:
            self._by_services[ref] = services
        if any(isinstance(peer, NodesPeer) for peer in peers):
            self._by_nodes[ref] = None

    def resolved(self, ref: ObjectRef) -> tuple[Policy, ...]:
        """The policies of one object with peers that name no nodes and no Services."""
        written = self._written.get(ref, ())
        if ref not in self._by_nodes and ref not in self._by_services:
            return written
        services: dict[Key, Service] = {}
        for peer in self._by_services.get(ref, ()):
            if peer.name and peer.namespace:
                key = (peer.namespace, peer.name)
                services.update({key: self._services[key]} if key in self._services else {})
            else:
                services.update((key, one) for key, one in self._services.items() if _could_mean(peer, key))
        slices = (self._slices[one] for key in services for one in self._of_service.get(key, ()))
        backends = tuple(backend for some in slices for backend in some)
        found = resolved(written, World(nodes=self._nodes, services=services, backends=backends))
        return self._certain(ref, found) if services else found

    def _certain(self, ref: ObjectRef, found: tuple[Policy, ...]) -> tuple[Policy, ...]:
        """Keys of a Service's selector are closed like those of a policy, until identities are cut to them."""
        self.held.pop(ref, None)
        if self._announced is None or not any(names_hidden(each, self._announced) for each in found):
            return found
        self.held[ref] = None
        return held_peers(found, self._announced)

    def announce(self, announced: Relevance | None) -> Iterable[ObjectRef]:
        """Identities are cut to these keys; policies to resolve again."""
        self._announced = announced
        return tuple(self._by_services)

    def node(self, name: str, node: Node | None) -> Iterable[ObjectRef]:
        """Policies to resolve again."""
        if self._nodes.get(name) == node:
            return ()
        self._nodes.pop(name, None)
        if node is not None:
            self._nodes[name] = node
        return tuple(self._by_nodes)

    def service(self, key: Key, service: Service | None) -> Iterable[ObjectRef]:
        """Policies to resolve again."""
        if self._services.get(key) == service:
            return ()
        self._services.pop(key, None)
        if service is not None:
            self._services[key] = service
        return self._naming({key})

    def backends(self, key: Key, backends: tuple[Backend, ...]) -> Iterable[ObjectRef]:
        """Policies to resolve again."""
        old = self._slices.pop(key, ())
        if backends:
            self._slices[key] = backends
        if old == backends:
            return ()
        before, after = ({(one.namespace, one.service) for one in some} for some in (old, backends))
        for service in before - after:
            del self._of_service[service][key]
            if not self._of_service[service]:
                del self._of_service[service]
        for service in after:
            self._of_service.setdefault(service, {})[key] = None
        return self._naming(before | after)

    def _naming(self, keys: set[Key]) -> tuple[ObjectRef, ...]:
        return tuple(
            ref
            for ref, peers in self._by_services.items()
            if any(_could_mean(peer, key) for peer in peers for key in keys)
        )


def _could_mean(peer: ServicePeer, key: Key) -> bool:
    return peer.namespace in ("", key[0]) and peer.name in ("", key[1])
