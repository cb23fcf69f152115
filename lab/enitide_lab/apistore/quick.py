"""Quick answers for what is right: a schema node compiled to one closure for "valid" and one for "nothing to change".

Nearly all that programs write is right, and a list of thirty addresses is judged at each write. A closure says yes only
where `Schema.validate` would find no cause, or `Schema.normalize` would give the same object back; any other answer
means "look closely". A node with something that needs the close look (rules, alternatives, formats) has no closure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enitide_lab.apistore.schema import Schema

Check = Callable[[Any], bool]

_LENGTHS = {"minLength", "maxLength"}
_BOUNDS = {
    "string": {*_LENGTHS, "pattern", "enum"},
    "integer": {"minimum", "maximum"},
    "boolean": set[str](),
    "array": {"minItems", "maxItems"},
    "object": {"maxProperties"},
}
_SCALARS = frozenset({str, int, float, bool})


def valid(schema: Schema) -> Check | None:
    """Whether a value is certainly valid."""
    combined = schema.all_of or schema.any_of or schema.one_of or schema.negated is not None
    if combined or schema.rules or schema.int_or_string or schema.format:
        return None
    if not set(schema.bounds) <= _BOUNDS.get(schema.type, set()):
        return None
    match schema.type:
        case "string":
            return _string(schema)
        case "integer":
            return _integer(schema)
        case "boolean":
            return lambda value: value is True or value is False
        case "array":
            return _array(schema)
        case "object":
            return _object(schema)
    return None


def whole(schema: Schema) -> Check:
    """Whether a value certainly has no unknown key, lacks no default and holds no null."""
    properties = {key: child.whole for key, child in schema.properties.items()}
    extra = schema.additional.whole if schema.additional is not None else None
    defaults = {key for key, child in schema.properties.items() if not child.has_no_default}
    item = schema.items.whole if schema.items is not None else None
    closed = not schema.preserve

    def check(value: Any) -> bool:
        kind = type(value)
        if kind in _SCALARS:
            return True
        if kind is list:
            return item is not None and (_SCALARS.issuperset(map(type, value)) or all(map(item, value)))
        if kind is not dict or not defaults <= value.keys():
            return False
        for key, each in value.items():
            child = properties.get(key, extra)
            if child is None:
                if closed:
                    return False
            elif not child(each):
                return False
        return True

    return check


def _string(schema: Schema) -> Check:
    least, most = schema.bounds.get("minLength", 0), schema.bounds.get("maxLength", sys.maxsize)
    search = schema.pattern.search if schema.pattern is not None else None
    words = frozenset(schema.bounds["enum"]) if "enum" in schema.bounds else None

    def check(value: Any) -> bool:
        return (
            type(value) is str
            and least <= len(value) <= most
            and (search is None or search(value) is not None)
            and (words is None or value in words)
        )

    return check


def _integer(schema: Schema) -> Check:
    least, most = schema.bounds.get("minimum", -sys.maxsize), schema.bounds.get("maximum", sys.maxsize)
    return lambda value: type(value) is int and least <= value <= most


def _array(schema: Schema) -> Check | None:
    items, keys = schema.items, schema.map_keys
    if items is None or items.valid is None:
        return None
    if schema.list_type == "set" and items.type not in {"string", "integer"}:
        return None
    if schema.list_type == "map" and any(items.kind_of(key) != "string" for key in keys):
        return None
    least, most = schema.bounds.get("minItems", 0), schema.bounds.get("maxItems", sys.maxsize)
    right, distinct = _all(items, items.valid), _DISTINCT.get(schema.list_type)

    def check(value: Any) -> bool:
        return (
            type(value) is list
            and least <= len(value) <= most
            and right(value)
            and (distinct is None or distinct(value, keys) == len(value))
        )

    return check


def _all(schema: Schema, one: Check) -> Check:
    """Whether every item of a list is right; texts with no bounds but their lengths are judged together."""
    if schema.type != "string" or not set(schema.bounds) <= _LENGTHS:
        return lambda values: all(map(one, values))
    least, most = schema.bounds.get("minLength", 0), schema.bounds.get("maxLength", sys.maxsize)

    def check(values: Any) -> bool:
        lengths = [len(each) for each in values if type(each) is str]
        return len(lengths) == len(values) and (not lengths or (least <= min(lengths) and max(lengths) <= most))

    return check


# How many different items there are, by the type of the list.
_DISTINCT: dict[str, Callable[[list[Any], tuple[str, ...]], int]] = {
    "set": lambda items, _keys: len(set(items)),
    "map": lambda items, keys: len({tuple(map(each.get, keys)) for each in items}),
}


def _object(schema: Schema) -> Check | None:
    children = {key: child.valid for key, child in schema.properties.items()}
    extra = schema.additional.valid if schema.additional is not None else None
    if None in children.values() or (schema.additional is not None and extra is None):
        return None
    required = frozenset(schema.required)
    most = schema.bounds.get("maxProperties", sys.maxsize)

    def check(value: Any) -> bool:
        if type(value) is not dict or not required <= value.keys() or len(value) > most:
            return False
        for key, each in value.items():
            child = children.get(key, extra)
            if child is not None and not child(each):
                return False
        return True

    return check
