"""The JSONPath of printer columns: keys, `[0]`, `[*]` and `[?(@.type=="Ready")]`. More is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

_STEP = re.compile(
    r"\.(?P<key>[A-Za-z0-9_-]+(?:\\\.[A-Za-z0-9_/-]+)*)"
    r"|\[\*\](?P<all>)"
    r"|\[(?P<index>-?\d+)\]"
    r"|\[['\"](?P<quoted>[^'\"]+)['\"]\]"
    r"|\[\?\(@\.(?P<field>[A-Za-z0-9_.]+)\s*==\s*['\"](?P<value>[^'\"]*)['\"]\)\]"
)


@lru_cache(maxsize=256)
def steps(path: str) -> tuple[re.Match[str], ...]:
    """The path's steps. `ValueError` for more than is served here."""
    found_steps, at = [], 0
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ValueError(f"{path!r} is no JSONPath that is served here (at {text[at:]!r})")
        found_steps.append(found)
        at = found.end()
    return tuple(found_steps)


def find(obj: Any, path: str) -> list[Any]:
    """All values that a JSONPath names: keys, `[0]`, `[*]`, `[?(@.type=="Ready")]`. `ValueError` for more than that."""
    values = [obj]
    for step in steps(path):
        values = [found for value in values for found in _follow(value, step)]
    return values


def _follow(value: Any, step: re.Match[str]) -> Iterable[Any]:
    key = step["key"] or step["quoted"]
    if key is not None:
        key = key.replace("\\.", ".")
        return [value[key]] if isinstance(value, Mapping) and value.get(key) is not None else []
    if step["all"] is not None:
        return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else []
    if not isinstance(value, list):
        return []
    if step["index"] is not None:
        index = int(step["index"])
        return [value[index]] if -len(value) <= index < len(value) else []
    return [item for item in value if str(_field(item, step["field"])) == step["value"]]


def _field(item: Any, path: str) -> Any:
    for part in path.split("."):
        item = item.get(part, "") if isinstance(item, Mapping) else ""
    return item
