"""CustomResourceDefinitions: from an object of that kind to a served resource type.

What a definition asks for and is not served here (conversion, several served versions, the scale subresource) makes it
invalid with a sentence: better no resource than one that behaves otherwise than on a real API server.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import msgspec

from enitide_kube.port import CRD, Kind
from enitide_kube.status import StatusCause
from enitide_lab.apistore.jsonpath import steps
from enitide_lab.apistore.refusal import invalid
from enitide_lab.apistore.schema import Schema, SchemaError
from enitide_lab.apistore.types import AGE, Column, ResourceType

_STRING = {"type": "string"}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_STRINGS = {"type": "array", "items": _STRING}

_NAMES = {
    "type": "object",
    "required": ["plural", "kind"],
    "properties": {
        "plural": _STRING,
        "singular": _STRING,
        "kind": _STRING,
        "listKind": _STRING,
        "shortNames": _STRINGS,
        "categories": _STRINGS,
    },
}
_COLUMN = {
    "type": "object",
    "required": ["name", "type", "jsonPath"],
    "properties": {
        "name": _STRING,
        "type": {"type": "string", "enum": ["integer", "number", "string", "boolean", "date"]},
        "format": _STRING,
        "description": _STRING,
        "priority": {"type": "integer"},
        "jsonPath": _STRING,
    },
}
_VERSION = {
    "type": "object",
    "required": ["name", "served", "storage"],
    "properties": {
        "name": _STRING,
        "served": {"type": "boolean"},
        "storage": {"type": "boolean"},
        "deprecated": {"type": "boolean"},
        "deprecationWarning": _STRING,
        "schema": {"type": "object", "required": ["openAPIV3Schema"], "properties": {"openAPIV3Schema": _OPEN}},
        "subresources": {"type": "object", "properties": {"status": _OPEN}},
        "additionalPrinterColumns": {"type": "array", "items": _COLUMN},
        "selectableFields": {
            "type": "array",
            "items": {"type": "object", "required": ["jsonPath"], "properties": {"jsonPath": _STRING}},
        },
    },
}
_SPEC = {
    "type": "object",
    "required": ["group", "scope", "names", "versions"],
    "properties": {
        "group": _STRING,
        "scope": {"type": "string", "enum": ["Cluster", "Namespaced"]},
        "names": _NAMES,
        "preserveUnknownFields": {"type": "boolean", "enum": [False]},
        "conversion": {
            "type": "object",
            "default": {"strategy": "None"},
            "properties": {"strategy": {"type": "string", "enum": ["None"]}},
        },
        "versions": {"type": "array", "minItems": 1, "items": _VERSION},
    },
}

CRD_TYPE = ResourceType(
    CRD,
    Schema(
        {
            "type": "object",
            "required": ["spec"],
            "properties": {"apiVersion": _STRING, "kind": _STRING, "metadata": _OPEN, "spec": _SPEC, "status": _OPEN},
        }
    ),
    "customresourcedefinition",
    ("crd", "crds"),
    ("api-extensions",),
    has_status=True,
    counts_generation=True,
    columns=(Column("Created At", "date", ".metadata.creationTimestamp"),),
)


def resource_type(definition: Mapping[str, Any]) -> ResourceType:
    """The served type. Raises the 422 that names what is wrong with the definition."""
    spec, name = definition["spec"], definition["metadata"]["name"]
    names = spec["names"]
    if name != f"{names['plural']}.{spec['group']}":
        raise _refused(
            name, "metadata.name", f'must be spec.names.plural+"."+spec.group: {names["plural"]}.{spec["group"]}'
        )
    served = [index for index, version in enumerate(spec["versions"]) if version["served"]]
    if len(served) != 1 or not spec["versions"][served[0]]["storage"]:
        raise _refused(name, "spec.versions", "exactly one version may be served here, and it must be the stored one")
    version = spec["versions"][served[0]]
    path = f"spec.versions[{served[0]}].schema.openAPIV3Schema"
    if "schema" not in version:
        raise _refused(name, path, "schemas are required")
    try:
        schema = _compiled(msgspec.json.encode(_rooted(version["schema"]["openAPIV3Schema"])))
    except SchemaError as error:
        raise _refused(name, path, str(error)) from error
    kind = Kind(
        spec["group"], version["name"], names["kind"], names["plural"], namespaced=spec["scope"] == "Namespaced"
    )
    columns = tuple(_column(name, declared) for declared in version.get("additionalPrinterColumns", ())) or (AGE,)
    selectable = [field["jsonPath"].lstrip(".") for field in version.get("selectableFields", ())]
    return ResourceType(
        kind,
        schema,
        names.get("singular") or names["kind"].lower(),
        tuple(names.get("shortNames", ())),
        tuple(names.get("categories", ())),
        has_status="status" in version.get("subresources", {}),
        counts_generation=True,
        columns=columns,
        selectable={field: field for field in selectable},
    )


@functools.lru_cache(maxsize=64)
def _compiled(declared: bytes) -> Schema:
    """Compiled once per content: a schema holds no state, so all stores of a process may share it."""
    return Schema(msgspec.json.decode(declared))


def _rooted(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with the three keys that every object has; `metadata` has its own schema, checked apart."""
    if declared.get("type") != "object":
        raise SchemaError("type: Required value: must be object at the root")
    always = {"apiVersion": _STRING, "kind": _STRING, "metadata": _OPEN}
    return {**declared, "properties": {**declared.get("properties", {}), **always}}


def _column(name: str, declared: Mapping[str, Any]) -> Column:
    try:
        steps(declared["jsonPath"])
    except ValueError as error:
        raise _refused(name, "spec.versions.additionalPrinterColumns.jsonPath", str(error)) from error
    return Column(
        declared["name"],
        declared["type"],
        declared["jsonPath"],
        declared.get("priority", 0),
        declared.get("format", ""),
        declared.get("description", ""),
    )


def established(definition: dict[str, Any], moment: str) -> dict[str, Any]:
    """The definition with the status of one that is served; unchanged if it has it."""
    names = definition["spec"]["names"]
    accepted = {"singular": names["kind"].lower(), "listKind": f"{names['kind']}List", **names}
    status = definition.get("status") or {}
    if status.get("acceptedNames") == accepted:
        return definition
    conditions = [
        {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": moment}
        for kind, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    stored = [version["name"] for version in definition["spec"]["versions"] if version["storage"]]
    return {**definition, "status": {"conditions": conditions, "acceptedNames": accepted, "storedVersions": stored}}


def _refused(name: str, field: str, sentence: str) -> Exception:
    return invalid(
        CRD, name, [StatusCause(reason="FieldValueInvalid", message=f"Invalid value: {sentence}", field=field)]
    )
