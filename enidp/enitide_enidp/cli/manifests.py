"""Manifests and queries from files. What cannot be read is a `UsageError` with file and line; nothing is skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from enitide_api.errors import UsageError

_ENDINGS = {".yaml", ".yml", ".json"}
_BASE: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Strict(_BASE):  # type: ignore[misc]
    """Safe YAML that refuses a key written twice, as kubectl does: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different."""
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"key {key.value!r} is written twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


# A date stays the text that was written: no field of these objects is a date.
_Strict.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for first, pairs in _BASE.yaml_implicit_resolvers.items()  # type: ignore[attr-defined]
}


def load_folder(folder: Path) -> list[dict[str, Any]]:
    """Every document of every manifest below the folder, in the order of file names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if not paths:
        raise UsageError(f"{folder} holds no .yaml, .yml or .json file")
    found = []
    for path in paths:
        for index, document in enumerate(_documents(path)):
            if document is None:
                continue
            if not isinstance(document, dict):
                raise UsageError(f"{path}: document {index} is no object: write apiVersion, kind, metadata")
            found.append(document)
    return found


def load_queries(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The one document of a query file, None if it is empty; and for each item of its list the file and line."""
    documents = [document for document in _documents(path) if document is not None]
    if len(documents) > 1:
        raise UsageError(f"{path} holds {len(documents)} documents: write one list")
    if not documents:
        return None, ()
    nodes = yaml.compose_all(path.read_bytes(), Loader=_BASE)
    lists = (node.value for node in nodes if isinstance(node, yaml.SequenceNode))
    return documents[0], tuple(f"{path}:{item.start_mark.line + 1}" for item in next(lists, ()))


def _documents(path: Path) -> list[Any]:
    try:
        return list(yaml.load_all(path.read_bytes(), Loader=_Strict))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from None
