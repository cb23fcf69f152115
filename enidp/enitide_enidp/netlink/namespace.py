"""Work in another network namespace for a moment: open it by any path, enter, come back for certain.

Entering changes the calling thread alone. A thread that cannot come back would from then on configure the wrong
namespace, so in that case the process ends: nothing else is safe.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enitide_api.errors import NamespaceMissing

_CLONE_NEWNET = 0x4000_0000
_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> int:
    """Enter; the errno, 0 for done. `os.setns` came with Python 3.12."""
    return ctypes.get_errno() if _libc.setns(fd, _CLONE_NEWNET) else 0


def _is_network_namespace(fd: int) -> bool:
    try:
        return fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET
    except OSError:
        return False


class Namespace:
    """An open network namespace; close it. `NamespaceMissing` if the path is none, or is the node's own."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NamespaceMissing(f"network namespace {path}: {os.strerror(error.errno or 0)}") from error
        if not _is_network_namespace(self.fd):
            self.close()
            raise NamespaceMissing(f"{path} is no network namespace")
        mine, its = Path("/proc/thread-self/ns/net").stat(), os.fstat(self.fd)
        if (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino):
            self.close()
            raise NamespaceMissing(f"{path} is the node's own network namespace: a pod needs one of its own")

    def close(self) -> None:
        os.close(self.fd)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread stands in the namespace meanwhile. Do nothing slow and never await inside."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if number := _setns(self.fd):
                raise NamespaceMissing(f"{self.path}: {os.strerror(number)}")
            try:
                yield
            finally:
                if _setns(home):
                    os.abort()
        finally:
            os.close(home)
