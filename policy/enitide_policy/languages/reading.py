"""Reading what users wrote: a place in an object, and how a part that is not understood is refused.

`Place.refuse` notes the problem and raises `Closed`; whoever reads the surrounding part catches it and puts the closed
form of that part in its place. So one wrong CIDR closes one peer and the rest of the object stays in force.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Network, ip_network
from typing import Any, NoReturn

from enitide_api.reasons import Reason
from enitide_policy.mapstate import Network
from enitide_policy.problems import ObjectRef, Problem
from enitide_policy.selectors import Operator, Requirement

_MAPPED_BITS = 96  # of ::ffff:0:0/96, where IPv4 is written in IPv6
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?!.*--)(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Closed(Exception):
    """This part is not understood; its problem is noted."""


@dataclass(frozen=True, slots=True)
class Place:
    """A field of an object. `found` gathers the problems of the whole object; `cluster` is the name of this cluster.

    `host_policy`: policies of nodes are in force.
    """

    ref: ObjectRef
    path: str = ""
    found: list[Problem] = field(default_factory=list)
    cluster: str = "default"
    host_policy: bool = False

    def at(self, name: str | int) -> Place:
        """The place below, by key or by index."""
        step = f"[{name}]" if isinstance(name, int) else f".{name}" if self.path else name
        return Place(self.ref, self.path + step, self.found, self.cluster, self.host_policy)

    def note(self, reason: Reason, message: str) -> None:
        """A problem that closes nothing."""
        self.found.append(Problem(self.ref, self.path, reason, message))

    def refuse(self, message: str, reason: Reason = Reason.POLICY_INVALID) -> NoReturn:
        """A problem that closes the part read just now."""
        self.note(reason, message)
        raise Closed

    def unsupported(self, message: str) -> NoReturn:
        """Valid in its language, but not done here."""
        self.refuse(message, Reason.POLICY_UNSUPPORTED)

    def mapping(self, value: Any) -> dict[str, Any]:
        """A mapping with text keys."""
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self.refuse(f"must be a mapping, not {_kind(value)}")
        return value

    def fields(self, value: Any, known: str) -> dict[str, Any]:
        """A mapping with no other keys than the `known` (blank-separated). Keys set to null are absent."""
        mapping = {key: item for key, item in self.mapping(value).items() if item is not None}
        names = known.split()
        unknown = [key for key in mapping if key not in names]
        for key in unknown:
            self.at(key).note(Reason.POLICY_UNKNOWN_FIELD, f"unknown field: write one of {', '.join(names)}")
        if unknown:
            raise Closed
        return mapping

    def items(self, value: Any) -> Iterator[tuple[Place, Any]]:
        """Each item of a list with its place; null is an empty list."""
        if value is not None and not isinstance(value, list):
            self.refuse(f"must be a list, not {_kind(value)}")
        return ((self.at(i), item) for i, item in enumerate(value or ()))

    def text(self, value: Any, allowed: tuple[str, ...] = ()) -> str:
        """A text, one of `allowed` where that is given."""
        if not isinstance(value, str) or (allowed and value not in allowed):
            self.refuse(f"{value!r} is not known: write {', '.join(allowed)}" if allowed else _no_text(value))
        return value

    def number(self, value: Any, low: int, high: int) -> int:
        """A whole number within bounds."""
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(f"{value!r} is no number from {low} to {high}")
        return value

    def port_name(self, value: Any) -> str:
        """A name as container ports have: lower-case letters, digits, single dashes, with a letter."""
        if not isinstance(value, str) or not _PORT_NAME.fullmatch(value):
            self.refuse(f"{value!r} is neither a port number (1-65535) nor the name of a container port")
        return value

    def network(self, value: Any) -> Network:
        """A range of addresses. Bits behind the prefix are ignored, as Kubernetes does."""
        if not isinstance(value, str) or "/" not in value or "%" in value:
            self.refuse(f"{value!r} is no CIDR: write an address and a prefix length, such as 10.0.0.0/8 or fd00::/8")
        head, _, length = value.partition("/")
        if not length.isdecimal() or not length.isascii():
            self.refuse(f"{value!r} is no CIDR: the prefix length must be a number, such as in 10.0.0.0/8")
        try:
            found = ip_network(f"{head}/{int(length)}", strict=False)
        except ValueError as error:
            self.refuse(f"{value!r} is no CIDR ({error}): write such as 10.0.0.0/8 or fd00::/8")
        mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
        if mapped is not None and found.prefixlen >= _MAPPED_BITS:
            self.refuse(f"{value!r} is IPv4 written in IPv6: write {mapped}/{found.prefixlen - _MAPPED_BITS}")
        return found

    def requirements(self, value: Any, key_of: Callable[[Place, str], str]) -> list[Requirement]:
        """A label selector. `key_of` gives the flat key of a label and refuses what cannot be one."""
        found = self.fields(value, "matchLabels matchExpressions")
        out = []
        for key, wanted in self.at("matchLabels").mapping(found.get("matchLabels", {})).items():
            place = self.at("matchLabels").at(key)
            out.append(Requirement(key_of(place, key), Operator.IN, (place.label_value(wanted),)))
        for place, item in self.at("matchExpressions").items(found.get("matchExpressions")):
            out.append(_expression(place, item, key_of))
        return out

    def label_key(self, key: Any) -> str:
        """A qualified name: an optional DNS prefix and a name of up to 63 characters."""
        prefix, slash, name = key.rpartition("/") if isinstance(key, str) else ("", "", "")
        if not _NAME.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
            self.refuse(f"{key!r} is no label key: write a name such as app or example.com/app")
        return str(key)

    def label_value(self, value: Any) -> str:
        """Up to 63 characters, or empty."""
        if not isinstance(value, str) or (value and not _NAME.fullmatch(value)):
            self.refuse(f"{value!r} is no label value: write up to 63 letters, digits, '-', '_', '.', in quotes")
        return value


def _expression(place: Place, item: Any, key_of: Callable[[Place, str], str]) -> Requirement:
    found = place.fields(item, "key operator values")
    key = key_of(place.at("key"), found.get("key", ""))
    operator = Operator(place.at("operator").text(found.get("operator"), tuple(Operator)))
    values = tuple(sorted({p.label_value(v) for p, v in place.at("values").items(found.get("values"))}))
    wants = operator in (Operator.IN, Operator.NOT_IN)
    if wants != bool(values):
        place.at("values").refuse(f"{operator} needs at least one value" if wants else f"{operator} takes no values")
    return Requirement(key, operator, values)


def _no_text(value: Any) -> str:
    quoted = f': write "{value}", in quotes' if isinstance(value, int) and not isinstance(value, bool) else ""
    return f"must be a text, not {_kind(value)}{quoted}"


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", type(None): "nothing", bool: "true or false"}
    return names.get(type(value), "a number")
