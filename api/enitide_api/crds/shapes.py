"""Schema building blocks: everything bounded, so that the cost of CEL rules stays legal."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
CIDR_LENGTH = 49  # an IPv6 address of 45 characters, a slash, three digits


def string(max_length: int = 253, **more: Any) -> Schema:
    """A bounded string."""
    return {"type": "string", "maxLength": max_length, **more}


def integer(**more: Any) -> Schema:
    """A 32-bit integer."""
    return {"type": "integer", "format": "int32", **more}


def count(**more: Any) -> Schema:
    """A number of addresses."""
    return integer(minimum=0, maximum=65536, **more)


def array(items: Schema, max_items: int, description: str = "") -> Schema:
    """A bounded, atomic list: one writer replaces it whole."""
    found: Schema = {"type": "array", "items": items, "maxItems": max_items, "x-kubernetes-list-type": "atomic"}
    return found | ({"description": description} if description else {})


def obj(
    properties: dict[str, Schema], description: str = "", *, rules: tuple[dict[str, str], ...] = (), **more: Any
) -> Schema:
    """An object with these properties and CEL rules."""
    found: Schema = {"type": "object", "properties": properties, **more}
    if rules:
        found["x-kubernetes-validations"] = list(rules)
    return found | ({"description": description} if description else {})


def rule(rule: str, message: str) -> dict[str, str]:
    """A CEL rule and the sentence shown when it fails."""
    return {"rule": rule, "message": message}


def tags(description: str) -> Schema:
    """AWS tags, at most 50."""
    return {
        "type": "object",
        "maxProperties": 50,
        "additionalProperties": string(256),
        "description": description,
    }


def duration(default: str | None, description: str) -> Schema:
    """A duration such as 30s."""
    more = {} if default is None else {"default": default}
    return string(24, pattern=DURATION, description=description, **more)


def cidrs(max_items: int, description: str) -> Schema:
    """A list of CIDRs."""
    return array(string(CIDR_LENGTH), max_items, description)


CONDITIONS = {
    "type": "array",
    "maxItems": 16,
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
    "items": obj(
        {
            "type": string(64),
            "status": string(8, enum=["True", "False", "Unknown"]),
            "reason": string(64),
            "message": string(2048),
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
        required=["type", "status", "reason", "message", "lastTransitionTime"],
    ),
}

_POOL_RULES = [
    rule(
        "!has(self.maxAllocate) || self.minAllocate <= self.maxAllocate",
        "minAllocate is above maxAllocate: lower minAllocate or raise maxAllocate",
    ),
]


def pool(with_defaults: bool, rules: bool) -> Schema:
    """The watermarks, with defaults (user intent) or without (what the operator publishes)."""

    def amount(value: int, description: str) -> Schema:
        return count(description=description, **({"default": value} if with_defaults else {}))

    found = obj(
        {
            "preAllocate": amount(4, "Free addresses kept ahead of demand."),
            "minAllocate": amount(0, "Floor of the pool, in addresses."),
            "maxAllocate": integer(
                minimum=1,
                maximum=65536,
                description="Ceiling of the pool; absent: what the instance can hold. Below preAllocate it caps.",
            ),
            "maxAboveWatermark": amount(4, "How many more are taken at once, and kept before any goes back."),
        },
        "Watermarks in IPv4 addresses.",
    )
    if with_defaults:
        found["default"] = {}
    return found | ({"x-kubernetes-validations": _POOL_RULES} if rules else {})
