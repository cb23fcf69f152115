"""A scenario as data: the world before anything happens, who asks for addresses, and what is done to them.

Frozen and complete: whoever runs it needs no file. `reading` makes it from YAML; a bench may make it by hand. Times are
seconds, counts are addresses. Each part keeps its place, so that what only the world can refuse (an address that is
taken, a class that contradicts itself) is told with its line too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enitide_api.settings import OperatorSettings
from enitide_lab.simulate.located import NOWHERE, Place

DEFAULT_TYPE = "m5.large"
DEFAULT_ZONE = "us-west-1a"
DEFAULT_VPC = "vpc-1"
DEFAULT_CIDRS = ("10.0.0.0/16",)


@dataclass(frozen=True, slots=True)
class Vpc:
    """The cluster's VPC."""

    id: str = DEFAULT_VPC
    cidrs: tuple[str, ...] = DEFAULT_CIDRS
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Subnet:
    """`free`, `whole_prefixes`: what is left once all that the scenario lists exists; None for the defaults."""

    id: str
    cidr: str
    zone: str = DEFAULT_ZONE
    vpc: str = ""
    free: int | None = None
    whole_prefixes: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class RouteTable:
    """It may list subnets that are not there."""

    id: str
    main: bool = False
    subnets: tuple[str, ...] = ()
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Group:
    """A security group of the cluster's VPC."""

    id: str
    tags: Mapping[str, str] = field(default_factory=dict)
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class InstanceType:
    """`document`: as DescribeInstanceTypes has it. Not `shipped`: EC2 knows it, our table does not."""

    name: str
    document: Mapping[str, Any]
    shipped: bool = True


@dataclass(frozen=True, slots=True)
class Eni:
    """An ENI (or `count` of them) that exists beforehand. See the guide for each field."""

    subnet: str = ""
    id: str = ""
    count: int = 1
    node: str = ""
    card: int = 0
    index: int | None = None
    address: str = ""
    addresses: tuple[str, ...] = ()
    address_count: int = 0
    prefixes: tuple[str, ...] = ()
    prefix_count: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""
    groups: tuple[str, ...] = ()
    ipv4: bool = True
    hidden: bool = False
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class ClassObject:
    """An ENIClass: its spec as it would stand in the object."""

    name: str
    spec: Mapping[str, Any]
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """`count` nodes: NAME alone for one, else NAME-1, NAME-2 and so on."""

    name: str
    count: int = 1
    type: str = DEFAULT_TYPE
    subnet: str = ""
    groups: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    place: Place = NOWHERE

    @property
    def members(self) -> tuple[str, ...]:
        """The nodes' names."""
        return (self.name,) if self.count == 1 else tuple(f"{self.name}-{n}" for n in range(1, self.count + 1))


@dataclass(frozen=True, slots=True)
class World:
    """All that EC2 has before time begins."""

    cluster: str = ""
    vpc: Vpc = Vpc()
    types: Mapping[str, InstanceType] = field(default_factory=dict)
    route_tables: tuple[RouteTable, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    groups: tuple[Group, ...] = ()
    interfaces: tuple[Eni, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """`events` in order; the same scenario gives the same result."""

    world: World
    nodes: tuple[NodeGroup, ...]
    classes: tuple[ClassObject, ...] = ()
    settings: OperatorSettings = field(default_factory=OperatorSettings)
    events: tuple[Any, ...] = ()
    seed: int = 0

    def members(self) -> dict[str, tuple[str, ...]]:
        """The nodes that each name stands for: a group all of its, a node itself."""
        found = {group.name: group.members for group in self.nodes}
        return found | {name: (name,) for group in self.nodes for name in group.members}
