"""Kernel settings of the calling thread's network namespace, read and written under /proc/sys/net.

Plain system calls, since four of them stand on the way of every pod. Written only where they differ, so that watching
them costs reads alone. A setting that this kernel lacks (IPv6 switched off, say) reads as None; a write that fails is
`NetlinkFailed`.
"""

from __future__ import annotations

import os

from enitide_api.errors import NetlinkFailed

_ROOT = "/proc/sys/net/"
_LONGEST = 256


def read(name: str) -> str | None:
    """The value of `ipv4/ip_forward` and the like; None where there is no such setting."""
    try:
        fd = os.open(_ROOT + name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, _LONGEST).decode().strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def ensure(name: str, value: str) -> bool:
    """Make it so; whether it had to be changed. A setting that does not exist is left at that."""
    current = read(name)
    if current is None or current == value:
        return False
    try:
        fd = os.open(_ROOT + name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise NetlinkFailed(f"cannot set net/{name} to {value}: {error.strerror}") from error
    return True
