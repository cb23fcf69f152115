"""`enitide demo`: a VPC with three nodes; pools fill, pods start, packets pass, and everything is gone again."""

from __future__ import annotations

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--keep", is_flag=True, help="Leave the lab up at the end, to play with.")
@click.option("--name", default="demo", show_default=True, help="Name of the lab.")
@click.option("--prefix-delegation", is_flag=True, help="Pools of /28 prefixes instead of single addresses.")
def main(*, keep: bool, name: str, prefix_delegation: bool) -> int:
    """A tour in less than a minute: a lab comes up, pools fill, pods start, every packet is accounted for.

    Exit code 0 only if each pod ran, each packet that must pass passed, each forgery was refused, and nothing is left.
    """
    import asyncio
    import signal

    from enitide_lab.demo.story import Story

    for number in (signal.SIGTERM, signal.SIGINT):  # the second is ignored by inheritance behind a shell's `&`
        signal.signal(number, signal.default_int_handler)
    return asyncio.run(Story(name, keep=keep, prefix_delegation=prefix_delegation).tell())
