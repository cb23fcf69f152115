"""What EC2 knows of instance types: the documents DescribeInstanceTypes answers with, and the limits in them.

The documents are those that moto bundles, read from its data file without importing moto. They stand for EC2's own
truth here; what the operator believes comes from the shipped table made of the same file, so the two can be made to
differ by giving the model further types.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TypeLimits:
    """Most ENIs per network card, and most IPv4 and IPv6 slots per ENI (addresses and prefixes both count)."""

    cards: tuple[int, ...]
    ipv4: int
    ipv6: int
    prefixes: bool

    @property
    def interfaces(self) -> int:
        """Most ENIs over all cards."""
        return sum(self.cards)


@cache
def documents() -> Mapping[str, Mapping[str, Any]]:
    """Instance type name to its DescribeInstanceTypes document."""
    spec = importlib.util.find_spec("moto")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("moto is not installed: install enitide[lab]")
    path = Path(spec.origin).parent / "ec2" / "resources" / "instance_types.json.gz"
    with gzip.open(path, "rb") as file:
        loaded: dict[str, dict[str, Any]] = json.load(file)
    return loaded


def limits_of(document: Mapping[str, Any]) -> TypeLimits:
    """The limits in one DescribeInstanceTypes document."""
    network = document["NetworkInfo"]
    cards = sorted(network["NetworkCards"], key=lambda card: int(card["NetworkCardIndex"]))
    return TypeLimits(
        cards=tuple(int(card["MaximumNetworkInterfaces"]) for card in cards),
        ipv4=int(network["Ipv4AddressesPerInterface"]),
        ipv6=int(network.get("Ipv6AddressesPerInterface", 0)),
        prefixes=bool(document.get("BareMetal")) or document.get("Hypervisor") == "nitro",
    )


def make_type(
    name: str, *, cards: Sequence[int], ipv4: int, ipv6: int | None = None, hypervisor: str = "nitro"
) -> dict[str, Any]:
    """A DescribeInstanceTypes document for an invented type."""
    return {
        "InstanceType": name,
        "BareMetal": False,
        "CurrentGeneration": True,
        "Hypervisor": hypervisor,
        "MemoryInfo": {"SizeInMiB": 8192},
        "VCpuInfo": {"DefaultVCpus": 2, "DefaultCores": 1, "DefaultThreadsPerCore": 2},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "NetworkInfo": {
            "DefaultNetworkCardIndex": 0,
            "EfaSupported": False,
            "EnaSupport": "required",
            "Ipv4AddressesPerInterface": ipv4,
            "Ipv6AddressesPerInterface": ipv4 if ipv6 is None else ipv6,
            "Ipv6Supported": True,
            "MaximumNetworkCards": len(cards),
            "MaximumNetworkInterfaces": sum(cards),
            "NetworkCards": [
                {"MaximumNetworkInterfaces": most, "NetworkCardIndex": card, "NetworkPerformance": "Up to 10 Gigabit"}
                for card, most in enumerate(cards)
            ],
            "NetworkPerformance": "Up to 10 Gigabit",
        },
    }
