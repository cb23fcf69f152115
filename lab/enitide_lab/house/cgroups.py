"""The lab's branch of the cgroup v2 tree: every program of a lab runs in it, so that all can be ended in one stroke.

`cgroup.kill` ends a whole branch at once, also what forks meanwhile; there is no list of pids that could be wrong. No
controller is ever enabled here: the tree only says who belongs to whom.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from enitide_api.errors import LabFailed


def cgroup2_root(mounts: str | None = None) -> Path:
    """Where cgroup v2 is mounted: /sys/fs/cgroup, or beside version 1. `LabFailed` if nowhere."""
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1].encode().decode("unicode_escape"))
    raise LabFailed("cgroup v2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`, then again")


def create(path: Path) -> Path:
    """Make the cgroup; it may be there already."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabFailed(f"the cgroup {path} cannot be made: {error.strerror}") from error
    return path


def enter(path: Path) -> None:
    """Move this process into the cgroup."""
    (path / "cgroup.procs").write_text(str(os.getpid()))


def members(path: Path) -> list[int]:
    """Pids in the cgroup and below it."""
    found: list[int] = []
    for folder in _branch(path):
        try:
            found += [int(line) for line in (folder / "cgroup.procs").read_text().split()]
        except (FileNotFoundError, NotADirectoryError):
            continue
    return sorted(found)


def kill(path: Path, *, timeout_s: float = 10.0) -> int:
    """End every process in the branch and wait until it is empty; how many there were.

    A branch that is not there is empty. `LabFailed` names what outlives SIGKILL.
    """
    if not path.is_dir():
        return 0
    there = members(path)
    if there:
        (path / "cgroup.kill").write_text("1")
        _await_empty(path, timeout_s)
    return len(there)


def remove(path: Path) -> None:
    """Remove the empty branch, leaves first. Not there: nothing to do."""
    for folder in _branch(path):
        _remove_one(folder)


def _branch(path: Path) -> list[Path]:
    """The cgroup and all below, leaves first."""
    if not path.is_dir():
        return []
    return [Path(folder) for folder, _, _ in os.walk(path, topdown=False)]


def _remove_one(folder: Path) -> None:
    # A process that was just killed still counts for the moment in which its last thread leaves: EBUSY.
    deadline = time.monotonic() + 5.0
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise LabFailed(f"the cgroup {folder} cannot be removed: {error.strerror}") from error
            time.sleep(0.01)
        else:
            return


def _await_empty(path: Path, timeout_s: float) -> None:
    """`cgroup.events` is pollable: the kernel wakes us when `populated` changes."""
    deadline = time.monotonic() + timeout_s
    with (path / "cgroup.events").open() as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while "populated 1" in events.read():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise LabFailed(f"these processes of the lab outlive SIGKILL: {members(path)}")
            poller.poll(min(left_s, 0.2) * 1000)
            events.seek(0)
