"""Makes ipam/enitide_ipam/limits.json from the DescribeInstanceTypes document that moto bundles.

Types share few shapes (cards, addresses per interface, hypervisor), so the table is a list of shapes and a map from
type to shape: small on disk and in memory.
"""

from __future__ import annotations

import gzip
import json
from importlib import metadata, resources
from typing import Any

TARGET = "ipam/enitide_ipam/limits.json"


def document() -> dict[str, Any]:
    """EC2's own description of each type, as moto ships it."""
    raw = resources.files("moto").joinpath("ec2/resources/instance_types.json.gz").read_bytes()
    types: dict[str, Any] = json.loads(gzip.decompress(raw))
    return types


def shape_of(described: dict[str, Any]) -> list[Any]:
    """[interfaces per card, IPv4 per interface, IPv6 per interface, hypervisor] of one described type."""
    network = described["NetworkInfo"]
    cards = sorted(network["NetworkCards"], key=lambda card: card["NetworkCardIndex"])
    return [
        [card["MaximumNetworkInterfaces"] for card in cards],
        network["Ipv4AddressesPerInterface"],
        network["Ipv6AddressesPerInterface"],
        described.get("Hypervisor", ""),
    ]


def render() -> str:
    """The whole table as JSON text, the same for the same moto."""
    described = document()
    by_type = {name: shape_of(entry) for name, entry in described.items()}
    shapes = sorted({json.dumps(shape) for shape in by_type.values()})
    number = {shape: position for position, shape in enumerate(shapes)}
    table = {
        "source": {"moto": metadata.version("moto"), "types": len(by_type)},
        "shapes": [json.loads(shape) for shape in shapes],
        "types": {name: number[json.dumps(by_type[name])] for name in sorted(by_type)},
    }
    rows = [f'  "source": {json.dumps(table["source"])}', _rows("shapes", table["shapes"]), _types(table["types"])]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _rows(key: str, rows: list[Any]) -> str:
    return f'  "{key}": [\n' + ",\n".join(f"    {json.dumps(row)}" for row in rows) + "\n  ]"


def _types(types: dict[str, int]) -> str:
    return '  "types": {\n' + ",\n".join(f'    "{name}": {number}' for name, number in types.items()) + "\n  }"


def files() -> dict[str, str]:
    """For `make generate`: path in the tree and text."""
    return {TARGET: render()}
