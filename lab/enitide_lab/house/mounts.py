"""Mounts and network namespaces of a lab, made by system call: all of them below the lab's folder.

A namespace is made by a thread that unshares, and is held by a bind mount of that thread's own entry. Nothing here
calls `ip netns`, which would show the lab's namespaces to everyone and remounts /sys when it enters one (pinned eBPF
objects vanish). No caller's thread ever changes its namespace.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from enitide_api.errors import LabFailed
from enitide_lab.realkube.netns import inside

_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MNT_DETACH = 2
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def mount(kind: str, target: Path, options: str = "") -> None:
    """Mount a `tmpfs` or `bpf` file system on `target`, which is made."""
    target.mkdir(parents=True, exist_ok=True)
    _check(_libc.mount(b"enitide-lab", os.fsencode(target), kind.encode(), 0, options.encode()), f"mount {target}")


def unmount(target: Path) -> None:
    """Take the mount away at once, busy or not; a target without one is no error."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) != 0 and ctypes.get_errno() not in (2, 22):
        raise LabFailed(f"unmount {target}: {os.strerror(ctypes.get_errno())}")


def mounts_below(folder: Path) -> list[Path]:
    """Every mount point below `folder`, the innermost first."""
    prefix = f"{folder}/"
    points = [
        line.split()[4].encode().decode("unicode_escape")
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    return [Path(point) for point in reversed(points) if point.startswith(prefix) or point == str(folder)]


def make_namespace(path: Path, sysctls: Mapping[str, str] | None = None) -> None:
    """A new network namespace at `path`, loopback up. `sysctls`: names below /proc/sys/net and their values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError as error:
        raise LabFailed(f"there is a namespace at {path} already") from error

    def unshare_and_hold() -> None:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare the network namespace")
        set_up("lo")
        write_sysctls(sysctls or {})
        own = os.fsencode("/proc/thread-self/ns/net")
        _check(_libc.mount(own, os.fsencode(path), b"none", _MS_BIND, None), f"hold {path}")

    try:
        _in_own_thread(unshare_and_hold)
    except BaseException:
        path.unlink()
        raise


def drop_namespace(path: Path) -> None:
    """Let go of the namespace at `path`; it ends with its last process. Not there: nothing to do."""
    unmount(path)
    path.unlink(missing_ok=True)


def write_sysctls(sysctls: Mapping[str, str]) -> None:
    """Write names below /proc/sys/net of the calling thread's namespace."""
    for name, value in sysctls.items():
        try:
            (Path("/proc/sys/net") / name).write_text(value)
        except OSError as error:
            raise LabFailed(f"net.{name.replace('/', '.')} cannot be set to {value}: {error.strerror}") from error


def set_up(device: str) -> None:
    """Bring a device of the calling thread's namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH22x", device.encode(), 0)
        flags = struct.unpack_from("H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", device.encode(), flags | _IFF_UP))


def in_namespace(path: Path, action: Callable[[], _T]) -> _T:
    """What `action` returns when a thread of its own runs it in the namespace at `path`."""
    return inside(path, action)


def _in_own_thread(action: Callable[[], None]) -> None:
    failure: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def _check(result: int, what: str) -> None:
    if result != 0:
        raise LabFailed(f"{what}: {os.strerror(ctypes.get_errno())}")
