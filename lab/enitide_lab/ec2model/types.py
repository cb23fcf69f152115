"""What the model tells its callers: immutable views and results, in EC2's terms.

A view is a copy made when it was asked for; nothing that happens later changes it. Times are seconds on the model's
clock; addresses and CIDRs are text, as EC2 writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
Tags = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a listing. `next_token` is None on the last page."""

    items: tuple[T, ...]
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class Vpc:
    """A VPC. `cidrs[0]` is the primary IPv4 CIDR."""

    id: str
    cidrs: tuple[str, ...]
    ipv6_cidrs: tuple[str, ...]
    tags: Tags


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet. `free`: single addresses left; `whole_prefixes`: /28 blocks left whole; the rest as Describe has it."""

    id: str
    vpc_id: str
    zone: str
    zone_id: str
    cidr: str
    ipv6_cidr: str | None
    ipv6_association_id: str
    free: int
    whole_prefixes: int
    default_for_zone: bool
    map_public_ip: bool
    assign_ipv6: bool
    tags: Tags


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """A security group."""

    id: str
    name: str
    vpc_id: str
    tags: Tags


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A route table. `subnets`: explicit associations; subnets without any use the VPC's `main` one."""

    id: str
    vpc_id: str
    main: bool
    subnets: tuple[str, ...]
    tags: Tags


@dataclass(frozen=True, slots=True)
class CidrReservation:
    """A CIDR reservation of a subnet; `kind` is `prefix` or `explicit`."""

    id: str
    subnet_id: str
    cidr: str
    kind: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """How an ENI hangs on an instance; `status` is attaching, attached or detaching."""

    id: str
    instance_id: str
    card: int
    index: int
    status: str
    delete_on_termination: bool
    attach_time_s: float


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """An ENI. `addresses`: its own (primary) first, then the secondaries, without what prefixes hold.

    `elastic_ip`: the one on its own address.
    """

    id: str
    subnet_id: str
    vpc_id: str
    zone: str
    description: str
    mac: str
    groups: tuple[str, ...]
    status: str
    interface_type: str
    source_dest_check: bool
    addresses: tuple[str, ...]
    prefixes: tuple[str, ...]
    ipv6_addresses: tuple[str, ...]
    ipv6_prefixes: tuple[str, ...]
    attachment: Attachment | None
    requester_managed: bool
    tags: Tags
    elastic_ip: str = ""

    @property
    def primary(self) -> str | None:
        """The ENI's own IPv4 address; None on an IPv6-only ENI."""
        return self.addresses[0] if self.addresses else None


@dataclass(frozen=True, slots=True)
class ElasticAddress:
    """An Elastic IP. `association_id` and `interface_id` are empty while it is associated with nothing."""

    id: str
    address: str
    association_id: str
    interface_id: str
    tags: Tags


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance. `interfaces`: its ENIs by (card, index)."""

    id: str
    type: str
    image_id: str
    subnet_id: str
    vpc_id: str
    zone: str
    state: str
    launch_time_s: float
    interfaces: tuple[NetworkInterface, ...]
    tags: Tags


@dataclass(frozen=True, slots=True)
class Assigned:
    """What one Assign call added, and nothing that the ENI had before."""

    interface_id: str
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NicSpec:
    """One `NetworkInterface` entry of RunInstances; `interface_id` takes an existing ENI."""

    index: int = 0
    card: int = 0
    interface_id: str | None = None
    subnet_id: str | None = None
    groups: tuple[str, ...] = ()
    address: str | None = None
    addresses: tuple[str, ...] = ()
    secondary_count: int = 0
    prefix_count: int = 0
    prefixes: tuple[str, ...] = ()
    ipv6_count: int = 0
    ipv6_prefix_count: int = 0
    description: str = ""
    interface_type: str = "interface"
    delete_on_termination: bool = True
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the change feed. Fields that do not apply are empty; `index` and `card` are -1 when detached."""

    number: int
    time_s: float
    kind: str
    interface_id: str = ""
    mac: str = ""
    instance_id: str = ""
    subnet_id: str = ""
    card: int = -1
    index: int = -1
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    ipv6_addresses: tuple[str, ...] = ()
    ipv6_prefixes: tuple[str, ...] = ()
