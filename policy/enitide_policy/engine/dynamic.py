"""Policies that name nodes or Services: what they stand for now, and which of them an event changes."""

from __future__ import annotations

from collections.abc import Iterable

from enitide_policy.model import NodesPeer, Policy, ServicePeer
from enitide_policy.problems import ObjectRef
from enitide_policy.world import Backend, Node, Service, World, resolved


class Dynamic:
    """Keeps every policy as written, and nodes, Services and backends to resolve it by."""

    def __init__(self) -> None:
        self._written: dict[ObjectRef, tuple[Policy, ...]] = {}
        self._by_nodes: dict[ObjectRef, None] = {}
        self._by_services: dict[ObjectRef, None] = {}
        self._nodes: dict[str, Node] = {}
        self._services: dict[tuple[str, str], Service] = {}
        self._slices: dict[tuple[str, str], tuple[Backend, ...]] = {}

    def keep(self, ref: ObjectRef, policies: tuple[Policy, ...]) -> None:
        """The policies of one object as written; none if it is gone."""
        self._written.pop(ref, None)
        if policies:
            self._written[ref] = policies
        peers = [peer for policy in policies for rule in policy.rules for peer in rule.peers]
        for index, kind in ((self._by_nodes, NodesPeer), (self._by_services, ServicePeer)):
            index.pop(ref, None)
            if any(isinstance(peer, kind) for peer in peers):
                index[ref] = None

    def resolved(self, ref: ObjectRef) -> tuple[Policy, ...]:
        """The policies of one object with peers that name no nodes and no Services."""
        written = self._written.get(ref, ())
        if ref not in self._by_nodes and ref not in self._by_services:
            return written
        backends = tuple(backend for some in self._slices.values() for backend in some)
        return resolved(written, World(nodes=self._nodes, services=self._services, backends=backends))

    def node(self, name: str, node: Node | None) -> Iterable[ObjectRef]:
        """Policies to resolve again."""
        if self._nodes.get(name) == node:
            return ()
        self._nodes.pop(name, None)
        if node is not None:
            self._nodes[name] = node
        return tuple(self._by_nodes)

    def service(self, key: tuple[str, str], service: Service | None) -> Iterable[ObjectRef]:
        """Policies to resolve again."""
        if self._services.get(key) == service:
            return ()
        self._services.pop(key, None)
        if service is not None:
            self._services[key] = service
        return tuple(self._by_services)

    def backends(self, key: tuple[str, str], backends: tuple[Backend, ...]) -> Iterable[ObjectRef]:
        """Policies to resolve again."""
        if self._slices.get(key, ()) == backends:
            return ()
        self._slices.pop(key, None)
        if backends:
            self._slices[key] = backends
        return tuple(self._by_services)
