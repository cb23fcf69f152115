"""Queries of `enitide policy verdict`: from whom, to whom, which protocol and port, and how their ends are found.

An end is `ns/pod`, an address (of a pod, a node, a Service, or outside), `node/NAME` or `service/NS/NAME`. What cannot
be read is a `UsageError` that names the query and the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NoReturn

from enitide_api.errors import UsageError
from enitide_policy.evaluate import End
from enitide_policy.model import PROTOCOLS
from enitide_policy.world import Address, Pod, Service, World, all_labels

FAMILIES = {"IPv4": 4, "IPv6": 6}
_FIELDS = ("id", "from", "to", "protocol", "port", "icmpType", "family")


@dataclass(frozen=True, slots=True)
class Target:
    """One end by name: the addresses it may be reached at, and who is behind each of them.

    `service` is set for a Service; then `ends` is empty. `gone`: a pod that has ended.
    """

    text: str
    ends: tuple[End, ...] = ()
    service: Service | None = None
    gone: bool = False

    @property
    def families(self) -> frozenset[int]:
        """4, 6 or both; both where nothing has an address yet."""
        known = {end.address.version for end in self.ends if end.address is not None}
        return frozenset(known) or frozenset({4, 6})

    def end(self, family: int) -> End:
        """The end to use for one family: the first of its addresses."""
        return next((e for e in self.ends if e.address is not None and e.address.version == family), self.ends[0])


@dataclass(frozen=True, slots=True)
class Query:
    """`port` is the destination port, of ICMP the type. `family` 0: not said."""

    id: Any
    source: Target
    target: Target
    protocol: str
    port: int
    family: int


def read_queries(value: Any, world: World) -> list[Query]:
    """A list of queries as YAML has it. `UsageError` for the first that cannot be read."""
    if not isinstance(value, list):
        raise UsageError("the query file must be a list of {id, from, to, protocol, port}")
    found = [_query(item, index, world) for index, item in enumerate(value)]
    seen: set[str] = set()
    for query in found:
        if str(query.id) in seen:
            raise UsageError(f"query id {query.id!r} is written twice: give each query an id of its own")
        seen.add(str(query.id))
    return found


def _query(item: Any, index: int, world: World) -> Query:
    if not isinstance(item, Mapping):
        raise UsageError(f"query {index} must be a mapping of {', '.join(_FIELDS)}")
    name = f"query {item.get('id', index)!r}"
    unknown = [key for key in item if key not in _FIELDS]
    if unknown:
        raise UsageError(f"{name}: unknown field {unknown[0]!r}: write {', '.join(_FIELDS)}")
    if item.get("id") is None:
        raise UsageError(f"query {index}: id is missing: write any name")
    protocol, family = _protocol(name, item)
    source, target = (target_of(_text(name, item, key), world, f"{name}: {key}") for key in ("from", "to"))
    if source.service:
        raise UsageError(f"{name}: from: a Service opens no connections: write a pod, a node or an address")
    return Query(item["id"], source, target, protocol, _port(name, item, protocol), family)


def _text(name: str, item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name}: {key} must be ns/pod, an address, node/NAME or service/NS/NAME")
    return value


def _protocol(name: str, item: Mapping[str, Any]) -> tuple[str, int]:
    word = item.get("protocol", "TCP")
    word = word.upper() if isinstance(word, str) else word
    family = item.get("family")
    if family is not None and family not in FAMILIES:
        raise UsageError(f"{name}: family {family!r}: write IPv4 or IPv6")
    if word not in (*PROTOCOLS, "ICMP", "ICMPV6"):
        raise UsageError(f"{name}: protocol {word!r}: write TCP, UDP, SCTP or ICMP")
    if word == "ICMPV6":
        if family == "IPv4":
            raise UsageError(f"{name}: ICMPv6 is IPv6: leave family out")
        return "ICMP", 6
    return word, FAMILIES.get(family, 0) if family else 0


def _port(name: str, item: Mapping[str, Any], protocol: str) -> int:
    key, other, low, high = ("icmpType", "port", 0, 255) if protocol == "ICMP" else ("port", "icmpType", 1, 65535)
    if item.get(other) is not None:
        raise UsageError(f"{name}: {protocol} has no {other}: write {key}")
    value = item.get(key)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{name}: {key} {value!r}: write a number from {low} to {high}")
    return value


def target_of(text: str, world: World, where: str) -> Target:
    """Who is meant. `UsageError` if there is no such pod, node or Service."""
    parts = text.split("/")
    address = _address(text)
    if address is not None:
        return _by_address(text, address, world)
    if len(parts) == 3 and parts[0] == "service":
        service = world.services.get((parts[1], parts[2]))
        if service is None:
            _missing(where, f"Service {parts[1]}/{parts[2]}")
        return Target(text, service=service)
    if len(parts) != 2:
        raise UsageError(f"{where}: {text!r}: write ns/pod, an address, node/NAME or service/NS/NAME")
    if parts[0] == "node" and parts[1] in node_addresses(world):
        return Target(text, _node_ends(parts[1], node_addresses(world)[parts[1]]))
    pod = world.pods.get((parts[0], parts[1]))
    if pod is None:
        _missing(where, f"Node {parts[1]}" if parts[0] == "node" else f"Pod {text}")
    return Target(text, gone=True) if pod.gone else Target(text, pod_ends(pod, world))


def _missing(where: str, what: str) -> NoReturn:
    raise UsageError(f"{where}: there is no {what} among the objects: correct the name, or add the object")


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _by_address(text: str, address: Address, world: World) -> Target:
    """Pods before nodes before Services; what nobody has is outside."""
    for pod in world.pods.values():
        if not pod.gone and not pod.host_network and address in pod.addresses:
            return Target(text, tuple(end for end in pod_ends(pod, world) if end.address == address))
    for name, addresses in node_addresses(world).items():
        if address in addresses:
            return Target(text, (End(address, node=name),))
    for service in world.services.values():
        if address in service.addresses:
            return Target(text, service=service)
    return Target(text, (End(address),))


def pod_ends(pod: Pod, world: World) -> tuple[End, ...]:
    """A pod at each of its addresses; a host-network pod is its node."""
    if pod.host_network:
        return _node_ends(pod.node or f"of {pod.name}", pod.addresses or node_addresses(world).get(pod.node, ()))
    labels = all_labels(world, pod)
    addresses: tuple[Address | None, ...] = pod.addresses or (None,)
    return tuple(End(address, pod.key, labels, pod.node) for address in addresses)


def _node_ends(name: str, addresses: tuple[Address, ...]) -> tuple[End, ...]:
    return tuple(End(address, node=name) for address in addresses) or (End(node=name),)


def node_addresses(world: World) -> dict[str, tuple[Address, ...]]:
    """Addresses of every node, also of those known only through pods on them."""
    found = {name: node.addresses for name, node in world.nodes.items()}
    for pod in world.pods.values():
        if pod.node:
            own = found.get(pod.node, ())
            extra = pod.addresses if pod.host_network and not pod.gone else ()
            found[pod.node] = tuple(dict.fromkeys([*own, *extra]))
    return found
