"""What policies are judged against: pods, nodes, Services and their endpoints, as plain facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from enitide_policy.labels import METADATA_NAME, IdentityLabels, Pairs, PodFacts
from enitide_policy.model import CidrPeer, NodesPeer, Peer, PodsPeer, Policy, ServicePeer
from enitide_policy.selectors import POD, equals, in_namespace, selector

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Pod:
    """`gone`: it has ended (phase Succeeded or Failed), so its addresses are nobody's."""

    name: str
    facts: PodFacts
    node: str = ""
    host_network: bool = False
    addresses: tuple[Address, ...] = ()
    gone: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.facts.namespace, self.name


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    labels: Pairs = ()
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """`ports`: (name, protocol, number) of its front. `addresses`: its cluster addresses. `alias`: of ExternalName."""

    namespace: str
    name: str
    labels: Pairs = ()
    selector: Pairs = ()
    ports: tuple[tuple[str, str, int], ...] = ()
    addresses: tuple[Address, ...] = ()
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Backend:
    """One address of an EndpointSlice with the slice's ports."""

    namespace: str
    service: str
    address: Address
    ports: tuple[tuple[str, str, int], ...]
    ready: bool = True


@dataclass(frozen=True, slots=True)
class World:
    """Everything at one moment."""

    namespaces: Mapping[str, Pairs] = field(default_factory=dict)
    pods: Mapping[tuple[str, str], Pod] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    services: Mapping[tuple[str, str], Service] = field(default_factory=dict)
    backends: tuple[Backend, ...] = ()

    def labels_of(self, namespace: str) -> dict[str, str]:
        """Labels of a namespace, with the one that the API server adds."""
        return {**dict(self.namespaces.get(namespace, ())), METADATA_NAME: namespace}


def all_labels(world: World, pod: Pod) -> IdentityLabels:
    """Every label of a pod and its namespace, relevant or not."""
    facts = pod.facts
    others = {key: value for key, value in world.labels_of(facts.namespace).items() if key != METADATA_NAME}
    return IdentityLabels(
        facts.namespace, facts.service_account, facts.labels, tuple(sorted(others.items())), facts.ports
    )


def resolve(peers: Iterable[Peer], world: World) -> tuple[Peer, ...]:
    """Peers that name nodes or Services, as the ranges and selectors that they stand for; others as they are."""
    found: list[Peer] = []
    for peer in peers:
        if isinstance(peer, NodesPeer):
            nodes = (node for node in world.nodes.values() if peer.selector.matches(dict(node.labels)))
            found += [_only(address) for node in nodes for address in node.addresses]
        elif isinstance(peer, ServicePeer):
            for service in services_of(peer, world):
                found += _stands_for(peer, service, world)
        else:
            found.append(peer)
    return tuple(dict.fromkeys(found))


def services_of(peer: ServicePeer, world: World) -> list[Service]:
    """The Services that a peer names."""
    return [service for service in world.services.values() if means(peer, service)]


def means(peer: ServicePeer, service: Service) -> bool:
    """Whether a peer names this Service."""
    return (
        peer.namespace in ("", service.namespace)
        and peer.name in ("", service.name)
        and all(requirement.holds(dict(service.labels)) for requirement in peer.labels)
    )


def _stands_for(peer: ServicePeer, service: Service, world: World) -> list[Peer]:
    """Its ready endpoints by address, which needs no label to be relevant; and the pods that it selects."""
    key = (service.namespace, service.name)
    found: list[Peer] = [_only(b.address) for b in world.backends if (b.namespace, b.service) == key and b.ready]
    if service.selector and not peer.addresses:
        own = [equals(POD + key, value) for key, value in service.selector]
        found.append(PodsPeer(selector([*own, in_namespace(service.namespace)])))
    return found


def read_address(text: object) -> Address | None:
    """A text as an address, None if it is none; IPv4 written in IPv6 (`::ffff:10.0.0.1`) is IPv4, as on the wire."""
    try:
        found = ip_address(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _only(address: Address) -> CidrPeer:
    return CidrPeer(ip_network(address))


def resolved(policies: Iterable[Policy], world: World) -> tuple[Policy, ...]:
    """Policies with all peers resolved."""
    return tuple(
        replace(policy, rules=tuple(replace(rule, peers=resolve(rule.peers, world)) for rule in policy.rules))
        for policy in policies
    )
