"""The few objects that kubectl sends as protobuf whatever the server likes, as `kubectl create namespace` does.

Table-driven and only for the kinds below (field numbers from the public `generated.proto` files). A field that is not
in the tables makes the body unreadable, which is told: nothing of what a person asked for is dropped on the way.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

MAGIC = b"k8s\x00"

_Message = dict[int, tuple[str, str]]
_META: _Message = {
    1: ("name", "string"),
    2: ("generateName", "string"),
    3: ("namespace", "string"),
    4: ("selfLink", "string"),
    5: ("uid", "string"),
    6: ("resourceVersion", "string"),
    7: ("generation", "zero"),
    8: ("creationTimestamp", "empty"),
    11: ("labels", "map string"),
    12: ("annotations", "map string"),
}
_MESSAGES: dict[str, _Message] = {
    "Meta": _META,
    "Namespace": {1: ("metadata", "Meta"), 2: ("spec", "empty"), 3: ("status", "empty")},
    "ConfigMap": {
        1: ("metadata", "Meta"),
        2: ("data", "map string"),
        3: ("binaryData", "map bytes"),
        4: ("immutable", "bool"),
    },
    "Secret": {
        1: ("metadata", "Meta"),
        2: ("data", "map bytes"),
        3: ("type", "string"),
        4: ("stringData", "map string"),
        5: ("immutable", "bool"),
    },
    "ServiceAccount": {1: ("metadata", "Meta"), 4: ("automountServiceAccountToken", "bool")},
    "Eviction": {1: ("metadata", "Meta"), 2: ("deleteOptions", "DeleteOptions")},
    "DeleteOptions": {1: ("gracePeriodSeconds", "int"), 4: ("propagationPolicy", "string")},
    "Envelope": {
        1: ("type", "TypeMeta"),
        2: ("raw", "raw"),
        3: ("contentEncoding", "string"),
        4: ("contentType", "string"),
    },
    "TypeMeta": {1: ("apiVersion", "string"), 2: ("kind", "string")},
}


class Unreadable(ValueError):
    """Not one of the objects that are read here, or not as it should be."""


def decode(body: bytes) -> dict[str, Any]:
    """The object as JSON would have it. `Unreadable` says what it met."""
    if not body.startswith(MAGIC):
        raise Unreadable("the body does not begin as Kubernetes' protobuf does")
    try:
        envelope = _message("Envelope", body[len(MAGIC) :])
        kind = envelope.get("type", {}).get("kind", "")
        if kind not in _MESSAGES:
            raise Unreadable(f"a {kind or 'nameless kind'} is not read as protobuf")
        return {**envelope["type"], **_message(kind, envelope.get("raw", b""))}
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise Unreadable(f"the body is cut or garbled: {error}") from error


def _message(name: str, body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(body):
        if number not in _MESSAGES[name]:
            raise Unreadable(f"field {number} of a {name} is not read as protobuf")
        key, kind = _MESSAGES[name][number]
        if kind in ("empty", "zero"):
            if not _is_empty(value):
                raise Unreadable(f"{key} of a {name} is the server's to set")
        elif kind.startswith("map "):
            entry = dict(_fields(_bytes(value)))
            found.setdefault(key, {})[_bytes(entry[1]).decode()] = _scalar(kind[4:], entry.get(2, b""))
        else:
            plain = _message(kind, _bytes(value)) if kind in _MESSAGES else _scalar(kind, value)
            if plain != "":  # protobuf writes empty strings where JSON leaves them out
                found[key] = plain
    return found


def _is_empty(value: bytes | int) -> bool:
    """Nothing, or a message of nothing: Go writes structs that hold no more than zero values."""
    return value == 0 if isinstance(value, int) else all(_is_empty(inner) for _, inner in _fields(value))


def _scalar(kind: str, value: bytes | int) -> Any:
    match kind:
        case "bool":
            return bool(value)
        case "int":
            return value
        case "raw":
            return _bytes(value)
        case "bytes":
            return base64.b64encode(_bytes(value)).decode()
    return _bytes(value).decode()


def _bytes(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise Unreadable("a number stands where text should")
    return value


def _fields(body: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field: varints as int, everything with a length as bytes."""
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        wire = tag & 7
        value, at = _varint(body, at)
        if wire == 0:
            yield tag >> 3, value
        elif wire == 2 and at + value <= len(body):
            yield tag >> 3, body[at : at + value]
            at += value
        else:
            raise Unreadable(f"wire type {wire} is not read here, or the body is cut")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
