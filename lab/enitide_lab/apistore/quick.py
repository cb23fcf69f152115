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

_CLOSE = ("pattern", "enum")
_BOUNDS = {
    "string": {"minLength", "maxLength", *_CLOSE},
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
    item = schema.items.valid if schema.items is not None else None
    each_right = _texts(schema.items) if schema.items is not None else None
    if item is None or schema.items is None:
        return None
    least, most = schema.bounds.get("minItems", 0), schema.bounds.get("maxItems", sys.maxsize)
    keys = schema.map_keys
    if schema.list_type == "set" and schema.items.type not in {"string", "integer"}:
        return None
    if schema.list_type == "map" and any(schema.items.kind_of(key) != "string" for key in keys):
        return None
    identity = {"set": _itself, "map": lambda each: tuple(map(each.get, keys))}.get(schema.list_type)
    distinct: Callable[[Any], Any] | None = identity

    def check(value: Any) -> bool:
        return (
            type(value) is list
            and least <= len(value) <= most
            and (each_right(value) if each_right is not None else all(map(item, value)))
            and (distinct is None or len({distinct(each) for each in value}) == len(value))
        )

    return check


def _texts(schema: Schema) -> Check | None:
    """The answer for a whole list of texts with no bounds but their lengths."""
    if schema.type != "string" or not set(schema.bounds) <= {"minLength", "maxLength"} or schema.valid is None:
        return None
    least, most = schema.bounds.get("minLength", 0), schema.bounds.get("maxLength", sys.maxsize)

    def check(values: Any) -> bool:
        lengths = [len(each) for each in values if type(each) is str]
        return len(lengths) == len(values) and (not lengths or (least <= min(lengths) and max(lengths) <= most))

    return check


def _itself(value: Any) -> Any:
    return value


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
