"""How commands print: rows in four forms. Table and wide for people, JSON and YAML for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Row = Mapping[str, Any]
FORMATS = ("table", "wide", "json", "yaml")


@dataclass(frozen=True, slots=True)
class Column:
    """`key` of a row under `title`; `wide` columns show only with `-o wide`."""

    title: str
    key: str
    wide: bool = False


def output_option(function: F) -> F:
    """`-o table|wide|json|yaml`."""
    return click.option(
        "-o", "--output", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of output."
    )(function)


def emit(value: Any, form: str, columns: Sequence[Column] = (), rows: Sequence[Row] | None = None) -> None:
    """Print `value` whole as JSON or YAML, or `rows` (else `value` itself) as a table of `columns`."""
    if form == "json":
        click.echo(json.dumps(value, indent=2))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False), nl=False)
    else:
        shown = [c for c in columns if form == "wide" or not c.wide]
        click.echo(table([c.title for c in shown], [[cell(r.get(c.key)) for c in shown] for r in rows or value or ()]))


def cell(value: Any) -> str:
    """A value as a table shows it: `-` for nothing, lists joined by commas."""
    if value is None or value in ("", [], ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(str(v) for v in value)
    return str(value)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two blanks apart, as kubectl prints them; the last column is not padded."""
    lines = [[t.upper() for t in titles], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def paint(text: str, color: str) -> str:
    """Colour only at a terminal and never under NO_COLOR."""
    import os

    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=color)
