"""`enitide agent`: settings in, an event loop around the agent, signals to a clean end, errors to exit codes."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from enitide_api.errors import EnitideError
from enitide_api.logging import configure, get_logger
from enitide_api.options import read_settings, settings_options

if TYPE_CHECKING:
    from enitide_api.settings import AgentSettings

# Two threads share the interpreter for moments (a pass reads the kernel): hand over often, so that no ADD waits 5 ms.
_SWITCH_INTERVAL_S = 0.0005
_log = get_logger("agent")


@click.command()
@settings_options("agent")
def main(**flags: Any) -> None:
    """Run the agent of this node: addresses, routes, eBPF."""
    from enitide_api.settings import AgentSettings

    settings = read_settings(AgentSettings, "agent", flags)
    configure(settings.log_level, settings.log_format, component="agent")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        asyncio.run(_until_signalled(settings))
    except* EnitideError as group:
        raise _first(group) from None


async def _until_signalled(settings: AgentSettings) -> None:
    from enitide_enidp.agent import run

    task = asyncio.ensure_future(run(settings))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        _log.info("stopped; pods keep their network")


def _first(group: BaseExceptionGroup[EnitideError]) -> EnitideError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, EnitideError)
    _log.error("agent ends", reason=found.reason, error=str(found), help=found.help)
    return found
