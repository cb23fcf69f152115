"""Does one small thing inside another network namespace, from a thread of its own.

A socket belongs for life to the namespace in which it was made, so a socket made by such a thread is used afterwards
like any other. The calling thread never changes its namespace: a failure cannot leave the program in the wrong one.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from enitide_api.errors import NamespaceMissing

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def inside(netns: Path | None, action: Callable[[], _T]) -> _T:
    """What `action` returns when run in `netns` (a path; None is here). `NamespaceMissing`; `action`'s own errors."""
    if netns is None:
        return action()
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def enter_and_act() -> None:
        try:
            _enter(netns)
            outcome.append(action())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            failure.append(error)

    thread = threading.Thread(target=enter_and_act, name=f"in {netns.name}", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def free_port(netns: Path | None, address: str) -> int:
    """A TCP port that nothing uses now. Another may take it before its user binds it: be ready to choose again."""

    def bind() -> int:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
            port: int = probe.getsockname()[1]
            return port

    return inside(netns, bind)


def connect(netns: Path | None, address: tuple[str, int], timeout_s: float) -> socket.socket:
    """A TCP connection made in `netns`."""
    return inside(netns, lambda: socket.create_connection(address, timeout_s))


def _enter(netns: Path) -> None:
    try:
        handle = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NamespaceMissing(f"there is no network namespace at {netns}") from error
    try:
        if _libc.setns(handle, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise NamespaceMissing(f"cannot enter {netns}: {os.strerror(code)}")
    finally:
        os.close(handle)
