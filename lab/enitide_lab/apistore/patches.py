"""The three patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), and the strategic merge of built-in kinds.

Pure and copy-on-write: what a patch does not touch is shared with the old object, so that "unchanged" can be seen by
identity. Objects in the store are never changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from enitide_lab.apistore.refusal import bad_request, unprocessable, unsupported_media

# Lists of built-in kinds that merge by a key (from the patchMergeKey tags of the core types that are served here).
# What is not listed is atomic, as taints, tolerations and args are.
_MERGE_KEYS = {
    "conditions": "type",
    "addresses": "type",
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "podIPs": "ip",
    "hostIPs": "ip",
    "hostAliases": "ip",
    "imagePullSecrets": "name",
    "secrets": "name",
    "ownerReferences": "uid",
    "ports": "containerPort",
}
_MERGED_SETS = frozenset({"finalizers", "podCIDRs"})


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: mappings merge, null deletes, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def json_patch(target: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """RFC 6902, all or nothing. 422 without causes when an operation does not fit the object, as a failed `test`."""
    for number, operation in enumerate(operations):
        try:
            target = _operate(target, operation)
        except (KeyError, IndexError, TypeError) as error:
            raise unprocessable(
                f"the server rejected our request due to an error in our request: operation {number} "
                f"({operation.get('op')} {operation.get('path')}) does not fit the object: {error}"
            ) from error
    return target


def _operate(target: Any, operation: Mapping[str, Any]) -> Any:
    path = _pointer(str(operation["path"]))
    match operation.get("op"):
        case "add":
            return _set(target, path, operation["value"], inserting=True)
        case "replace":
            _get(target, path)
            return _set(target, path, operation["value"], inserting=False)
        case "remove":
            return _remove(target, path)
        case "test":
            if _get(target, path) != operation["value"]:
                raise KeyError("the value is another")
            return target
        case "copy":
            return _set(target, path, _get(target, _pointer(str(operation["from"]))), inserting=True)
        case "move":
            source = _pointer(str(operation["from"]))
            value = _get(target, source)
            return _set(_remove(target, source), path, value, inserting=True)
        case other:
            raise bad_request(
                f"{other!r} is no operation of a JSON patch: write add, remove, replace, move, copy or test"
            )


def _pointer(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    if not text.startswith("/"):
        raise bad_request(f"{text!r} is no JSON pointer: it must begin with /")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))


def _index(sequence: Sequence[Any], part: str, *, end: int) -> int:
    if part == "-":
        return end
    if not part.isdecimal() or int(part) > end:
        raise IndexError(f"no index {part} in a list of {len(sequence)}")
    return int(part)


def _get(target: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        target = target[_index(target, part, end=len(target) - 1)] if isinstance(target, list) else target[part]
    return target


def _set(target: Any, path: tuple[str, ...], value: Any, *, inserting: bool) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(target, list):
        copy = list(target)
        if rest or not inserting:
            index = _index(copy, head, end=len(copy) - 1)
            copy[index] = _set(copy[index], rest, value, inserting=inserting)
        else:
            copy.insert(_index(copy, head, end=len(copy)), value)
        return copy
    return {**target, head: _set(target[head], rest, value, inserting=inserting) if rest else value}


def _remove(target: Any, path: tuple[str, ...]) -> Any:
    if not path:
        raise KeyError("the whole object cannot be removed")
    head, rest = path[0], path[1:]
    if isinstance(target, list):
        index = _index(target, head, end=len(target) - 1)
        kept = [_remove(target[index], rest)] if rest else []
        return target[:index] + kept + target[index + 1 :]
    if rest:
        return {**target, head: _remove(target[head], rest)}
    if head not in target:
        raise KeyError(f"no field {head}")
    return {key: value for key, value in target.items() if key != head}


def strategic(target: Any, patch: Any, name: str = "") -> Any:
    """The strategic merge patch, for the lists named above; `name` is the field's."""
    if isinstance(patch, Mapping):
        return _strategic_map(target, patch)
    if isinstance(patch, list):
        return _strategic_list(target, patch, name)
    return patch


def _strategic_map(target: Any, patch: Mapping[str, Any]) -> Any:
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            result[field] = [item for item in result.get(field) or [] if item not in value]
    for key, value in patch.items():
        if key.startswith("$"):
            _known_directive(key)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = strategic(result.get(key), value, key)
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$setElementOrder/"):
            field = key.partition("/")[2]
            result[field] = _ordered(result.get(field) or [], value, field)
    return result


def _known_directive(key: str) -> None:
    if key.partition("/")[0] not in ("$patch", "$retainKeys", "$setElementOrder", "$deleteFromPrimitiveList"):
        raise bad_request(f"{key!r} is no directive of a strategic merge patch")


def _strategic_list(target: Any, patch: list[Any], name: str) -> list[Any]:
    old = target if isinstance(target, list) else []
    if name in _MERGED_SETS:
        return old + [item for item in patch if item not in old]
    merge_key = _MERGE_KEYS.get(name)
    if name == "ports" and any("containerPort" not in item and "port" in item for item in [*old, *patch]):
        merge_key = "port"  # a service's ports merge by `port`, a container's by `containerPort`
    if merge_key is None:
        return patch
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    result = list(old)
    for item in patch:
        index = next((i for i, have in enumerate(result) if have.get(merge_key) == item.get(merge_key)), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(_strategic_map({}, item))
        else:
            result[index] = _strategic_map(result[index], item)
    return result


def _ordered(items: list[Any], order: Sequence[Any], name: str) -> list[Any]:
    merge_key = _MERGE_KEYS.get(name)

    def rank(item: Any) -> int:
        for index, wanted in enumerate(order):
            if wanted == item or (merge_key and wanted.get(merge_key) == item.get(merge_key)):
                return index
        return len(order)

    return sorted(items, key=rank)


def patch_function(content_type: str, body: bytes, *, with_strategic: bool) -> Callable[[Any], Any]:
    """The patch as a function of the object. 400 for a body that is no such patch, 415 for a type not served."""
    try:
        patch: Any = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise bad_request(f"the patch is not JSON: {error}") from error
    wanted: type = list if content_type == "application/json-patch+json" else dict
    fits = isinstance(patch, wanted)
    if not fits:
        raise bad_request(f"a {content_type} must be a JSON {'array' if wanted is list else 'object'}")
    match content_type:
        case "application/merge-patch+json":
            return lambda target: merge(target, patch)
        case "application/json-patch+json":
            return lambda target: json_patch(target, patch)
        case "application/strategic-merge-patch+json" if with_strategic:
            return lambda target: strategic(target, patch)
    raise unsupported_media(
        f"the body of the request was in an unknown format ({content_type}): accepted here are "
        "application/json-patch+json, application/merge-patch+json and, for built-in kinds, "
        "application/strategic-merge-patch+json"
    )
