"""What this node's agent knows, asked over its socket; what can be seen without it is seen without it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from enitide_api.errors import AgentUnreachable
from enitide_api.places import RUN_DIR

F = TypeVar("F", bound=Callable[..., Any])
_TIMEOUT_S = 5.0
_FRESH_S = 5.0


def run_dir_option(function: F) -> F:
    """`--run-dir`, with the agent's environment name and default."""
    return click.option(
        "--run-dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=RUN_DIR,
        envvar="ENITIDE_RUN_DIR",
        show_default=True,
        help="Where the agent of this node has its socket. [ENITIDE_RUN_DIR]",
    )(function)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


def ask(run_dir: Path, path: str) -> Any:
    """GET a path of the agent. `AgentUnreachable` when nobody answers."""
    connection = _Connection(run_dir / "agent.sock")
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise AgentUnreachable(f"no agent answers at {run_dir / 'agent.sock'} ({error})") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise AgentUnreachable(f"the agent answered {path} with {answer.status}: {body[:200]!r}")
    return json.loads(body)


def endpoints(run_dir: Path) -> list[dict[str, Any]]:
    """The node's pods, as `/v1/endpoints` has them."""
    found: list[dict[str, Any]] = ask(run_dir, "/v1/endpoints")["endpoints"]
    return found


def names(run_dir: Path) -> dict[int, str]:
    """`namespace/name` by ifindex; empty without an agent, since what is asked works without it."""
    try:
        return {row["ifindex"]: row["owner"] for row in endpoints(run_dir) if row["owner"]}
    except AgentUnreachable:
        return {}


class Names:
    """`names` that are asked again at most every few seconds: pods come and go while a command follows."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._known: dict[int, str] = {}
        self._asked = -_FRESH_S

    def now(self) -> dict[int, str]:
        """As of a few seconds ago at most."""
        if time.monotonic() - self._asked >= _FRESH_S:
            self._known, self._asked = names(self._run_dir), time.monotonic()
        return self._known
