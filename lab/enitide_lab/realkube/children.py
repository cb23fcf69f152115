"""Starts the programs of a control plane and always ends them, also those that a killed predecessor left.

Three nets, each for what falls through the one before: `stop` ends them in reverse order; the kernel kills them when
this process dies; and their pids with start times stand in `children.json`, so that a later `stop_leftovers` finds what
is left and, because a start time cannot repeat, never hits a stranger that was given the same pid.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from enitide_api.errors import LabFailed

_RECORD = "children.json"
_GRACE_S = 3.0  # an API server with watchers would take a minute to end politely, and what it knows is thrown away
# The kernel's "parent died" means the parent *thread*: so one thread starts all children, and lives as long as we do.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


@dataclass(frozen=True, slots=True)
class Child:
    """A started program: `start_ticks` since boot makes the pid unmistakable."""

    name: str
    pid: int
    start_ticks: int


@dataclass(slots=True)
class Children:
    """The programs of one `directory`, their logs and their record. `netns` is where they all run."""

    directory: Path
    netns: Path | None = None
    die_with_parent: bool = True
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _order: list[Child] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start `command` with the directory as working directory and `NAME.log` there as its output."""
        prefix: list[str] = ["setpriv", "--pdeathsig", "KILL"] if self.die_with_parent else []
        if self.netns is not None:
            prefix += ["nsenter", f"--net={self.netns}"]
        with self.log(name).open("ab") as log:
            process = _starter.submit(
                subprocess.Popen,
                [*prefix, *command],
                cwd=self.directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle, in our order
            ).result()
        self._processes[name] = process
        ticks = _start_ticks(process.pid)
        if ticks is not None:
            self._order.append(Child(name, process.pid, ticks))
            _write(self.directory, self._order)

    def log(self, name: str) -> Path:
        """Where the program's output goes."""
        return self.directory / f"{name}.log"

    def alive(self, name: str) -> bool:
        """Whether it still runs."""
        return self._processes[name].poll() is None

    def require_alive(self, name: str) -> None:
        """`LabFailed` with the end of its log if the program has ended."""
        code = self._processes[name].poll()
        if code is not None:
            tail = self.log(name).read_text(errors="replace").splitlines()[-12:]
            raise LabFailed(f"{name} ended with code {code}; the end of {self.log(name)}:\n" + "\n".join(tail))

    def pids(self) -> dict[str, int]:
        """The pid of each program by its name."""
        return {child.name: child.pid for child in self._order}

    def stop(self) -> None:
        """End all, last started first; returns when they are gone."""
        for child in reversed(self._order):
            _end(child)
        for process in self._processes.values():
            process.wait(timeout=_GRACE_S)
        self._processes.clear()
        self._order.clear()
        (self.directory / _RECORD).unlink(missing_ok=True)


def stop_leftovers(directory: Path) -> tuple[str, ...]:
    """End what a dead predecessor left running in `directory`; the names of what was ended. Safe to repeat."""
    record = directory / _RECORD
    if not record.exists():
        return ()
    try:
        children = [Child(**item) for item in json.loads(record.read_text())]
    except (ValueError, TypeError) as error:
        raise LabFailed(f"{record} is not a record of ours; look at it, end what it names, and remove it") from error
    ended = tuple(child.name for child in reversed(children) if _end(child))
    record.unlink()
    return ended


def _write(directory: Path, children: Sequence[Child]) -> None:
    unfinished = directory / f"{_RECORD}.unfinished"
    unfinished.write_text(json.dumps([asdict(child) for child in children]))
    unfinished.rename(directory / _RECORD)


def _end(child: Child) -> bool:
    """Ask it to end, then make it; whether it was there. A handle pins the pid before its identity is checked."""
    try:
        handle = os.pidfd_open(child.pid)
    except ProcessLookupError:
        return False
    try:
        ended = select.select([handle], [], [], 0)[0]  # also one that nobody has reaped yet
        if ended or _start_ticks(child.pid) != child.start_ticks:
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                signal.pidfd_send_signal(handle, number)
            except ProcessLookupError:
                return True
            if select.select([handle], [], [], _GRACE_S)[0]:
                return True
        raise LabFailed(f"{child.name} (pid {child.pid}) does not end, not even when killed")
    finally:
        os.close(handle)


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat; the name before it may hold spaces and brackets, so count from its last bracket."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(text.rpartition(")")[2].split()[19])
