"""SubnetReport as Python sees it: what is left in one subnet, who holds the rest, and when it runs full.

Written by the operator alone, named as the subnet. `spec` says which subnet it is, `status` how it stands. The map of
/28s is a short text; `enitide_ipam.block_text` writes and reads it.
"""

from __future__ import annotations

import msgspec

from enitide_api.resources import API_VERSION, Condition, Metadata, Struct


class SubnetReportSpec(Struct, frozen=True, kw_only=True):
    """Which subnet."""

    vpc_id: str = msgspec.field(name="vpcID", default="")
    availability_zone: str = ""
    cidr: str = ""
    ipv6_cidr: str = msgspec.field(name="ipv6CIDR", default="")


class SubnetAddresses(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """IPv4 addresses. `free` after the operator's own debits; None: not known before the map has been read.

    `reserved`: AWS's own five and explicit CIDR reservations. `ours`: this cluster's ENIs and nodes, other ENIs
    carry another cluster's tag (`other_clusters`) or none of ours (`foreign`).
    """

    total: int = 0
    free: int = 0
    ours: int | None = None
    other_clusters: int | None = None
    foreign: int | None = None
    reserved: int | None = None


class ClusterUse(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Addresses of another cluster, by the name on its ENIs' tags."""

    name: str
    addresses: int


class PrefixBlocks(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """/28 blocks: `whole` can become a prefix, `broken` have some addresses left, `full` none."""

    total: int = 0
    whole: int = 0
    broken: int = 0
    full: int = 0


class UsePoint(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """From `at` (RFC 3339) on `used` addresses were not free, until the next point."""

    at: str
    used: int


class ForecastStatus(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """When the subnet runs full if it goes on as it did; see `enitide_ipam.forecast` for the method.

    `per_hour`: addresses a hour, the median slope; `per_hour_low`, `per_hour_high` its quartiles. `full_at`: by the
    median, `earliest` by the upper quartile; None: not within the horizon. `hours`, `points`: what it rests on.
    """

    full_at: str | None = None
    earliest: str | None = None
    per_hour: float = 0.0
    per_hour_low: float = 0.0
    per_hour_high: float = 0.0
    confidence: str = ""
    hours: float = 0.0
    points: int = 0


class SubnetReportStatus(Struct, frozen=True, kw_only=True):
    """`observed_at`: when EC2 was asked for the map (RFC 3339), empty before the first reading."""

    observed_at: str = ""
    addresses: SubnetAddresses = SubnetAddresses()
    clusters: tuple[ClusterUse, ...] = ()
    prefixes: PrefixBlocks | None = None
    map: str = ""
    history: tuple[UsePoint, ...] = ()
    forecast: ForecastStatus | None = None
    conditions: tuple[Condition, ...] = ()


class SubnetReport(Struct, frozen=True, kw_only=True):
    """One per subnet that nodes of this cluster can use, cluster-scoped, named as the subnet."""

    api_version: str = API_VERSION
    kind: str = "SubnetReport"
    metadata: Metadata = Metadata()
    spec: SubnetReportSpec = SubnetReportSpec()
    status: SubnetReportStatus = SubnetReportStatus()
