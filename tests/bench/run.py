"""`make bench`: run every benchmark, print one table, write build/bench.json.

A benchmark is a function in a `bench_*.py` beside this file whose name begins with `bench_`; it returns a list of
`{name, value, unit, peer, method}`. Nothing here passes or fails on time; a benchmark that cannot run says why, and
its row shows that.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
Row = dict[str, Any]


def modules() -> Iterator[ModuleType]:
    """Every bench_*.py, imported by path."""
    for path in sorted(HERE.glob("bench_*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        yield module


def benchmarks() -> Iterator[Callable[[], list[Row]]]:
    """Every function whose name begins with bench_."""
    for module in modules():
        for name, member in vars(module).items():
            if name.startswith("bench_") and callable(member):
                yield member


def gives(function: Callable[[], list[Row]]) -> tuple[str, ...]:
    """The names of the figures a benchmark gives: its attribute `names`, else its own name."""
    return getattr(function, "names", (function.__name__.removeprefix("bench_"),))


def main() -> int:
    """Run, print, write. `--only NAME` picks the benchmarks that give that figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", help="name of one figure, as in build/bench.json")
    parser.add_argument("--page", type=Path, help="also write the figures as a page, such as docs/benchmarks.md")
    given = parser.parse_args()
    only, page = given.only, given.page
    chosen = [f for f in benchmarks() if not only or only in gives(f)]
    if not chosen:
        known = sorted(name for f in benchmarks() for name in gives(f))
        print(f"no benchmark gives {only!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for function in chosen:
        print(f"... {', '.join(gives(function))}", file=sys.stderr, flush=True)
        try:
            rows += function()
        except Exception as error:
            traceback.print_exc()
            rows += [
                {"name": n, "value": None, "unit": "", "peer": None, "method": f"could not run: {error}"}
                for n in gives(function)
            ]
    write(rows)
    show(rows)
    if page:
        page.write_text(markdown(rows))
    return 0


def write(rows: list[Row]) -> None:
    """Merge into build/bench.json: a run of one figure keeps the others."""
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    old = json.loads(target.read_text()) if target.exists() else []
    names = {row["name"] for row in rows}
    target.write_text(json.dumps([*(r for r in old if r["name"] not in names), *rows], indent=1) + "\n")


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown(rows: list[Row]) -> str:
    """The figures of this run as a page, with the machine they come from."""
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"
    )
    head = ["# Benchmarks", "", f"Written by `make bench` with `--page` on {datetime.now(UTC).date()}: {machine}.", ""]
    table = ["| figure | value | unit | peer | method |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (f"`{row['name']}`", _shown(row["value"]), row["unit"], _shown(row["peer"]), row["method"])
        table.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*head, *table, ""])


def show(rows: list[Row]) -> None:
    """A table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", "unit", "peer", "method")
    for row in rows:
        table.add_row(row["name"], _shown(row["value"]), row["unit"], _shown(row["peer"]), row["method"])
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
