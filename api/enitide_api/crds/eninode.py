"""Schema of ENINode: `spec` is the agent's, `status` the operator's."""

from __future__ import annotations

from enitide_api.crds.shapes import (
    CIDR_LENGTH,
    CONDITIONS,
    array,
    cidrs,
    count,
    duration,
    integer,
    obj,
    pool,
    rule,
    string,
)

# The largest instance of the shipped table has 80 ENIs (16 cards of 5), each with 49 addresses for pods.
_MOST_INTERFACES = 128
_MOST_CIDRS = 4096

_INTERFACE = obj(
    {
        "id": string(64),
        "mac": string(17),
        "card": integer(minimum=0),
        "index": integer(minimum=0),
        "subnetID": string(64),
        "primary": string(45, description="The ENI's own address."),
        "securityGroups": array(string(64), 16),
        "cidr": string(CIDR_LENGTH, description="IPv4 CIDR of its subnet."),
        "gateway": string(45),
        "addresses": array(string(45), 512, "Secondary addresses, for pods."),
        "prefixes": cidrs(512, "/28 prefixes, for pods."),
        "ipv6": obj(
            {"cidr": string(CIDR_LENGTH), "gateway": string(45), "prefixes": cidrs(16, "/80 prefixes, for pods.")}
        ),
        "ours": {"type": "boolean", "description": "Made by this cluster's operator: it may go as a whole."},
        "draining": {"type": "boolean", "description": "Wanted out of use; pods on it keep their addresses."},
    },
    required=["id", "card", "index"],
)

_NODE_SPEC = obj(
    {
        "instance": obj(
            {
                "id": string(64),
                "type": string(64),
                "availabilityZone": string(64),
                "vpcID": string(64),
                "subnetID": string(64),
            },
            "What instance metadata says of this node.",
            rules=(rule("has(self.id) && self.id != ''", "instance.id is empty: write the id of the EC2 instance"),),
        ),
        "demand": obj(
            {
                "inUse": count(description="Addresses that pods hold or are reserved."),
                "cooling": count(description="Addresses resting after a pod."),
                "waiting": count(description="Pods that want an address and have none."),
            }
        ),
        "endpoints": array(
            obj({"addresses": array(string(45), 4), "podUID": string(64)}),
            2048,
            "Pods that hold or are reserved addresses.",
        ),
        "yielded": cidrs(_MOST_CIDRS, "Taken out of use because the operator asked for some back."),
    },
    "Written by this node's agent only.",
)

_NODE_STATUS = obj(
    {
        "instanceID": string(64, description="Whose status this is; an agent with another id uses nothing of it."),
        "class": obj(
            {
                "name": string(253),
                "generation": {"type": "integer", "format": "int64"},
                "pool": pool(with_defaults=False, rules=False),
                "prefixDelegation": {"type": "boolean"},
                "cooldown": duration(None, ""),
                "reportInterval": duration(None, ""),
                "usePrimaryAddress": {"type": "boolean"},
                "firstIndex": integer(minimum=0),
            },
            "What both sides compute with.",
        ),
        "capacity": obj({"slots": count(), "usedSlots": count(), "provisioned": count()}),
        "interfaces": array(_INTERFACE, _MOST_INTERFACES, "Managed ENIs."),
        "pending": array(
            obj(
                {
                    "token": string(64),
                    "since": {"type": "string", "format": "date-time"},
                    "subnetID": string(64),
                    "card": integer(minimum=0),
                    "index": integer(minimum=0),
                    "count": count(),
                    "prefixes": {"type": "boolean"},
                },
                required=["token", "since", "card", "index", "count"],
            ),
            _MOST_INTERFACES,
            "ENIs about to be made.",
        ),
        "reclaim": obj(
            {"count": count(), "since": {"type": "string", "format": "date-time"}},
            "How many addresses the operator would like back.",
        ),
        "releasing": cidrs(_MOST_CIDRS, "No longer published, about to be unassigned."),
        "publicIP": string(45, description="The Elastic IP on the node's own ENI."),
        "removing": array(string(64), _MOST_INTERFACES, "ENIs no longer published, about to be detached and deleted."),
        "vpcCIDRs": cidrs(128, "The VPC's IPv4 and IPv6 CIDRs."),
        "conditions": CONDITIONS,
    },
    "Written by the operator only.",
)

ENINODE_SCHEMA = obj(
    {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _NODE_SPEC,
        "status": _NODE_STATUS,
    },
    required=["spec"],
)
