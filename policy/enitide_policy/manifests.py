"""Manifests of Namespace, Pod, Node, Service, EndpointSlice and policies into a world and policies.

A part of an object that cannot be used is left out and noted; nothing is guessed. Kinds that neither carry traffic nor
judge it are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeGuard

from enitide_api.reasons import Reason
from enitide_policy.labels import Pairs, PodFacts
from enitide_policy.languages.reading import Closed, Place
from enitide_policy.model import PROTOCOLS, Policy
from enitide_policy.objectkinds import flattened, is_fact, ref_of, stranger, unknown_version
from enitide_policy.parse import clashes, is_policy, parse
from enitide_policy.problems import ObjectRef, Problem
from enitide_policy.world import Address, Backend, Node, Pod, Service, World, read_address

_PORT_KINDS = tuple(PROTOCOLS)


@dataclass(frozen=True, slots=True)
class Manifests:
    """What a set of objects says."""

    world: World
    policies: tuple[Policy, ...]
    problems: tuple[Problem, ...]


def read(objects: Iterable[Mapping[str, Any]], *, host_policy: bool = False) -> Manifests:
    """All objects in order; a later one of the same kind and name replaces an earlier one, as applying them would."""
    found: list[Problem] = []
    latest: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for obj in flattened(objects, found):
        ref = ref_of(obj)
        key = (ref.kind, ref.namespace, ref.name)
        if key in latest:
            found.append(Problem(ref, "metadata.name", Reason.OBJECT_INVALID, "written twice: the last one counts"))
        latest[key] = obj
    rows: dict[str, list[Any]] = {}
    policies: list[Policy] = []
    for obj in latest.values():
        kind = str(obj.get("kind", ""))
        if is_policy(obj):
            parsed = parse(obj, host_policy=host_policy)
            policies += parsed.policies
            found += parsed.problems
        elif is_fact(obj):
            found += unknown_version(obj)
            with suppress(Closed):
                rows.setdefault(kind, []).append(_READERS[kind](Place(ref_of(obj), found=found), obj))
        else:
            found += stranger(obj)
    world = _world(rows)
    return Manifests(world, tuple(policies), tuple(found + clashes(policies) + _shared_addresses(world)))


def _world(rows: Mapping[str, list[Any]]) -> World:
    return World(
        namespaces=dict(rows.get("Namespace", ())),
        pods={pod.key: pod for pod in rows.get("Pod", ())},
        nodes={node.name: node for node in rows.get("Node", ())},
        services={(service.namespace, service.name): service for service in rows.get("Service", ())},
        backends=tuple(backend for some in rows.get("EndpointSlice", ()) for backend in some),
    )


def _shared_addresses(world: World) -> list[Problem]:
    """An address that two live pods have, or a pod and a node: which of them answers is not said."""
    holders: dict[Address, list[ObjectRef]] = {}
    for pod in world.pods.values():
        if not pod.gone and not pod.host_network:
            for address in dict.fromkeys(pod.addresses):
                holders.setdefault(address, []).append(ObjectRef("Pod", *pod.key))
    for node in world.nodes.values():
        for address in dict.fromkeys(node.addresses):
            holders.setdefault(address, []).append(ObjectRef("Node", "", node.name))
    return [_shared(ref, address, refs) for address, refs in holders.items() if len(refs) > 1 for ref in refs]


def _shared(ref: ObjectRef, address: Address, refs: list[ObjectRef]) -> Problem:
    others = ", ".join(str(other) for other in refs if other != ref)
    field = "status.podIPs" if ref.kind == "Pod" else "status.addresses"
    message = f"{address} is also an address of {others}: queries by this address mean {refs[0]}; correct one of them"
    return Problem(ref, field, Reason.OBJECT_INVALID, message)


def _invalid(place: Place, message: str) -> None:
    place.note(Reason.OBJECT_INVALID, message)


def _metadata(place: Place, obj: Mapping[str, Any]) -> dict[str, Any]:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        _invalid(place.at("metadata").at("name"), "write a name")
        raise Closed
    if not isinstance(metadata.get("namespace"), str | None):
        _invalid(place.at("metadata").at("namespace"), f"{metadata['namespace']!r} is no text: put it in quotes")
    return metadata


def _pairs(place: Place, value: Any) -> Pairs:
    """Labels. What is no text is left out: the API server would refuse it."""
    out = []
    for key, item in (value if isinstance(value, dict) else {}).items():
        if isinstance(key, str) and isinstance(item, str):
            out.append((key, item))
        else:
            _invalid(place.at(str(key)), f"{item!r} is no text: put it in quotes")
    return tuple(sorted(out))


def _address(place: Place, value: Any) -> list[Address]:
    found = read_address(value)
    if found is None:
        _invalid(place, f"{value!r} is no IP address: write such as 10.0.0.1 or fd00::1, in quotes")
        return []
    return [found]


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _part(obj: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = obj.get(name)
    return value if isinstance(value, dict) else {}


def _namespace(place: Place, obj: Mapping[str, Any]) -> tuple[str, Pairs]:
    metadata = _metadata(place, obj)
    return metadata["name"], _pairs(place.at("metadata").at("labels"), metadata.get("labels"))


def _pod(place: Place, obj: Mapping[str, Any]) -> Pod:
    metadata, spec, status = _metadata(place, obj), _part(obj, "spec"), _part(obj, "status")
    at = place.at("status").at("podIPs")
    listed = [item.get("ip") for item in _list(status.get("podIPs"))] or [status.get("podIP")]
    facts = PodFacts(
        str(metadata.get("namespace") or "default"),
        str(spec.get("serviceAccountName") or "default"),
        _pairs(place.at("metadata").at("labels"), metadata.get("labels")),
        tuple(sorted(set(_container_ports(place, spec)))),
    )
    addresses = tuple(address for ip in listed if ip not in (None, "") for address in _address(at, ip))
    gone = status.get("phase") in ("Succeeded", "Failed")
    is_host = spec.get("hostNetwork")
    if not isinstance(is_host, bool | None):
        _invalid(place.at("spec").at("hostNetwork"), f"{is_host!r} was read as false: write true or false, no text")
    return Pod(metadata["name"], facts, str(spec.get("nodeName") or ""), is_host is True, addresses, gone)


def _is_port(number: Any) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 65535


def _container_ports(place: Place, spec: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Named ports of containers and of sidecars (init containers that keep running)."""
    sidecars = [item for item in _list(spec.get("initContainers")) if item.get("restartPolicy") == "Always"]
    for container in [*_list(spec.get("containers")), *sidecars]:
        for port in _list(container.get("ports")):
            name, number, protocol = port.get("name"), port.get("containerPort"), port.get("protocol") or "TCP"
            if not _is_port(number) or protocol not in _PORT_KINDS:
                _invalid(place.at("spec").at("containers"), f"{port} is no port: write containerPort 1-65535")
            elif isinstance(name, str) and name:
                yield name, protocol, number


