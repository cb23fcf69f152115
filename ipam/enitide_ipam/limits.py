"""What EC2 allows per instance type: interfaces per network card, addresses per interface, prefixes or not.

The table `limits.json` is generated (`tools/generate_limits.py`), loaded on first use and kept as small tuples, since
the agent carries it too. An unknown type is None, never a guess.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class InstanceLimits:
    """`cards`: most interfaces per network card, by card number. Per-interface counts include the ENI's own address.

    `hypervisor`: nitro, xen, or empty for bare metal. `prefixes`: /28 prefixes may be assigned (nitro and bare metal).
    """

    type: str
    cards: tuple[int, ...]
    ipv4_per_interface: int
    ipv6_per_interface: int
    hypervisor: str
    prefixes: bool


def limits_for(instance_type: str) -> InstanceLimits | None:
    """Limits of a type, None for a type the table does not know (reason LimitsUnknown)."""
    table = _table()
    shape = table["types"].get(instance_type)
    return None if shape is None else from_shape(instance_type, table["shapes"][shape])


def from_shape(instance_type: str, shape: list[Any]) -> InstanceLimits:
    """One row of the table: [cards, IPv4 per interface, IPv6 per interface, hypervisor]."""
    cards, ipv4, ipv6, hypervisor = shape
    return InstanceLimits(instance_type, tuple(cards), ipv4, ipv6, hypervisor, prefixes=hypervisor != "xen")


def known_types() -> tuple[str, ...]:
    """Every type in the table, sorted."""
    return tuple(sorted(_table()["types"]))


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    raw = resources.files("enitide_ipam").joinpath("limits.json").read_bytes()
    table: dict[str, Any] = json.loads(raw)
    return table
