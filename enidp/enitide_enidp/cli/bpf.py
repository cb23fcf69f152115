"""`enitide bpf`: what this node's eBPF maps and programs hold. Reads the pins; works with the agent dead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from enitide_api.output import Column, emit, output_option
from enitide_api.settings import AgentSettings
from enitide_enidp.datapath import views

F = TypeVar("F", bound=Callable[..., Any])


def pin_dir_option(function: F) -> F:
    """`--pin-dir`, with the agent's environment name and default."""
    return click.option(
        "--pin-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=AgentSettings().pin_dir,
        envvar="ENITIDE_PIN_DIR",
        show_default=True,
        help="Where the agent of this node pins its maps. [ENITIDE_PIN_DIR]",
    )(function)


def _columns(*keys: str) -> tuple[Column, ...]:
    return tuple(Column(key, key) for key in keys)


@click.group()
def main() -> None:
    """Look into this node's eBPF maps and programs."""


@main.group("map")
def map_group() -> None:
    """Maps: list them, dump one."""


@map_group.command("list")
@pin_dir_option
@output_option
def map_list(pin_dir: Path, form: str) -> None:
    """Every map, its shape and purpose."""
    with views.opened(pin_dir) as fds:
        emit(views.list_maps(fds), form, _columns("name", "id", "keyBytes", "valueBytes", "capacity", "purpose"))


@map_group.command("dump")
@click.argument("name")
@pin_dir_option
@output_option
def map_dump(name: str, pin_dir: Path, form: str) -> None:
    """All entries of one map."""
    view = views.view(name)
    with views.opened(pin_dir) as fds:
        emit(view.rows(fds), form, _columns(*view.columns))


@main.group("prog")
def prog_group() -> None:
    """Programs: list them."""


@prog_group.command("list")
@pin_dir_option
@output_option
def prog_list(pin_dir: Path, form: str) -> None:
    """Every loaded program: where it hooks in, whether its set runs, its size."""
    keys = ("hook", "half", "runs", "id", "name", "tag", "translatedBytes", "machineCodeBytes")
    with views.opened(pin_dir) as fds:
        emit(views.list_programs(fds), form, _columns(*keys))
