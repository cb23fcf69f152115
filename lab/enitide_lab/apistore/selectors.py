"""Label and field selectors: parsing as the API server does it, and matching.

A selector also says whether it pins an object's name or its node, so that lists and watches of one node cost work for
one node, never for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from enitide_lab.apistore.refusal import bad_request

Object = Mapping[str, Any]

_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")
_SPLIT = re.compile(r",(?![^(]*\))")
LABEL_VALUE = re.compile(r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
LABEL_KEY = re.compile(r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_INTEGER = re.compile(r"^-?\d+$")


@dataclass(frozen=True, slots=True)
class LabelTerm:
    """One requirement: `operator` is in, notin, exists, missing, gt or lt."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet it. As in Kubernetes, `!=` and `notin` are met by an absent key."""
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "missing":
                return value is None
            case "in":
                return value in self.values
            case "notin":
                return value not in self.values
        if value is None or not _INTEGER.match(value):
            return False
        bound = int(next(iter(self.values)))
        return int(value) > bound if self.operator == "gt" else int(value) < bound


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """`path` (in the stored form) equals, or does not equal, `value`; an absent field is ''."""

    path: str
    value: str
    negated: bool

    def matches(self, obj: Object) -> bool:
        """Whether the object meets it."""
        return (field_value(obj, self.path) == self.value) != self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """Namespace ('' for all), label terms and field terms, all of which must be met."""

    namespace: str = ""
    labels: tuple[LabelTerm, ...] = ()
    fields: tuple[FieldTerm, ...] = ()

    def matches(self, obj: Object) -> bool:
        """Whether the object is selected."""
        metadata = obj["metadata"]
        if self.namespace and metadata.get("namespace") != self.namespace:
            return False
        if self.labels:
            labels = metadata.get("labels") or {}
            if not all(term.matches(labels) for term in self.labels):
                return False
        return all(term.matches(obj) for term in self.fields)

    def pinned(self, path: str) -> str | None:
        """The one value that `path` must have, if the selector says so."""
        for term in self.fields:
            if term.path == path and not term.negated:
                return term.value
        return None


def field_value(obj: Object, path: str) -> str:
    """A field by its dotted path as field selectors see it: a string, '' when absent, true or false for booleans."""
    value: Any = obj
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return ""
        value = value.get(part)
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse(namespace: str, labels: str, fields: str, selectable: Mapping[str, str]) -> Selector:
    """From the query's strings. `selectable`: field name as users write it → path in the stored object."""
    return Selector(namespace, _parse_labels(labels), _parse_fields(fields, selectable))


def _parse_labels(text: str) -> tuple[LabelTerm, ...]:
    return tuple(_label_term(part.strip()) for part in _SPLIT.split(text)) if text.strip() else ()


def _label_term(part: str) -> LabelTerm:
    found = _SET.match(part)
    if found:
        key, operator, values = found.groups()
        return _checked(LabelTerm(key, operator, frozenset(value.strip() for value in values.split(","))))
    for sign, operator in (("!=", "notin"), ("==", "in"), ("=", "in"), (">", "gt"), ("<", "lt")):
        key, found_sign, value = part.partition(sign)
        if not found_sign:
            continue
        if operator in ("gt", "lt") and not _INTEGER.match(value.strip()):
            break
        return _checked(LabelTerm(key.strip(), operator, frozenset({value.strip()})))
    if part.startswith("!"):
        return _checked(LabelTerm(part[1:].strip(), "missing"))
    return _checked(LabelTerm(part, "exists"))


def _checked(term: LabelTerm) -> LabelTerm:
    if not LABEL_KEY.match(term.key):
        raise bad_request(f"unable to parse requirement: {term.key!r} is no label key")
    for value in sorted(term.values):
        if not LABEL_VALUE.match(value):
            raise bad_request(f"unable to parse requirement: {value!r} is no label value")
    return term


def _parse_fields(text: str, selectable: Mapping[str, str]) -> tuple[FieldTerm, ...]:
    terms = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        negated = "!=" in part
        name, sign, value = part.partition("!=" if negated else "=")
        if not sign:
            raise bad_request(f"invalid selector: {part!r}; write field=value or field!=value")
        path = selectable.get(name.strip())
        if path is None:
            raise bad_request(f"field label not supported: {name.strip()}")
        terms.append(FieldTerm(path, value.removeprefix("=").strip(), negated))
    return tuple(terms)
