"""The narrow port to EC2: one method per verb, one attempt per call, typed frozen results.

Behind it stand the AWS SDK (`wire`) and, in tests and the simulator, the lab's strict model. It never retries, pages,
waits or counts: the gateway does, so that every attempt is paid for and the leader's term is asked before each one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from enitide_api.errors import EC2_CODES, EC2Error, EC2IndexOccupied, ec2_error
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.blocks import CidrReservation
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import (
    TAG_CLUSTER,
    TAG_TOKEN,
    CreateInterface,
    ElasticView,
    EniView,
    GroupView,
    RouteTableView,
    SubnetView,
)

T = TypeVar("T")


class Verb(StrEnum):
    """The EC2 calls we make, by EC2's own names."""

    DESCRIBE_INTERFACES = "DescribeNetworkInterfaces"
    DESCRIBE_INSTANCES = "DescribeInstances"
    DESCRIBE_INSTANCE_TYPES = "DescribeInstanceTypes"
    DESCRIBE_SUBNETS = "DescribeSubnets"
    DESCRIBE_GROUPS = "DescribeSecurityGroups"
    DESCRIBE_ROUTE_TABLES = "DescribeRouteTables"
    DESCRIBE_VPCS = "DescribeVpcs"
    DESCRIBE_ADDRESSES = "DescribeAddresses"
    GET_RESERVATIONS = "GetSubnetCidrReservations"
    CREATE = "CreateNetworkInterface"
    ATTACH = "AttachNetworkInterface"
    MODIFY = "ModifyNetworkInterfaceAttribute"
    DETACH = "DetachNetworkInterface"
    DELETE = "DeleteNetworkInterface"
    ASSIGN = "AssignPrivateIpAddresses"
    ASSIGN_IPV6 = "AssignIpv6Addresses"
    UNASSIGN = "UnassignPrivateIpAddresses"
    ASSOCIATE = "AssociateAddress"


MUTATIONS = frozenset(
    {
        Verb.CREATE,
        Verb.ATTACH,
        Verb.MODIFY,
        Verb.DETACH,
        Verb.DELETE,
        Verb.ASSIGN,
        Verb.ASSIGN_IPV6,
        Verb.UNASSIGN,
        Verb.ASSOCIATE,
    }
)

# Where one code means different things, the verb decides. EC2 answers an attachment at a taken device index (or of an
# ENI that is attached already) with InvalidParameterValue, told apart from other refusals by its text alone; we do not
# read texts: another index is tried, a bounded number of times, and the ENIs of the instance are read again.
_BY_VERB: dict[tuple[str, str], type[EC2Error]] = {(Verb.ATTACH, "InvalidParameterValue"): EC2IndexOccupied}


def refusal(verb: Verb, code: str, message: str, http_status: int) -> EC2Error:
    """The error for what EC2 answered to this verb; see `enitide_api.errors.EC2_CODES`."""
    leaf = _BY_VERB.get((verb, code))
    if leaf is not None and code in EC2_CODES:
        return leaf(f"{verb}: {code}: {message}", code=code, verb=verb)
    return ec2_error(code, message, verb, http_status)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a listing; `next_token` is empty on the last page."""

    items: tuple[T, ...]
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceQuery:
    """Which ENIs to list: by exactly one of these. At most 200 values, as EC2 allows per filter.

    `instance_ids`: attached to these, with no tag filter (primary and hand-made ENIs count). `tokens`: made for these
    intents. `interface_ids`: these, as a filter, so that one that is gone does not fail the others. `subnet_ids`: all
    in these, whoever they belong to. `loose_of`: made for the cluster of that name and attached to nothing.
    """

    instance_ids: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    interface_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    loose_of: str = ""

    def filters(self) -> dict[str, tuple[str, ...]]:
        """EC2's filters, by name; never empty."""
        asked = {
            "attachment.instance-id": self.instance_ids,
            f"tag:{TAG_TOKEN}": self.tokens,
            "network-interface-id": self.interface_ids,
            "subnet-id": self.subnet_ids,
            f"tag:{TAG_CLUSTER}": (self.loose_of,) if self.loose_of else (),
        }
        found = {name: values for name, values in asked.items() if values}
        if len(found) != 1:
            raise ValueError(f"{self}: name exactly one of its parts")
        return found | ({"status": ("available",)} if self.loose_of else {})


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One instance. `state` is EC2's word: pending, running, shutting-down, terminated, stopping, stopped."""

    id: str
    state: str


@dataclass(frozen=True, slots=True)
class VpcView:
    """One VPC's CIDRs that are associated now."""

    id: str
    cidrs: tuple[str, ...]
    ipv6_cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Assigned:
    """What one assign call added, and nothing that the ENI had before."""

    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    @property
    def pods(self) -> int:
        """Addresses for pods: a /28 is 16."""
        return len(self.addresses) + PREFIX_SIZE * len(self.prefixes)


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """All pages of one listing. `asked_at`: when the first page was asked for (Unix seconds)."""

    items: tuple[T, ...]
    asked_at: float


class Ec2Port(Protocol):
    """Each method raises leaves of `enitide_api.errors.EC2Error` and nothing else for what EC2 or the wire did.

    `token` is the page token of the page before, or empty. Views come with `asked_at` 0: only the caller knows.
    """

    async def describe_interfaces(self, query: InterfaceQuery, token: str) -> Page[EniView]: ...

    async def describe_instances(self, ids: tuple[str, ...], token: str) -> Page[InstanceView]:
        """By filter: an unknown id is missing from the answer and fails nothing."""
        ...

    async def describe_instance_type(self, name: str) -> InstanceLimits | None:
        """None for a type that EC2 does not know either."""
        ...

    async def describe_subnets(self, vpc_id: str, token: str) -> Page[SubnetView]: ...

    async def describe_groups(self, vpc_id: str, token: str) -> Page[GroupView]: ...

    async def describe_route_tables(self, vpc_id: str, token: str) -> Page[RouteTableView]: ...

    async def describe_vpcs(self, vpc_id: str, token: str) -> Page[VpcView]: ...

    async def subnet_reservations(self, subnet_id: str, token: str) -> Page[CidrReservation]:
        """The subnet's IPv4 CIDR reservations."""
        ...

    async def describe_elastic_ips(self, tags: Mapping[str, str]) -> tuple[ElasticView, ...]:
        """Those that carry all the tags. EC2's listing has no pages."""
        ...

    async def create_interface(self, order: CreateInterface) -> EniView:
        """The new ENI, detached, with its addresses, prefixes and tags."""
        ...

    async def attach_interface(self, eni_id: str, instance_id: str, card: int, index: int) -> str:
        """The attachment's id."""
        ...

    async def set_delete_on_termination(self, eni_id: str, attachment_id: str, *, value: bool) -> None: ...

    async def detach_interface(self, attachment_id: str) -> None: ...

    async def delete_interface(self, eni_id: str) -> None: ...

    async def assign_private(
        self, eni_id: str, *, addresses: int, prefixes: int, names: tuple[str, ...] = ()
    ) -> Assigned:
        """Exactly one of the counts is above 0; `names`: exactly these single addresses, as many as `addresses`."""
        ...

    async def associate_elastic_ip(self, eni_id: str, allocation_id: str) -> None:
        """With the ENI's own address; refused where either is associated already."""
        ...

    async def assign_ipv6_prefix(self, eni_id: str) -> tuple[str, ...]:
        """The new /80."""
        ...

    async def unassign_private(self, eni_id: str, addresses: tuple[str, ...], prefixes: tuple[str, ...]) -> None: ...
