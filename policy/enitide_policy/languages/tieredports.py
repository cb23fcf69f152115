"""`protocols` of ClusterNetworkPolicy and `ports` of its ancestors."""

from __future__ import annotations

from typing import Any

from enitide_policy.languages.reading import Place
from enitide_policy.model import ANY_L4, L4, PROTOCOLS

_MAX = 25


def protocols(place: Place, value: Any) -> tuple[L4, ...]:
    """Absent: any protocol, ICMP included."""
    return tuple(_protocol(at, item) for at, item in _listed(place, value, _MAX)) if value is not None else ANY_L4


def ports(place: Place, value: Any) -> tuple[L4, ...]:
    """The same in the words of v1alpha1."""
    return tuple(_port(at, item) for at, item in _listed(place, value, 100)) if value is not None else ANY_L4


def _listed(place: Place, value: Any, limit: int) -> list[tuple[Place, Any]]:
    items = list(place.items(value))
    if not 1 <= len(items) <= limit:
        place.refuse(f"write 1 to {limit} items, or leave the field out to mean everything")
    return items


def _one(place: Place, item: Any, known: str) -> tuple[str, Any]:
    found = place.fields(item, known)
    if len(found) != 1:
        place.refuse(f"write exactly one of {', '.join(known.split())}")
    return next(iter(found.items()))


def _protocol(place: Place, item: Any) -> L4:
    word, value = _one(place, item, "tcp udp sctp destinationNamedPort")
    at = place.at(word)
    if word == "destinationNamedPort":
        return L4(name=at.port_name(value))
    found = at.fields(value, "destinationPort")
    if "destinationPort" not in found:
        at.refuse("write destinationPort: {number: 80} or {range: {start: 1, end: 65535}}")
    first, last = _destination(at.at("destinationPort"), found["destinationPort"])
    return L4(PROTOCOLS[word.upper()], first, last)


def _destination(place: Place, value: Any) -> tuple[int, int]:
    word, given = _one(place, value, "number range")
    at = place.at(word)
    if word == "number":
        number = at.number(given, 1, 65535)
        return number, number
    return _range(at, at.fields(given, "start end"))


def _range(place: Place, found: dict[str, Any]) -> tuple[int, int]:
    start = place.at("start").number(found.get("start"), 1, 65535)
    end = place.at("end").number(found.get("end"), 1, 65535)
    if end <= start:
        place.at("end").refuse(f"end {end} must be above start {start}")
    return start, end


def _port(place: Place, item: Any) -> L4:
    word, value = _one(place, item, "portNumber namedPort portRange")
    at = place.at(word)
    if word == "namedPort":
        return L4(name=at.port_name(value))
    found = at.fields(value, "protocol port" if word == "portNumber" else "protocol start end")
    protocol = PROTOCOLS[at.at("protocol").text(found.get("protocol", "TCP"), tuple(PROTOCOLS))]
    if word == "portNumber":
        number = at.at("port").number(found.get("port"), 1, 65535)
        return L4(protocol, number, number)
    return L4(protocol, *_range(at, found))
