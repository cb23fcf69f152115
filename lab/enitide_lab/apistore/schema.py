"""Structural schemas of the API server: prune what is unknown, put in defaults, validate, apply rules.

Two passes over an object, both copy-on-write and both skipping what is the very same as before: `normalize` (unknown
keys out and listed, defaults in) and `validate` (every cause, not the first). Skipping the unchanged is also what the
API server does ("ratcheting"): an object that an older schema accepted can still be changed elsewhere. A keyword that
is not served here makes the schema itself invalid; none is passed over in silence.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from enitide_kube.status import StatusCause
from enitide_lab.apistore import quick
from enitide_lab.apistore.cel import Rule, RuleError, compile_rule


class SchemaError(Exception):
    """The schema is not one that is served here."""


class _Missing:
    """There was no such value before."""


MISSING: Final = _Missing()

# Words for people and for other programs: they change nothing in what an object may be.
_ANNOTATIONS = frozenset(
    {
        "description",
        "title",
        "example",
        "externalDocs",
        "format",
        "x-kubernetes-map-type",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    }
)
_BOUNDS = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "enum",
)
_STRUCTURE = frozenset(
    {
        "type",
        "properties",
        "additionalProperties",
        "items",
        "required",
        "default",
        "nullable",
        "not",
        "allOf",
        "anyOf",
        "oneOf",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
    }
)
_KNOWN = _ANNOTATIONS | _STRUCTURE | frozenset(_BOUNDS)
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_DURATION = re.compile(r"^[-+]?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+$|^0$")


def _format_ok(name: str, value: str) -> bool:
    """Formats that the API server checks; any other is only a word."""
    try:
        match name:
            case "date-time":
                datetime.fromisoformat(value)
            case "ipv4":
                ipaddress.IPv4Address(value)
            case "ipv6":
                ipaddress.IPv6Address(value)
            case "cidr":
                ipaddress.ip_network(value, strict=False)
            case "duration":
                return _DURATION.match(value) is not None
    except ValueError:
        return False
    return True


class Schema:
    """One compiled schema node."""

    def __init__(self, declared: Mapping[str, Any], path: str = "") -> None:
        unknown = set(declared) - _KNOWN
        if unknown:
            raise SchemaError(f"{path or 'schema'}: {sorted(unknown)} is not served here")
        self.path = path
        self.type: str = declared.get("type", "")
        self.format: str = declared.get("format", "")
        self.nullable: bool = declared.get("nullable", False)
        self.preserve: bool = declared.get("x-kubernetes-preserve-unknown-fields", False)
        self.int_or_string: bool = declared.get("x-kubernetes-int-or-string", False)
        self.required: tuple[str, ...] = tuple(declared.get("required", ()))
        self.default: Any = declared.get("default", MISSING)
        self.properties = {k: Schema(v, f"{path}.{k}") for k, v in declared.get("properties", {}).items()}
        extra = declared.get("additionalProperties", False)
        self.additional = Schema(extra, f"{path}.*") if isinstance(extra, dict) else None
        self.preserve = self.preserve or extra is True
        self.items = Schema(declared["items"], f"{path}[]") if "items" in declared else None
        self.list_type: str = declared.get("x-kubernetes-list-type", "atomic")
        self.map_keys: tuple[str, ...] = tuple(declared.get("x-kubernetes-list-map-keys", ()))
        self.bounds = {name: declared[name] for name in _BOUNDS if name in declared}
        self.pattern = re.compile(declared["pattern"]) if "pattern" in declared else None
        self.all_of = [Schema(s, path) for s in declared.get("allOf", ())]
        self.any_of = [Schema(s, path) for s in declared.get("anyOf", ())]
        self.one_of = [Schema(s, path) for s in declared.get("oneOf", ())]
        self.negated = Schema(declared["not"], path) if "not" in declared else None
        try:
            self.rules: tuple[Rule, ...] = tuple(compile_rule(r) for r in declared.get("x-kubernetes-validations", ()))
        except RuleError as error:
            raise SchemaError(f"{path or 'schema'}: {error}") from error
        self.valid, self.whole = quick.valid(self), quick.whole(self)
        self._check(declared)

    @property
    def has_no_default(self) -> bool:
        """Nothing is put in where the value is absent."""
        return self.default is MISSING

    def kind_of(self, key: str) -> str:
        """The type of a property, '' for one that is not declared."""
        child = self.properties.get(key)
        return child.type if child is not None else ""

    def _check(self, declared: Mapping[str, Any]) -> None:
        if self.type and self.type not in _TYPES:
            raise SchemaError(f'{self.path}: type: Unsupported value: "{self.type}"')
        if self.list_type == "map" and not self.map_keys:
            raise SchemaError(f"{self.path}: a list of type map needs x-kubernetes-list-map-keys")
        if self.type == "array" and self.items is None and not self.preserve:
            raise SchemaError(f"{self.path}: an array needs items")
        if "default" in declared:
            causes: list[StatusCause] = []
            self.validate(self.normalize(self.default, MISSING, "", []), MISSING, "default", causes)
            if causes:
                raise SchemaError(f"{self.path}: {causes[0].field}: {causes[0].message}")

    # --- pruning and defaults ------------------------------------------------------------------------------------

    def normalize(self, value: Any, old: Any, path: str, unknown: list[str]) -> Any:
        """`value` without unknown keys (each listed in `unknown`) and with defaults; the same object if it was so."""
        if value is old or self.whole(value):
            return value
        if isinstance(value, dict) and (self.properties or self.additional or not self.preserve):
            return self._normalize_map(value, old if isinstance(old, dict) else {}, path, unknown)
        if isinstance(value, list) and self.items is not None:
            # items are paired by place only to find identical ones; nothing else depends on the pairing
            before = old if isinstance(old, list) and len(old) == len(value) else [MISSING] * len(value)
            pairs = enumerate(zip(value, before, strict=True))
            items = [self.items.normalize(v, o, f"{path}[{i}]", unknown) for i, (v, o) in pairs]
            return value if all(a is b for a, b in zip(items, value, strict=True)) else items
        return value

    def _normalize_map(
        self, value: dict[str, Any], old: Mapping[str, Any], path: str, unknown: list[str]
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        changed = False
        for key, item in value.items():
            child = self.properties.get(key) or self.additional
            here = f"{path}.{key}" if path else key
            if child is None and not self.preserve:
                unknown.append(here)
                changed = True
                continue
            if item is None and child is not None and child.default is not MISSING and not child.nullable:
                changed = True  # an explicit null where there is a default means: take the default
                continue
            kept = item if child is None else child.normalize(item, old.get(key, MISSING), here, unknown)
            changed = changed or kept is not item
            result[key] = kept
        for key, child in self.properties.items():
            if key not in result and child.default is not MISSING:
                result[key] = child.normalize(child.default, MISSING, f"{path}.{key}", unknown)
                changed = True
        return result if changed else value

    # --- validation ----------------------------------------------------------------------------------------------

    def validate(self, value: Any, old: Any, path: str, causes: list[StatusCause]) -> None:
        """Appends a cause for each thing wrong with `value`. What equals `old` is not looked at again."""
        if old is not MISSING and (value is old or value == old):
            return
        if self.valid is not None and self.valid(value):
            return
        if value is None:
            if not self.nullable and (self.type or self.int_or_string):
                causes.append(_cause("FieldValueTypeInvalid", path, value, f"must be of type {self.type or 'integer'}"))
            return
        if not self._type_ok(value):
            wanted = "integer or string" if self.int_or_string else self.type
            causes.append(_cause("FieldValueTypeInvalid", path, value, f"{path} in body must be of type {wanted}"))
            return
        before = len(causes)
        causes.extend(self._out_of_bounds(value, path))
        if isinstance(value, dict):
            self._validate_map(value, old if isinstance(old, dict) else {}, path, causes)
        elif isinstance(value, list):
            self._validate_list(value, old if isinstance(old, list) else [], path, causes)
        self._validate_combined(value, path, causes)
        if len(causes) == before:  # rules may rely on the types of what they read
            self._apply_rules(value, old, path, causes)

    def _type_ok(self, value: Any) -> bool:
        if self.int_or_string:
            return isinstance(value, (int, str)) and not isinstance(value, bool)
        if not self.type:
            return True
        if isinstance(value, bool):
            return self.type == "boolean"
        if self.type == "integer" and isinstance(value, float):
            return value.is_integer()
        return isinstance(value, _TYPES[self.type])

    def _validate_map(
        self, value: Mapping[str, Any], old: Mapping[str, Any], path: str, causes: list[StatusCause]
    ) -> None:
        for key in self.required:
            if key not in value:
                here = f"{path}.{key}" if path else key
                causes.append(StatusCause(reason="FieldValueRequired", message="Required value", field=here))
        for key, item in value.items():
            child = self.properties.get(key) or self.additional
            if child is not None:
                child.validate(item, old.get(key, MISSING), f"{path}.{key}" if path else key, causes)

    def _validate_list(self, value: list[Any], old: list[Any], path: str, causes: list[StatusCause]) -> None:
        before: dict[Any, Any] = {}
        if self.list_type == "map":
            before = {self._map_key(item): item for item in old}
        seen: set[Any] = set()
        for index, item in enumerate(value):
            here = f"{path}[{index}]"
            if self.list_type in ("map", "set"):
                key = self._map_key(item) if self.list_type == "map" else msgspec.json.encode(item)
                if key in seen:
                    causes.append(
                        StatusCause(
                            reason="FieldValueDuplicate", message=f"Duplicate value: {_shown(item)}", field=here
                        )
                    )
                seen.add(key)
                previous = before.get(key, MISSING)
            else:
                previous = MISSING
            if self.items is not None:
                self.items.validate(item, previous, here, causes)

    def _map_key(self, item: Any) -> bytes:
        keyed = item if isinstance(item, dict) else {}
        return msgspec.json.encode([keyed.get(key) for key in self.map_keys])

    def _validate_combined(self, value: Any, path: str, causes: list[StatusCause]) -> None:
        for schema in self.all_of:
            schema.validate(value, MISSING, path, causes)
        if self.any_of and not any(_fits(schema, value, path) for schema in self.any_of):
            causes.append(_cause("FieldValueInvalid", path, value, "must validate at least one schema (anyOf)"))
        if self.one_of and sum(_fits(schema, value, path) for schema in self.one_of) != 1:
            causes.append(_cause("FieldValueInvalid", path, value, "must validate one and only one schema (oneOf)"))
        if self.negated is not None and _fits(self.negated, value, path):
            causes.append(_cause("FieldValueInvalid", path, value, "must not validate the schema (not)"))

    def _out_of_bounds(self, value: Any, path: str) -> Iterable[StatusCause]:
        if self.format and isinstance(value, str) and not _format_ok(self.format, value):
            yield _cause("FieldValueInvalid", path, value, f"{path} in body must be of type {self.format}")
        for name, bound in self.bounds.items():
            wrong = self._bound_broken(name, bound, value)
            if wrong:
                yield _cause(*wrong[:1], path, value, wrong[1])

    def _bound_broken(self, name: str, bound: Any, value: Any) -> tuple[str, str] | None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        size = len(value) if isinstance(value, (str, list, dict)) else 0
        match name:
            case "enum" if value not in bound:
                return "FieldValueNotSupported", f"supported values: {', '.join(_shown(v) for v in bound)}"
            case "minimum" if number and self._below(value, bound):
                return "FieldValueInvalid", f"should be greater than {self._or_equal('Minimum')}{bound}"
            case "maximum" if number and self._below(bound, value, "exclusiveMaximum"):
                return "FieldValueInvalid", f"should be less than {self._or_equal('Maximum')}{bound}"
            case "multipleOf" if number and value % bound:
                return "FieldValueInvalid", f"should be a multiple of {bound}"
            case "minLength" if isinstance(value, str) and size < bound:
                return "FieldValueInvalid", f"should be at least {bound} chars long"
            case "maxLength" if isinstance(value, str) and size > bound:
                return "FieldValueTooLong", f"may not be more than {bound} bytes"
            case "pattern" if isinstance(value, str) and self.pattern and not self.pattern.search(value):
                return "FieldValueInvalid", f"should match '{bound}'"
            case "minItems" if isinstance(value, list) and size < bound:
                return "FieldValueInvalid", f"should have at least {bound} items"
            case "maxItems" if isinstance(value, list) and size > bound:
                return "FieldValueTooMany", f"must have at most {bound} items"
            case "uniqueItems" if bound and isinstance(value, list) and _repeats(value):
                return "FieldValueDuplicate", "items must be unique"
            case "minProperties" if isinstance(value, dict) and size < bound:
                return "FieldValueInvalid", f"should have at least {bound} properties"
            case "maxProperties" if isinstance(value, dict) and size > bound:
                return "FieldValueTooMany", f"must have at most {bound} properties"
        return None

    def _below(self, low: float, high: float, exclusive: str = "exclusiveMinimum") -> bool:
        return low <= high if self.bounds.get(exclusive) else low < high

    def _or_equal(self, which: str) -> str:
        return "" if self.bounds.get(f"exclusive{which}") else "or equal to "

    def _apply_rules(self, value: Any, old: Any, path: str, causes: list[StatusCause]) -> None:
        for rule in self.rules:
            if rule.is_transition and old is MISSING:
                continue
            sentence = rule.broken(value, old)
            if sentence is not None:
                causes.append(_cause(rule.reason, path + rule.field_path, value, sentence))


def _fits(schema: Schema, value: Any, path: str) -> bool:
    causes: list[StatusCause] = []
    schema.validate(value, MISSING, path, causes)
    return not causes


def _repeats(value: list[Any]) -> bool:
    return len({msgspec.json.encode(item, order="deterministic") for item in value}) < len(value)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return '"object"'
    if isinstance(value, list):
        return '"array"'
    return msgspec.json.encode(value).decode()


def _cause(reason: str, path: str, value: Any, sentence: str) -> StatusCause:
    word = "Unsupported value" if reason == "FieldValueNotSupported" else "Invalid value"
    message = "Required value" if reason == "FieldValueRequired" else f"{word}: {_shown(value)}: {sentence}"
    return StatusCause(reason=reason, message=message, field=path or "<nil>")
