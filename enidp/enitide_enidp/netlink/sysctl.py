"""Kernel settings of the calling thread's network namespace, read and written under /proc/sys/net.

Written only where they differ, so that watching them costs reads alone. A setting that this kernel lacks (IPv6 switched
off, say) reads as None; a write that fails is `NetlinkFailed`.
"""

from __future__ import annotations

from pathlib import Path

from enitide_api.errors import NetlinkFailed

_ROOT = Path("/proc/sys/net")


def read(name: str) -> str | None:
    """The value of `ipv4/ip_forward` and the like; None where there is no such setting."""
    try:
        return (_ROOT / name).read_text().strip()
    except OSError:
        return None


def ensure(name: str, value: str) -> bool:
    """Make it so; whether it had to be changed. A setting that does not exist is left at that."""
    current = read(name)
    if current is None or current == value:
        return False
    try:
        (_ROOT / name).write_text(value)
    except OSError as error:
        raise NetlinkFailed(f"cannot set net/{name} to {value}: {error.strerror}") from error
    return True
