"""Schema of SubnetReport: all of it is the operator's."""

from __future__ import annotations

from enitide_api.crds.shapes import CIDR_LENGTH, CONDITIONS, Schema, array, integer, obj, string

_MOST_BLOCKS_TEXT = 16384  # a /16, the largest subnet AWS allows, has 4,096 blocks
_MOST_POINTS = 256


def _time(description: str = "") -> Schema:
    found: Schema = {"type": "string", "format": "date-time"}
    return found | ({"description": description} if description else {})


def _number(description: str = "") -> Schema:
    found: Schema = {"type": "number"}
    return found | ({"description": description} if description else {})


def _maybe(description: str) -> Schema:
    return integer(minimum=0, maximum=65536, nullable=True, description=description)


_SPEC = obj(
    {
        "vpcID": string(64),
        "availabilityZone": string(64),
        "cidr": string(CIDR_LENGTH),
        "ipv6CIDR": string(CIDR_LENGTH),
    },
    "Which subnet.",
)

_STATUS = obj(
    {
        "observedAt": _time("When EC2 was asked for the map."),
        "addresses": obj(
            {
                "total": integer(minimum=0, maximum=65536, description="Size of the IPv4 CIDR."),
                "free": integer(minimum=0, maximum=65536, description="Left, after the operator's own debits."),
                "ours": _maybe("Held by this cluster's ENIs and nodes."),
                "otherClusters": _maybe("Held by ENIs with another cluster's tag."),
                "foreign": _maybe("Held by anyone else."),
                "reserved": _maybe("AWS's own and explicit CIDR reservations."),
            },
            "IPv4 addresses.",
        ),
        "clusters": array(
            obj({"name": string(256), "addresses": integer(minimum=0)}, required=["name", "addresses"]),
            64,
            "Other clusters, by the name on their ENIs.",
        ),
        "prefixes": obj(
            {
                "total": integer(minimum=0),
                "whole": integer(minimum=0, description="Can become a prefix."),
                "broken": integer(minimum=0, description="Some addresses are left."),
                "full": integer(minimum=0, description="No address is left."),
            },
            "/28 blocks.",
        ),
        "map": string(_MOST_BLOCKS_TEXT, description="Every /28 in order, run-length coded; `enitide frag` shows it."),
        "history": array(
            obj({"at": _time(), "used": integer(minimum=0)}, required=["at", "used"]),
            _MOST_POINTS,
            "Addresses that were not free, as a step function: what the forecast rests on.",
        ),
        "forecast": obj(
            {
                "fullAt": _time("When no address is left, by the median slope.") | {"nullable": True},
                "earliest": _time("The same by the upper quartile.") | {"nullable": True},
                "perHour": _number("Addresses an hour, the median slope."),
                "perHourLow": _number("Its lower quartile."),
                "perHourHigh": _number("Its upper quartile."),
                "confidence": string(16, enum=["none", "low", "medium", "high"]),
                "hours": _number("How much of the past it rests on."),
                "points": integer(minimum=0, description="Changes of use in that time."),
            },
            "When the subnet runs full if it goes on as it did.",
        ),
        "conditions": CONDITIONS,
    },
    "How it stands.",
)

SUBNETREPORT_SCHEMA = obj(
    {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _SPEC,
        "status": _STATUS,
    },
    required=["spec"],
)
