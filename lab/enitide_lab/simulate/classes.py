"""ENIClasses of a scenario: read key by key against the CRD's own schema, judged by the API store's own rules.

A class, or a change of one, that the API server would refuse is a bad scenario: it is told with the line of the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from enitide_api.crds import definitions
from enitide_api.crds.eniclass import eniclass_schema
from enitide_api.resources import API_VERSION, DEFAULT_CLASS
from enitide_kube.port import CRD, ENICLASS, NODE
from enitide_lab.apistore.lifecycle import Request
from enitide_lab.apistore.patches import merge
from enitide_lab.apistore.refusal import Refusal
from enitide_lab.apistore.store import Store
from enitide_lab.simulate.located import MOST, Item, Place, required, unknown
from enitide_lab.simulate.scenario import ClassObject

_SPEC: Mapping[str, Any] = eniclass_schema()["properties"]["spec"]


@dataclass(slots=True)
class Classes:
    """All classes by name, as they stand at some point of the scenario. `default` is always there."""

    specs: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    first: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def none(cls) -> Classes:
        """The class `default`, with every default."""
        return cls({DEFAULT_CLASS: {}}, {}, {DEFAULT_CLASS: {}})

    def objects(self) -> tuple[ClassObject, ...]:
        """As they stood first."""
        return tuple(
            ClassObject(name, spec, self.places[name]) if name in self.places else ClassObject(name, spec)
            for name, spec in self.first.items()
        )

    def change(self, name: str, item: Item, keys: Mapping[str, Item]) -> dict[str, Any]:
        """Merge a change that stands in the file, judge what comes of it, and give the patch."""
        patch = {key: _value(value, _SPEC["properties"][key]) for key, value in keys.items()}
        self.specs[name] = merge(self.specs[name], patch)
        judge(name, self.specs[name], item)
        return patch


def spec_keys() -> tuple[str, ...]:
    """The fields of an ENIClass's spec."""
    return tuple(_SPEC["properties"])


def read_classes(item: Item) -> Classes:
    """The list `classes`."""
    found = Classes()
    for each in item.sequence():
        keys = each.mapping(("name", *spec_keys()))
        name = required(each, keys, "name").text("a class's name")
        if name in found.specs:
            each.refuse(f"the class {name!r} stands here twice: write it once")
        spec = {key: _value(value, _SPEC["properties"][key]) for key, value in keys.items() if key != "name"}
        judge(name, spec, each)
        found.specs[name], found.places[name] = spec, each.place
    found.specs.setdefault(DEFAULT_CLASS, {})
    found.first = dict(found.specs)
    return found


def _value(item: Item, schema: Mapping[str, Any]) -> Any:
    """The plain value, every key checked against the schema."""
    if item.is_null:
        return None
    kind = schema.get("type")
    if kind == "object" and "properties" in schema:
        keys = item.mapping(tuple(schema["properties"]))
        return {name: _value(value, schema["properties"][name]) for name, value in keys.items()}
    if kind == "object":
        return item.tags()
    if kind == "array":
        return [_value(member, schema["items"]) for member in item.sequence()]
    if kind == "integer":
        return item.integer(schema.get("minimum", 0), schema.get("maximum", MOST))
    if kind == "boolean":
        return item.boolean()
    if "enum" in schema:
        return item.word(schema["enum"], "word")
    if "pattern" in schema:
        item.seconds()  # the only patterns of a class are durations
    return item.text()


@cache
def _judge_store() -> Store:
    store = Store()
    for crd in definitions().values():
        store.create(store.type_of(CRD), "", crd)
    return store


def judge(name: str, spec: Mapping[str, Any], item: Item) -> None:
    """Refuse, at the line of the field, what the API server would refuse."""
    store = _judge_store()
    try:
        store.create(store.type_of(ENICLASS), "", class_body(name, spec), Request("Strict"), dry_run=True)
    except Refusal as refusal:
        details = refusal.status.details
        causes = (details.causes if details is not None else None) or []
        if not causes:
            item.refuse(refusal.status.message)
        cause = causes[0]
        _at(item, (cause.field or "").split(".")).refuse(f"ENIClass {name}: {cause.message}")


def judge_node(name: str, labels: Mapping[str, str], item: Item) -> None:
    """Refuse what the API server would not take as the name or the labels of a Node."""
    body = {"metadata": {"name": name, "labels": dict(labels)}, "spec": {}}
    store = _judge_store()
    try:
        store.create(store.type_of(NODE), "", body, dry_run=True)
    except Refusal as refusal:
        item.refuse(refusal.status.message)


def class_body(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The object to create; nulls of a merge are gone."""
    body = {key: value for key, value in spec.items() if value is not None}
    return {"apiVersion": API_VERSION, "kind": ENICLASS.kind, "metadata": {"name": name}, "spec": body}


def _at(item: Item, path: list[str]) -> Item:
    """The item nearest to a field of the object."""
    for part in path:
        word = part.partition("[")[0]
        if word in ("spec", "metadata", ""):
            continue
        keys = item.mapping() if item.is_mapping else {}
        if word not in keys:
            return item
        item = keys[word]
    return item


def unknown_class(name: str, classes: Classes) -> str:
    """The complaint about a class that is not there."""
    return unknown("class", name, list(classes.specs))