def _node(place: Place, obj: Mapping[str, Any]) -> Node:
    metadata = _metadata(place, obj)
    at = place.at("status").at("addresses")
    listed = [item for item in _list(_part(obj, "status").get("addresses")) if str(item.get("type", "")).endswith("IP")]
    listed.sort(key=lambda item: item.get("type") != "InternalIP")
    addresses = tuple(address for item in listed for address in _address(at, item.get("address")))
    return Node(metadata["name"], _pairs(place.at("metadata").at("labels"), metadata.get("labels")), addresses)


def _service(place: Place, obj: Mapping[str, Any]) -> Service:
    metadata, spec = _metadata(place, obj), _part(obj, "spec")
    listed = spec.get("clusterIPs") if isinstance(spec.get("clusterIPs"), list) else [spec.get("clusterIP")]
    outside = str(spec.get("externalName") or "") if spec.get("type") == "ExternalName" else ""
    at = place.at("spec").at("clusterIPs")
    return Service(
        str(metadata.get("namespace") or "default"),
        metadata["name"],
        _pairs(place.at("metadata").at("labels"), metadata.get("labels")),
        _pairs(place.at("spec").at("selector"), spec.get("selector")),
        tuple(_ports(place.at("spec").at("ports"), spec.get("ports"))),
        tuple(address for ip in listed or () if ip not in (None, "", "None") for address in _address(at, ip)),
        outside,
    )


def _slice(place: Place, obj: Mapping[str, Any]) -> list[Backend]:
    metadata = _metadata(place, obj)
    service = _part(metadata, "labels").get("kubernetes.io/service-name")
    if not isinstance(service, str):
        _invalid(place.at("metadata").at("labels"), "write kubernetes.io/service-name: the Service it belongs to")
        raise Closed
    namespace = str(metadata.get("namespace") or "default")
    ports = tuple(_ports(place.at("ports"), obj.get("ports")))
    out = []
    for i, endpoint in enumerate(_list(obj.get("endpoints"))):
        ready = _part(endpoint, "conditions").get("ready") is not False
        listed = endpoint.get("addresses")
        for ip in listed if isinstance(listed, list) else ():
            found = _address(place.at("endpoints").at(i), ip)
            out += [Backend(namespace, service, address, ports, ready) for address in found]
    return out


def _ports(place: Place, value: Any) -> Iterator[tuple[str, str, int]]:
    for i, port in enumerate(_list(value)):
        number, protocol = port.get("port"), port.get("protocol") or "TCP"
        if _is_port(number) and protocol in _PORT_KINDS:
            yield str(port.get("name") or ""), protocol, number
        else:
            _invalid(place.at(i), f"{port} is no port: write port 1-65535 and protocol {', '.join(_PORT_KINDS)}")


_READERS: dict[str, Callable[[Place, Mapping[str, Any]], Any]] = {
    "Namespace": _namespace,
    "Pod": _pod,
    "Node": _node,
    "Service": _service,
    "EndpointSlice": _slice,
}
