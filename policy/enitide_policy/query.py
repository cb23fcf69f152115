"""Queries of `enitide policy verdict`: from whom, to whom, which protocol and port, and how their ends are found.

An end is `ns/pod`, an address (of a pod, a node, a Service, or outside), `node/NAME` or `service/NS/NAME`. What cannot
be read is a `UsageError` that names the query and the field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enitide_api.errors import UsageError
from enitide_policy.directory import Directory, Target
from enitide_policy.model import PROTOCOLS

FAMILIES = {"IPv4": 4, "IPv6": 6}
_FIELDS = ("id", "from", "to", "protocol", "port", "icmpType", "family")


@dataclass(frozen=True, slots=True)
class Query:
    """`port` is the destination port, of ICMP the type. `family` 0: not said."""

    id: Any
    source: Target
    target: Target
    protocol: str
    port: int
    family: int


def read_queries(value: Any, directory: Directory, places: Sequence[str] = ()) -> list[Query]:
    """A list of queries as YAML has it. `UsageError` for the first that cannot be read, with its place if given."""
    if not isinstance(value, list):
        raise UsageError("the query file must be a list of {id, from, to, protocol, port}")
    found: list[Query] = []
    seen: set[str] = set()
    for index, item in enumerate(value):
        place = f"{places[index]}: " if index < len(places) else ""
        query = _query(item, index, place, directory)
        if str(query.id) in seen:
            raise UsageError(f"{place}query id {query.id!r} is written twice: give each query an id of its own")
        seen.add(str(query.id))
        found.append(query)
    return found


def _query(item: Any, index: int, place: str, directory: Directory) -> Query:
    if not isinstance(item, Mapping):
        raise UsageError(f"{place}query {index} must be a mapping of {', '.join(_FIELDS)}")
    name = f"{place}query {item.get('id', index)!r}"
    unknown = [key for key in item if key not in _FIELDS]
    if unknown:
        raise UsageError(f"{name}: unknown field {unknown[0]!r}: write {', '.join(_FIELDS)}")
    if item.get("id") in (None, "") or not isinstance(item["id"], str | int | float):
        raise UsageError(f"{place}query {index}: id is missing: write any name")
    protocol, family = _protocol(name, item)
    source, target = (directory.named(_text(name, item, key), f"{name}: {key}") for key in ("from", "to"))
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
        raise UsageError(f"{name}: {protocol} has no {other}: leave it out, and write {key}")
    value = item.get(key)
    if value is None:
        raise UsageError(f"{name}: {key} is missing: write {key}, a number from {low} to {high}")
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{name}: {key} {value!r}: write a number from {low} to {high}")
    return value
