"""Manifests of Namespace, Pod, Node, Service, EndpointSlice and policies into a world and policies.

A part of an object that cannot be used is left out and noted; nothing is guessed. Kinds that neither carry traffic nor
judge it are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from enitide_api.reasons import Reason
from enitide_policy.labels import Pairs, PodFacts
from enitide_policy.languages.reading import Closed, Place
from enitide_policy.model import PROTOCOLS, Policy
from enitide_policy.parse import NAMESPACED, VERSIONS, clashes, is_policy, parse
from enitide_policy.problems import ObjectRef, Problem
from enitide_policy.world import Address, Backend, Node, Pod, Service, World

_POLICY_GROUPS = (
    "cilium.io",
    "policy.networking.k8s.io",
    "crd.projectcalico.org",
    "projectcalico.org",
    "crd.antrea.io",
)
_CLUSTER_WIDE = frozenset({"Namespace", "Node", *VERSIONS}) - NAMESPACED
_NAMESPACED = frozenset({"Pod", "Service", "EndpointSlice"})
_PORT_KINDS = tuple(PROTOCOLS)


@dataclass(frozen=True, slots=True)
class Manifests:
    """What a set of objects says."""

    world: World
    policies: tuple[Policy, ...]
    problems: tuple[Problem, ...]


def read(objects: Iterable[Mapping[str, Any]]) -> Manifests:
    """All objects in order; a later one of the same kind and name replaces an earlier one, as applying them would."""
    found: list[Problem] = []
    latest: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for obj in _flattened(objects):
        ref = _ref(obj)
        key = (ref.kind, ref.namespace, ref.name)
        if key in latest:
            found.append(Problem(ref, "metadata.name", Reason.OBJECT_INVALID, "written twice: the last one counts"))
        latest[key] = obj
    rows: dict[str, list[Any]] = {}
    policies: list[Policy] = []
    for obj in latest.values():
        kind = str(obj.get("kind", ""))
        if is_policy(obj):
            parsed = parse(obj)
            policies += parsed.policies
            found += parsed.problems
        elif kind in _READERS:
            with suppress(Closed):
                rows.setdefault(kind, []).append(_READERS[kind](Place(_ref(obj), found=found), obj))
        else:
            found += _stranger(obj)
    return Manifests(_world(rows), tuple(policies), tuple(found + clashes(policies)))


def _world(rows: Mapping[str, list[Any]]) -> World:
    return World(
        namespaces=dict(rows.get("Namespace", ())),
        pods={pod.key: pod for pod in rows.get("Pod", ())},
        nodes={node.name: node for node in rows.get("Node", ())},
        services={(service.namespace, service.name): service for service in rows.get("Service", ())},
        backends=tuple(backend for some in rows.get("EndpointSlice", ()) for backend in some),
    )


def _flattened(objects: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for obj in objects:
        kind = str(obj.get("kind", ""))
        if isinstance(obj.get("items"), list) and kind.endswith("List"):
            each = {"apiVersion": obj.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
            yield from _flattened({**each, **item} for item in obj["items"] if isinstance(item, dict))
        else:
            yield obj


def _ref(obj: Mapping[str, Any]) -> ObjectRef:
    kind = str(obj.get("kind", ""))
    metadata = obj.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    usual = "default" if kind in NAMESPACED or kind in _NAMESPACED else ""
    namespace = "" if kind in _CLUSTER_WIDE else str(metadata.get("namespace") or usual)
    return ObjectRef(kind, namespace, str(metadata.get("name") or ""))


def _stranger(obj: Mapping[str, Any]) -> list[Problem]:
    """A policy of a kind that is not read must not go unnoticed; a Deployment may."""
    group = str(obj.get("apiVersion", "")).partition("/")[0]
    kind = str(obj.get("kind", ""))
    if not kind:
        return [Problem(_ref(obj), "kind", Reason.OBJECT_INVALID, "write a kind and an apiVersion")]
    if group not in _POLICY_GROUPS and not kind.endswith("NetworkPolicy"):
        return []
    message = f"{kind} of {obj.get('apiVersion')} is not read: it has no effect; write one of {', '.join(VERSIONS)}"
    return [Problem(_ref(obj), "kind", Reason.POLICY_UNSUPPORTED, message)]


def _invalid(place: Place, message: str) -> None:
    place.note(Reason.OBJECT_INVALID, message)


def _metadata(place: Place, obj: Mapping[str, Any]) -> dict[str, Any]:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        _invalid(place.at("metadata").at("name"), "write a name")
        raise Closed
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
    try:
        return [ip_address(str(value))]
    except ValueError:
        _invalid(place, f"{value!r} is no IP address")
        return []


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
    addresses = tuple(address for ip in listed if ip is not None for address in _address(at, ip))
    gone = status.get("phase") in ("Succeeded", "Failed")
    return Pod(
        metadata["name"], facts, str(spec.get("nodeName") or ""), spec.get("hostNetwork") is True, addresses, gone
    )


def _container_ports(place: Place, spec: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Named ports of containers and of sidecars (init containers that keep running)."""
    sidecars = [item for item in _list(spec.get("initContainers")) if item.get("restartPolicy") == "Always"]
    for container in [*_list(spec.get("containers")), *sidecars]:
        for port in _list(container.get("ports")):
            name, number, protocol = port.get("name"), port.get("containerPort"), port.get("protocol") or "TCP"
            if not isinstance(number, int) or not 1 <= number <= 65535 or protocol not in _PORT_KINDS:
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
    at = place.at("spec").at("clusterIPs")
    return Service(
        str(metadata.get("namespace") or "default"),
        metadata["name"],
        _pairs(place.at("metadata").at("labels"), metadata.get("labels")),
        _pairs(place.at("spec").at("selector"), spec.get("selector")),
        tuple(_ports(place.at("spec").at("ports"), spec.get("ports"))),
        tuple(address for ip in listed or () if ip not in (None, "", "None") for address in _address(at, ip)),
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
        if isinstance(number, int) and 1 <= number <= 65535 and protocol in _PORT_KINDS:
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
