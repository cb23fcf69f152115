"""`enitide bpf`: what this node's eBPF maps and programs hold. Reads the pins; works with the agent dead."""

from __future__ import annotations

from pathlib import Path

import click

from enitide_api.output import emit, output_option
from enitide_enidp.cli.bpfpolicy import columns, ct_group, ipcache_group, pin_dir_option, policy_group
from enitide_enidp.datapath import views


@click.group()
def main() -> None:
    """Look into this node's eBPF maps and programs."""


for group in (policy_group, ct_group, ipcache_group):
    main.add_command(group)


@main.group("map")
def map_group() -> None:
    """Maps: list them, dump one."""


@map_group.command("list")
@pin_dir_option
@output_option
def map_list(pin_dir: Path, form: str) -> None:
    """Every map, its shape and purpose."""
    with views.opened(pin_dir) as fds:
        emit(views.list_maps(fds), form, columns("name", "id", "keyBytes", "valueBytes", "capacity", "purpose"))


@map_group.command("dump")
@click.argument("name")
@pin_dir_option
@output_option
def map_dump(name: str, pin_dir: Path, form: str) -> None:
    """All entries of one map."""
    view = views.view(name)
    with views.opened(pin_dir) as fds:
        emit(view.rows(fds), form, columns(*view.columns))


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
        emit(views.list_programs(fds), form, columns(*keys))
