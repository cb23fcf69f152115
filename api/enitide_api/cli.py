"""`enitide`, also `kubectl enitide`: finds the command in the table, imports it, and turns errors into exit codes.

Exit codes: 0 healthy or done, 1 unhealthy or failed, 2 wrong use, 3 something could not be reached.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from enitide_api.commands import COMMANDS, Command

_BY_NAME = {command.name: command for command in COMMANDS}


class Table(click.Group):
    """A click group whose members are rows of the command table; nothing is imported to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the table's order."""
        del ctx
        return [command.name for command in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if the table has no such name."""
        del ctx
        row = _BY_NAME.get(cmd_name)
        return load(row) if row else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a wrong name is answered with the closest right one."""
        if args and args[0] not in _BY_NAME and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], _BY_NAME, n=1)
            hint = f"did you mean `{ctx.info_name} {close[0]}`?" if close else f"see `{ctx.info_name} --help`"
            raise click.UsageError(f"there is no command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, one section a group."""
        del ctx
        for group in dict.fromkeys(command.group for command in COMMANDS):
            with formatter.section(group):
                formatter.write_dl([(c.name, c.help) for c in COMMANDS if c.group == group])


def load(row: Command) -> click.Command:
    """Import the command; say which extra is missing rather than show a traceback."""
    module, attribute = row.target.split(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if row.needs and error.name and not error.name.startswith("enitide_"):
            raise click.ClickException(f"`{row.name}` needs the extra: pip install 'enitide[{row.needs}]'") from error
        raise
    if not isinstance(found, click.Command):
        raise TypeError(f"{row.target} is no click command")
    return found


@click.group(cls=Table, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="enitide", message="enitide %(version)s")
def root() -> None:
    """Real AWS VPC addresses for Kubernetes pods, kept ahead of demand, moved by eBPF."""


def main(args: list[str] | None = None) -> None:
    """Entry point of both scripts. Never shows a traceback for an `EnitideError`."""
    called = Path(sys.argv[0]).name
    name = "kubectl enitide" if called.startswith("kubectl") else "enitide"
    try:
        code = root.main(args=args, prog_name=name, standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        from enitide_api.errors import EnitideError, KubeUnavailable

        if not isinstance(error, EnitideError):
            raise
        click.echo(f"enitide: {error.sentence()}", err=True)
        sys.exit(3 if isinstance(error, KubeUnavailable) else error.exit_code)
