"""Tables for `kubectl get`: columns by JSONPath or function, ages as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from enitide_lab.apistore.jsonpath import find

if TYPE_CHECKING:
    from enitide_lab.apistore.table import Stored
    from enitide_lab.apistore.types import Column, ResourceType


def age(since: str, now: datetime) -> str:
    """`5s`, `3m10s`, `2h`, `4d`: as kubectl shows it."""
    try:
        passed = now - datetime.fromisoformat(since)
    except ValueError:
        return "<invalid>"
    seconds = max(0, int(passed / timedelta(seconds=1)))
    for limit, text in (
        (120, f"{seconds}s"),
        (600, f"{seconds // 60}m{seconds % 60}s" if seconds % 60 else f"{seconds // 60}m"),
        (3 * 3600, f"{seconds // 60}m"),
        (48 * 3600, f"{seconds // 3600}h"),
    ):
        if seconds < limit:
            return text
    return f"{seconds // 86400}d"


def _cell(column: Column, obj: Mapping[str, Any], now: datetime) -> Any:
    if column.value is not None:
        return column.value(obj)
    values = find(obj, column.path)
    if not values:
        return "<unknown>" if column.type == "date" else None if column.type != "string" else ""
    if column.type == "date":
        return age(str(values[0]), now)
    if column.type == "string":
        return " ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return values[0]


def table(rtype: ResourceType, items: Iterable[Stored], metadata: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """A `Table` of these objects; columns are judged on the stored form, rows carry each object's metadata."""
    columns = [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]
    for column in rtype.columns:
        # ages are rendered here, so the client must take them as they are
        kind = "string" if column.type == "date" else column.type
        columns.append(
            {"name": column.name, "type": kind, "format": column.format, "description": column.description,
             "priority": column.priority}
        )  # fmt: skip
    rows = [
        {
            "cells": [stored.obj["metadata"]["name"], *(_cell(column, stored.obj, now) for column in rtype.columns)],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": stored.obj["metadata"],
            },
        }
        for stored in items
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    }
