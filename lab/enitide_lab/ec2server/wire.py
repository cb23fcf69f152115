"""EC2's query protocol, in and out, by botocore's own description of it.

A request's form becomes the same nested dictionary that a boto3 caller gave; a result in boto3's form becomes EC2's
XML. Names and types come from botocore's service model, so a misspelt element cannot leave this server: it is an
error here. Nothing is guessed and no unknown parameter is dropped.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.loaders import Loader
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape

from enitide_lab.ec2model.errors import ModelError

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
Render = Callable[[Any, list[str]], None]


@cache
def service() -> ServiceModel:
    """Botocore's model of EC2."""
    return ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")


def operation(verb: str) -> OperationModel:
    """One verb of it."""
    return service().operation_model(verb)


# --- in --------------------------------------------------------------------------------------------------------------


def read_form(body: str) -> dict[str, str]:
    """The form's fields."""
    return dict(parse_qsl(body, keep_blank_values=True))


def parse(verb: str, form: Mapping[str, str]) -> dict[str, Any]:
    """The form as boto3's parameters. UnknownParameter, MissingParameter or InvalidParameterValue as EC2 has them."""
    tree: dict[str, Any] = {}
    for key, value in form.items():
        if key not in ("Action", "Version"):
            _plant(tree, key, value)
    shape = operation(verb).input_shape
    if not isinstance(shape, StructureShape):
        return {}
    found: dict[str, Any] = _structure(shape, tree, "")
    for name in shape.required_members:
        if name not in found:
            raise ModelError("MissingParameter", f"The request must contain the parameter {name}")
    return found


def _plant(tree: dict[str, Any], key: str, value: str) -> None:
    *path, leaf = key.split(".")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ModelError(
                "InvalidParameterValue", f"The parameter {key} is given both as a value and as a structure"
            )
    tree[leaf] = value


def _query_name(name: str, shape: Shape) -> str:
    if query := shape.serialization.get("queryName"):
        return str(query)
    located = str(shape.serialization.get("name", name))
    return located[0].upper() + located[1:]


@cache
def _members(shape_name: str) -> dict[str, tuple[str, Shape]]:
    shape: Any = service().shape_for(shape_name)
    return {_query_name(name, member): (name, member) for name, member in shape.members.items()}


def _structure(shape: StructureShape, tree: Mapping[str, Any], path: str) -> dict[str, Any]:
    members = _members(shape.name)
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in members:
            raise ModelError("UnknownParameter", f"The parameter {path}{key} is not recognized")
        name, member = members[key]
        found[name] = _value(member, value, f"{path}{key}.")
    return found


def _value(shape: Shape, value: Any, path: str) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        return _structure(shape, value, path)
    if isinstance(shape, ListShape) and isinstance(value, dict):
        return [_value(shape.member, value[key], f"{path}{key}.") for key in sorted(value, key=_place)]
    if isinstance(value, dict) or isinstance(shape, StructureShape | ListShape):
        raise ModelError("InvalidParameterValue", f"The parameter {path[:-1]} has the wrong form")
    return _scalar(shape.type_name, value, path[:-1])


def _place(key: str) -> int:
    if not key.isdigit():
        raise ModelError("InvalidParameterValue", f"'{key}' is not a place in a list")
    return int(key)


def _scalar(kind: str, value: str, path: str) -> Any:
    if kind in ("integer", "long"):
        if not value.lstrip("-").isdigit():
            raise ModelError(
                "InvalidParameterValue", f"Value ({value}) for parameter {path} is invalid. Must be a number."
            )
        return int(value)
    if kind == "boolean":
        if value.lower() not in ("true", "false"):
            raise ModelError(
                "InvalidParameterValue", f"Value ({value}) for parameter {path} is invalid. Must be a boolean."
            )
        return value.lower() == "true"
    return value


# --- out -------------------------------------------------------------------------------------------------------------


def render(verb: str, result: Mapping[str, Any]) -> bytes:
    """The XML reply of `verb`. `KeyError` for a member that EC2's reply does not have."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    out.append(f'<{verb}Response xmlns="{NAMESPACE}"><requestId>{uuid.uuid4()}</requestId>')
    shape = operation(verb).output_shape
    if shape is not None:
        _renderer(shape.name)(result, out)
    elif result:
        raise KeyError(f"{verb} answers with nothing, not with {sorted(result)}")
    else:
        out.append("<return>true</return>")
    out.append(f"</{verb}Response>")
    return "".join(out).encode()


def nothing(verb: str) -> dict[str, list[object]]:
    """A listing of nothing, as EC2 writes it: each list is there, and empty."""
    shape = operation(verb).output_shape
    members = shape.members if isinstance(shape, StructureShape) else {}
    return {name: [] for name, member in members.items() if isinstance(member, ListShape)}


def known_part(shape: Shape, value: Any) -> Any:
    """`value` without what this botocore's shape does not know: for documents of another origin and a later date."""
    if isinstance(shape, StructureShape):
        return {name: known_part(shape.members[name], item) for name, item in value.items() if name in shape.members}
    if isinstance(shape, ListShape):
        return [known_part(shape.member, item) for item in value]
    return value


def render_error(error: ModelError) -> bytes:
    """EC2's error document."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        f"</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>"
    ).encode()


@cache
def _renderer(shape_name: str) -> Render:
    """A renderer for a structure, compiled once; structures may contain themselves."""
    members: dict[str, Render] = {}
    built = False

    def structure(value: Any, out: list[str]) -> None:
        nonlocal built
        if not built:
            shape: Any = service().shape_for(shape_name)
            for name, member in shape.members.items():
                members[name] = _element(str(member.serialization.get("name", name)), member)
            built = True
        for name, item in value.items():
            if item is not None:
                members[name](item, out)

    return structure


def _element(tag: str, shape: Shape) -> Render:
    opened, closed = f"<{tag}>", f"</{tag}>"
    content = _content(shape)

    def element(value: Any, out: list[str]) -> None:
        out.append(opened)
        content(value, out)
        out.append(closed)

    return element


def _content(shape: Shape) -> Render:
    if isinstance(shape, StructureShape):
        return _renderer(shape.name)
    if isinstance(shape, ListShape):
        item = _element(str(shape.member.serialization.get("name", "item")), shape.member)

        def listed(value: Any, out: list[str]) -> None:
            for entry in value:
                item(entry, out)

        return listed
    if shape.type_name == "boolean":
        return lambda value, out: out.append("true" if value else "false")
    if shape.type_name == "timestamp":
        return lambda value, out: out.append(stamp(value))
    return lambda value, out: out.append(escape(str(value)))


def stamp(epoch_s: float) -> str:
    """A time as EC2 writes it."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
