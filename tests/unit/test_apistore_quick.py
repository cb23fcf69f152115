"""The quick answers of the API store's schemas never differ from the close look."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enitide_lab.apistore.schema import MISSING, Schema

DECLARED: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^[a-c]*$"},
        "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "count": {"type": "integer", "minimum": 0, "maximum": 2},
        "on": {"type": "boolean", "nullable": True},
        "ports": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-list-type": "set", "maxItems": 3},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 2}, "minItems": 1},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
        "either": {"x-kubernetes-int-or-string": True},
        "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "each": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}},
            },
        },
    },
}
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 3),
    st.sampled_from([0.0, 1.0, 1.5, "", "a", "b", "abc", "abcd", "x"]),
)
KEYS = st.sampled_from([*DECLARED["properties"], "unknown"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)


def proper(name: str) -> st.SearchStrategy[Any]:
    """Values that are often right for a property, so that the quick paths are taken."""
    texts, numbers = st.sampled_from(["a", "b", "ab"]), st.integers(0, 3)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "name": texts,
        "mode": texts,
        "count": numbers,
        "on": st.booleans(),
        "ports": st.lists(numbers, max_size=4),
        "names": st.lists(texts, max_size=2),
        "labels": st.dictionaries(texts, texts, max_size=3),
        "each": st.lists(st.fixed_dictionaries({"name": texts}, optional={"count": numbers}), max_size=3),
    }
    return st.one_of(kinds.get(name, LEAVES), kinds.get(name, LEAVES), VALUES)


OBJECTS = st.fixed_dictionaries({}, optional={name: proper(name) for name in [*DECLARED["properties"], "unknown"]})


def nodes(schema: Schema) -> Iterator[Schema]:
    """A schema and all below it."""
    yield schema
    for child in (*schema.properties.values(), schema.additional, schema.items):
        if child is not None:
            yield from nodes(child)


def slow(declared: dict[str, Any]) -> Schema:
    """The same schema with the close look alone."""
    schema = Schema(declared)
    for node in nodes(schema):
        node.valid, node.whole = None, lambda _value: False
    return schema


def judged(schema: Schema, value: Any) -> tuple[Any, list[str], list[Any]]:
    """What is stored, what was unknown, and the causes."""
    unknown: list[str] = []
    stored = schema.normalize(copy.deepcopy(value), MISSING, "", unknown)
    causes: list[Any] = []
    schema.validate(stored, MISSING, "", causes)
    return stored, unknown, causes


QUICK, SLOW = Schema(DECLARED), slow(DECLARED)


@settings(max_examples=400)
@given(OBJECTS)
def test_the_quick_answer_is_the_close_ones(value: dict[str, Any]) -> None:
    assert judged(QUICK, value) == judged(SLOW, value)


def test_lists_of_right_values_are_answered_quickly() -> None:
    names = QUICK.properties["names"]
    assert names.valid is not None
    assert names.valid(["a", "b"])
    assert not names.valid([])
    assert not names.valid(["abc"])
    assert QUICK.properties["either"].valid is None
    assert QUICK.properties["each"].whole([{"name": "a", "count": 1}])
    assert not QUICK.properties["each"].whole([{"name": "a"}])  # the default is to be put in


@pytest.mark.parametrize(
    "wrong", [{"name": 1}, {"name": "a", "ports": [1, 1]}, {"name": "a", "each": [{"name": "x"}] * 2}]
)
def test_what_is_wrong_is_never_quickly_right(wrong: dict[str, Any]) -> None:
    assert judged(QUICK, wrong)[2]
