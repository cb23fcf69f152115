"""The CustomResourceDefinitions: what the API server enforces of our resources.

`make generate` writes the manifests into the chart; a test holds schema and structs equal.
"""

from __future__ import annotations

from typing import Any

from enitide_api.crds.eniclass import eniclass_schema
from enitide_api.crds.eninode import ENINODE_SCHEMA
from enitide_api.crds.identity import BATCH_SCHEMA, IDENTITY_SCHEMA
from enitide_api.crds.shapes import Schema
from enitide_api.crds.subnetreport import SUBNETREPORT_SCHEMA
from enitide_api.resources import GROUP, VERSION

CATEGORY = "enitide"


def _column(name: str, kind: str, path: str, priority: int = 0, description: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if priority:
        found["priority"] = priority
    return found | ({"description": description} if description else {})


_AGE = _column("Age", "date", ".metadata.creationTimestamp")

_NODE_COLUMNS = [
    _column("Instance", "string", ".spec.instance.id"),
    _column("Type", "string", ".spec.instance.type"),
    _column("Used", "integer", ".spec.demand.inUse"),
    _column("Waiting", "integer", ".spec.demand.waiting"),
    _column("Provisioned", "integer", ".status.capacity.provisioned"),
    _column("Slots", "integer", ".status.capacity.slots"),
    _column("Ready", "string", ".status.conditions[?(@.type=='Ready')].status"),
    _column("Reason", "string", ".status.conditions[?(@.type=='Ready')].reason"),
    _column("Zone", "string", ".spec.instance.availabilityZone", 1),
    _column("Class", "string", ".status.class.name", 1),
    _column("Message", "string", ".status.conditions[?(@.type=='Ready')].message", 1),
    _AGE,
]

_CLASS_COLUMNS = [
    _column("Weight", "integer", ".spec.weight"),
    _column("Prefixes", "boolean", ".spec.prefixDelegation"),
    _column("Nodes", "integer", ".status.nodes"),
    _column("Ready", "integer", ".status.nodesReady"),
    _column("AtCapacity", "integer", ".status.nodesAtCapacity", 1),
    _AGE,
]

_IDENTITY_COLUMNS = [
    _column("ID", "integer", ".spec.id"),
    _column("Namespace", "string", ".spec.namespace"),
    _column("Labels", "string", ".spec.podLabels"),
    _column("Retired", "string", ".status.retired"),
    _column("NamespaceLabels", "string", ".spec.namespaceLabels", 1),
    _column("ServiceAccount", "string", ".spec.serviceAccount", 1),
    _AGE,
]

_BATCH_COLUMNS = [
    _column("Nodes", "string", ".spec.endpoints[*].node", 1),
    _column("Identities", "string", ".spec.endpoints[*].identity", 1),
    _AGE,
]

_REPORT_COLUMNS = [
    _column("Zone", "string", ".spec.availabilityZone"),
    _column("CIDR", "string", ".spec.cidr"),
    _column("Free", "integer", ".status.addresses.free"),
    _column("Whole/28s", "integer", ".status.prefixes.whole", 0, "/28s that can become a prefix."),
    _column("Broken/28s", "integer", ".status.prefixes.broken"),
    _column("Ours", "integer", ".status.addresses.ours"),
    _column("Others", "integer", ".status.addresses.otherClusters", 1, "Of other clusters."),
    _column("Foreign", "integer", ".status.addresses.foreign", 1),
    _column("Full", "string", ".status.forecast.fullAt", 1, "When no address is left, if it goes on so."),
    _column("Confidence", "string", ".status.forecast.confidence", 1),
    _AGE,
]


def _definition(kind: str, plural: str, short: str, schema: Schema, columns: list[dict[str, Any]]) -> Schema:
    subresources: dict[str, Any] = {"subresources": {"status": {}}} if "status" in schema["properties"] else {}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    **subresources,
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def definitions() -> dict[str, Schema]:
    """File name -> CustomResourceDefinition, in the form that is applied to a cluster."""
    return {
        "enitide.io_eninodes.yaml": _definition("ENINode", "eninodes", "en", ENINODE_SCHEMA, _NODE_COLUMNS),
        "enitide.io_eniclasses.yaml": _definition("ENIClass", "eniclasses", "ecl", eniclass_schema(), _CLASS_COLUMNS),
        "enitide.io_securityidentities.yaml": _definition(
            "SecurityIdentity", "securityidentities", "sid", IDENTITY_SCHEMA, _IDENTITY_COLUMNS
        ),
        "enitide.io_endpointbatches.yaml": _definition(
            "EndpointBatch", "endpointbatches", "epb", BATCH_SCHEMA, _BATCH_COLUMNS
        ),
        "enitide.io_subnetreports.yaml": _definition(
            "SubnetReport", "subnetreports", "snr", SUBNETREPORT_SCHEMA, _REPORT_COLUMNS
        ),
    }
