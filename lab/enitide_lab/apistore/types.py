"""What the store knows of a resource type, and the schema of `metadata` that all share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enitide_lab.apistore.schema import Schema

if TYPE_CHECKING:
    from enitide_kube.port import Kind

_STRINGS = {"type": "object", "nullable": True, "additionalProperties": {"type": "string"}}
_TIME = {"type": "string", "format": "date-time", "nullable": True}

OBJECT_META: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "generateName": {"type": "string"},
        "namespace": {"type": "string"},
        "uid": {"type": "string"},
        "resourceVersion": {"type": "string"},
        "generation": {"type": "integer"},
        "selfLink": {"type": "string"},
        "creationTimestamp": _TIME,
        "deletionTimestamp": _TIME,
        "deletionGracePeriodSeconds": {"type": "integer", "nullable": True},
        "labels": _STRINGS,
        "annotations": _STRINGS,
        "finalizers": {"type": "array", "nullable": True, "items": {"type": "string"}},
        "ownerReferences": {
            "type": "array",
            "nullable": True,
            "items": {
                "type": "object",
                "required": ["apiVersion", "kind", "name", "uid"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "name": {"type": "string"},
                    "uid": {"type": "string"},
                    "controller": {"type": "boolean", "nullable": True},
                    "blockOwnerDeletion": {"type": "boolean", "nullable": True},
                },
            },
        },
        "managedFields": {
            "type": "array",
            "nullable": True,
            "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    },
}

META_SCHEMA = Schema(OBJECT_META, "metadata")


@dataclass(frozen=True, slots=True)
class Column:
    """One printed column: a JSONPath, or for built-in kinds a function of the object. `priority` above 0: wide only."""

    name: str
    type: str
    path: str = ""
    priority: int = 0
    format: str = ""
    description: str = ""
    value: Callable[[Mapping[str, Any]], Any] | None = None


AGE = Column("Age", "date", ".metadata.creationTimestamp")


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One served resource.

    `schema` covers the object without `metadata`. `selectable` maps field selector names to paths in the stored form.
    `view` renames top-level keys (stored → shown) where one store serves two API versions, as Events. `strategic`: the
    strategic merge patch is served. `counts_generation`: `metadata.generation` grows with each change of the spec.
    """

    kind: Kind
    schema: Schema
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    keeps_status_on_create: bool = False
    counts_generation: bool = False
    strategic: bool = False
    columns: tuple[Column, ...] = (AGE,)
    selectable: Mapping[str, str] = field(default_factory=dict)
    view: Mapping[str, str] = field(default_factory=dict)
    subresources: tuple[str, ...] = ()
    storage_group: str | None = None

    @property
    def table(self) -> tuple[str, str]:
        """Where objects of this type lie: types that share it show the same objects."""
        return (self.kind.group if self.storage_group is None else self.storage_group, self.kind.plural)

    @property
    def fields(self) -> dict[str, str]:
        """Every field selector served, by name."""
        return {"metadata.name": "metadata.name", "metadata.namespace": "metadata.namespace", **self.selectable}

    def shown(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """The stored object as this type shows it."""
        renamed = {self.view.get(key, key): value for key, value in obj.items()}
        renamed["apiVersion"], renamed["kind"] = self.kind.api_version, self.kind.kind
        return renamed

    def stored(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """What a client of this type sent, in the stored form."""
        back = {shown: kept for kept, shown in self.view.items()}
        return {back.get(key, key): value for key, value in obj.items()}
