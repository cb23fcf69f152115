"""The file system that keeps maps and programs alive between agents: find it, mount it where it is missing."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enitide_api.errors import DatapathFailed

SYSTEM_BPFFS = Path("/sys/fs/bpf")
_BPFFS_MAGIC = 0xCAFE4A11
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Who holds a folder takes turns with others; the kernel frees the lock of a dead one."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def is_bpffs(path: Path) -> bool:
    """Whether `path` lies on a bpffs, by the first word of `statfs`."""
    answer = ctypes.create_string_buffer(256)
    if _libc.statfs(os.fsencode(path), answer):
        return False
    return bool(struct.unpack_from("=q", answer)[0] == _BPFFS_MAGIC)


def ensure(pin_dir: Path) -> None:
    """Make `pin_dir` a folder on a bpffs.

    If what holds it is none, one is mounted: on /sys/fs/bpf where that is the parent (the system's place), else on
    `pin_dir` itself, so that nothing beside it is hidden.
    """
    if is_bpffs(pin_dir):
        return
    if pin_dir.parent == SYSTEM_BPFFS:
        if not is_bpffs(SYSTEM_BPFFS):
            mount(SYSTEM_BPFFS)
        pin_dir.mkdir(mode=0o700, exist_ok=True)
        return
    pin_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_bpffs(pin_dir):
        mount(pin_dir)


def mount(folder: Path) -> None:
    """Mount a new bpffs on an existing folder, for root only."""
    if _libc.mount(b"bpf", os.fsencode(folder), b"bpf", 0, b"mode=0700"):
        raise DatapathFailed(f"a bpffs cannot be mounted on {folder}: {os.strerror(ctypes.get_errno())}")


def unmount(folder: Path) -> None:
    """Take our own bpffs off `folder`, and with it all pins there. None is no error.

    Lazily, so that open handles do not matter.
    """
    lazily = 2
    while is_bpffs(folder) and folder != SYSTEM_BPFFS:
        if _libc.umount2(os.fsencode(folder), lazily):
            return
