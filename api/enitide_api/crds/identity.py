"""Schemas of SecurityIdentity and EndpointBatch: written by the operator alone, read by every agent."""

from __future__ import annotations

from enitide_api.crds.shapes import Schema, array, cidrs, integer, obj, rule, string
from enitide_api.resources import BATCH_SIZE

# Kubernetes' own bounds: a label key has a prefix of 253, a slash and 63 characters; its value 63.
_LABELS: Schema = {"type": "object", "maxProperties": 256, "additionalProperties": string(63)}


def _head(spec: Schema) -> dict[str, Schema]:
    return {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}, "spec": spec}


_IDENTITY_SPEC = obj(
    {
        "id": integer(
            minimum=256,
            maximum=(1 << 31) - 1,
            description="Identity number: bits 30-22 the cluster, bits 21-0 the number in it.",
        ),
        "namespace": string(63),
        "serviceAccount": string(253, description="Only where a policy selects by it."),
        "podLabels": _LABELS | {"description": "Labels of the pod that some policy or setting names."},
        "namespaceLabels": _LABELS | {"description": "Labels of the namespace that some policy or setting names."},
        "ports": array(
            obj(
                {
                    "name": string(63),
                    "protocol": string(8),
                    "number": integer(minimum=1, maximum=65535),
                },
                required=["name", "number"],
            ),
            256,
            "Named container ports that some policy names.",
        ),
    },
    "What the number stands for. It never changes.",
    required=["id", "namespace"],
    rules=(
        rule(
            "self == oldSelf",
            "an identity never changes: the operator makes another SecurityIdentity for other labels",
        ),
    ),
)

IDENTITY_SCHEMA = obj(
    {
        **_head(_IDENTITY_SPEC),
        "status": obj(
            {"retired": string(40, description="Since when nothing uses it; empty: it is in force.")},
            "Written by the operator only.",
        ),
    },
    required=["spec"],
)

BATCH_SCHEMA = obj(
    _head(
        obj(
            {
                "endpoints": array(
                    obj(
                        {
                            "addresses": array(string(45), 128),
                            "podUID": string(64, description="Empty for the addresses of a node."),
                            "identity": {
                                "type": "integer",
                                "format": "int64",
                                "minimum": 0,
                                "description": "0: nobody has these addresses any more.",
                            },
                            "node": string(253),
                            "subnets": cidrs(128, "Of a node's ENIs: an address in them is the cluster's."),
                            "revision": {
                                "type": "integer",
                                "format": "int64",
                                "minimum": 0,
                                "description": "Of two records for one address the higher revision holds.",
                            },
                        },
                        required=["addresses", "revision"],
                    ),
                    BATCH_SIZE,
                    "Records; which object holds which means nothing.",
                ),
                "keys": obj(
                    {
                        "podLabels": array(string(317), 4096),
                        "namespaceLabels": array(string(317), 4096),
                        "portNames": array(string(63), 4096),
                        "serviceAccount": {"type": "boolean"},
                    },
                    "To which keys the identities in all records are cut; only in the batch named keys.",
                ),
            },
            "Written by the operator only.",
        )
    ),
    required=["spec"],
)
