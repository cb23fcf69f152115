"""The built-in kinds that are served without a CustomResourceDefinition, only as far as our programs and kubectl need.

Objects of kinds that nobody here interprets (Services, ConfigMaps) are stored with their top-level keys checked; Leases
and Events, which we write ourselves, are checked in full, so that what passes here passes on a real API server.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from enitide_kube.port import ENDPOINTSLICE, EVENT, LEASE, NAMESPACE, NETWORKPOLICY, NODE, POD, SERVICE, Kind
from enitide_lab.apistore.schema import Schema
from enitide_lab.apistore.types import AGE, Column, ResourceType

CORE_EVENT = Kind("", "v1", "Event", "events", namespaced=True)
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts", namespaced=True)
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", namespaced=True)
SECRET = Kind("", "v1", "Secret", "secrets", namespaced=True)

_ANY: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}
_OPEN: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_STRING: dict[str, Any] = {"type": "string"}
_TIME: dict[str, Any] = {"type": "string", "format": "date-time", "nullable": True}
_STRINGS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
_LIST: dict[str, Any] = {"type": "array", "items": _ANY}


def _schema(properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> Schema:
    always = {"apiVersion": _STRING, "kind": _STRING, "metadata": _OPEN}
    return Schema({"type": "object", "required": list(required), "properties": {**always, **properties}})


_POD_SPEC = {
    **_OPEN,
    "required": ["containers"],
    "properties": {
        "nodeName": _STRING,
        "hostNetwork": {"type": "boolean"},
        "restartPolicy": {"type": "string", "default": "Always", "enum": ["Always", "OnFailure", "Never"]},
        "terminationGracePeriodSeconds": {"type": "integer", "default": 30},
        "containers": {
            "type": "array",
            "minItems": 1,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {**_OPEN, "required": ["name"], "properties": {"name": _STRING, "image": _STRING}},
        },
    },
}
_POD_STATUS = {
    **_OPEN,
    "properties": {
        "phase": {"type": "string", "enum": ["Pending", "Running", "Succeeded", "Failed", "Unknown"]},
        "podIPs": {"type": "array", "items": {"type": "object", "properties": {"ip": _STRING}}},
    },
}
_TAINT = {
    "type": "object",
    "required": ["key", "effect"],
    "properties": {
        "key": _STRING,
        "value": _STRING,
        "effect": {"type": "string", "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        "timeAdded": _TIME,
    },
}
_NODE_SPEC = {
    "type": "object",
    "properties": {
        "providerID": _STRING,
        "podCIDR": _STRING,
        "podCIDRs": {"type": "array", "items": _STRING},
        "unschedulable": {"type": "boolean"},
        "taints": {"type": "array", "items": _TAINT},
        "configSource": _OPEN,
        "externalID": _STRING,
    },
}
_NETWORK_POLICY_SPEC = {
    "type": "object",
    "required": ["podSelector"],
    "properties": {
        "podSelector": _OPEN,
        "policyTypes": {"type": "array", "items": {"type": "string", "enum": ["Ingress", "Egress"]}},
        "ingress": _LIST,
        "egress": _LIST,
    },
}
_LEASE_SPEC = {
    "type": "object",
    "properties": {
        "holderIdentity": {"type": "string", "nullable": True},
        "leaseDurationSeconds": {"type": "integer", "minimum": 1, "nullable": True},
        "leaseTransitions": {"type": "integer", "minimum": 0, "nullable": True},
        "acquireTime": _TIME,
        "renewTime": _TIME,
        "strategy": {"type": "string", "nullable": True},
        "preferredHolder": {"type": "string", "nullable": True},
    },
}
_REFERENCE = {
    "type": "object",
    "properties": dict.fromkeys(
        ("apiVersion", "kind", "name", "namespace", "uid", "resourceVersion", "fieldPath"), _STRING
    ),
}
_EVENT = {
    "regarding": _REFERENCE,
    "related": _REFERENCE,
    "eventTime": _TIME,
    "note": {"type": "string", "maxLength": 1024},
    "reason": {"type": "string", "maxLength": 128},
    "action": {"type": "string", "maxLength": 128},
    "type": {"type": "string", "enum": ["Normal", "Warning"]},
    "reportingController": _STRING,
    "reportingInstance": {"type": "string", "maxLength": 128},
    "series": {
        "type": "object",
        "nullable": True,
        "required": ["count", "lastObservedTime"],
        "properties": {"count": {"type": "integer", "minimum": 2}, "lastObservedTime": _TIME},
    },
    "deprecatedSource": {"type": "object", "properties": {"component": _STRING, "host": _STRING}},
    "deprecatedFirstTimestamp": _TIME,
    "deprecatedLastTimestamp": _TIME,
    "deprecatedCount": {"type": "integer"},
}
_CORE_EVENT_VIEW = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_EVENT_FIELDS = {"reason": "reason", "type": "type"}
_REFERRED = ("kind", "namespace", "name", "uid", "apiVersion")


def _ready(obj: Mapping[str, Any]) -> str:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    state = next((c.get("status") for c in conditions if c.get("type") == "Ready"), "Unknown")
    word = {"True": "Ready", "False": "NotReady"}.get(str(state), "Unknown")
    return f"{word},SchedulingDisabled" if (obj.get("spec") or {}).get("unschedulable") else word


def _pod_state(obj: Mapping[str, Any]) -> str:
    if obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str((obj.get("status") or {}).get("phase", "Unknown"))


def _pod_ready(obj: Mapping[str, Any]) -> str:
    statuses = (obj.get("status") or {}).get("containerStatuses") or ()
    return f"{sum(bool(s.get('ready')) for s in statuses)}/{len(obj['spec']['containers'])}"


_POD_COLUMNS = (
    Column("Ready", "string", value=_pod_ready),
    Column("Status", "string", value=_pod_state),
    AGE,
    Column("IP", "string", ".status.podIP", priority=1),
    Column("Node", "string", ".spec.nodeName", priority=1),
)
_NODE_COLUMNS = (
    Column("Status", "string", value=_ready),
    AGE,
    Column("Version", "string", ".status.nodeInfo.kubeletVersion"),
    Column("Provider-ID", "string", ".spec.providerID", priority=1),
)
_EVENT_COLUMNS = (
    Column("Last Seen", "date", ".eventTime"),
    Column("Type", "string", ".type"),
    Column("Reason", "string", ".reason"),
    Column("Object", "string", value=lambda o: f"{o['regarding'].get('kind', '')}/{o['regarding'].get('name', '')}"),
    Column("Message", "string", ".note"),
)


@functools.cache
def builtin_types() -> tuple[ResourceType, ...]:
    """All built-in types, without CustomResourceDefinition (see `crd`)."""
    return (
        ResourceType(
            NAMESPACE, _schema({"spec": _OPEN, "status": _OPEN}), "namespace", ("ns",), has_status=True, strategic=True,
            columns=(Column("Status", "string", ".status.phase"), AGE), selectable={"status.phase": "status.phase"},
        ),
        ResourceType(
            NODE, _schema({"spec": _NODE_SPEC, "status": _OPEN}), "node", ("no",), has_status=True,
            keeps_status_on_create=True, strategic=True, columns=_NODE_COLUMNS,
            selectable={"spec.unschedulable": "spec.unschedulable"},
        ),
        ResourceType(
            POD, _schema({"spec": _POD_SPEC, "status": _POD_STATUS}, ("spec",)), "pod", ("po",), ("all",),
            has_status=True, counts_generation=True, strategic=True, columns=_POD_COLUMNS,
            selectable={
                name: name
                for name in ("spec.nodeName", "status.phase", "spec.hostNetwork", "spec.restartPolicy", "status.podIP",
                             "spec.schedulerName", "spec.serviceAccountName")
            },
            subresources=("binding", "eviction"),
        ),
        ResourceType(
            EVENT, _schema(_EVENT, ("eventTime", "reportingController", "reportingInstance", "action", "regarding")),
            "event", ("ev",), strategic=True, columns=_EVENT_COLUMNS,
            selectable=_EVENT_FIELDS | {f"regarding.{f}": f"regarding.{f}" for f in _REFERRED},
        ),
        ResourceType(
            CORE_EVENT, _schema(_EVENT, ("regarding",)), "event", ("ev",), strategic=True, columns=_EVENT_COLUMNS,
            selectable=_EVENT_FIELDS | {f"involvedObject.{f}": f"regarding.{f}" for f in _REFERRED},
            view=_CORE_EVENT_VIEW, storage_group=EVENT.group,
        ),
        ResourceType(
            LEASE, _schema({"spec": _LEASE_SPEC}), "lease", strategic=True,
            columns=(Column("Holder", "string", ".spec.holderIdentity"), AGE),
        ),
        ResourceType(
            SERVICE_ACCOUNT,
            _schema({"secrets": _LIST, "imagePullSecrets": _LIST, "automountServiceAccountToken": {"type": "boolean"}}),
            "serviceaccount", ("sa",), strategic=True,
        ),
        ResourceType(
            CONFIG_MAP,
            _schema({"data": _STRINGS, "binaryData": _STRINGS, "immutable": {"type": "boolean"}}),
            "configmap", ("cm",), strategic=True,
        ),
        ResourceType(
            SECRET,
            _schema({"data": _STRINGS, "stringData": _STRINGS, "type": _STRING, "immutable": {"type": "boolean"}}),
            "secret", strategic=True,
        ),
        ResourceType(
            SERVICE, _schema({"spec": _OPEN, "status": _OPEN}), "service", ("svc",), ("all",), has_status=True,
            strategic=True, columns=(Column("Cluster-IP", "string", ".spec.clusterIP"), AGE),
        ),
        ResourceType(
            ENDPOINTSLICE, _schema({"addressType": _STRING, "endpoints": _LIST, "ports": _LIST}, ("addressType",)),
            "endpointslice", strategic=True,
        ),
        ResourceType(
            NETWORKPOLICY, _schema({"spec": _NETWORK_POLICY_SPEC}), "networkpolicy", ("netpol",),
            counts_generation=True, strategic=True,
            columns=(Column("Pod-Selector", "string", ".spec.podSelector"), AGE),
        ),
    )  # fmt: skip
