"""Starts and ends the programs of a lab: each in its own cgroup and network namespace, none a child of ours.

A small shell puts itself into the cgroup first and only then starts the program, so there is no moment in which a
program of the lab runs outside the lab's cgroup. The program is an orphan on purpose: it outlives `lab up`, and who
started it need not collect it. `nsenter` enters the network namespace alone and leaves /sys as it is.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from enitide_api.errors import LabFailed
from enitide_lab.house import cgroups
from enitide_lab.house.record import ProgramRecord

# $0 cgroup, $1 log, then the command. The pid that is printed is the program's own: setsid and nsenter replace
# themselves by what they start.
_START = 'echo $$ > "$0/cgroup.procs" || exit 70; log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & echo $!'
LOG_TAIL_LINES = 15


def start(
    name: str,
    command: Sequence[str],
    *,
    cgroup: Path,
    log: Path,
    netns: Path | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path = Path("/"),
) -> ProgramRecord:
    """Start `command`, its output in `log`, `environment` added to ours. `LabFailed` if it cannot be started."""
    cgroups.create(cgroup)
    log.parent.mkdir(parents=True, exist_ok=True)
    enter = ["setsid"] + ([] if netns is None else ["nsenter", f"--net={netns}", "--"])
    shell = subprocess.run(
        ["/bin/sh", "-c", _START, str(cgroup), str(log), *enter, *command],
        cwd=directory,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if shell.returncode != 0:
        raise LabFailed(f"{name} cannot be started: {shell.stderr.strip() or shell.returncode}")
    pid = int(shell.stdout)
    return ProgramRecord(name=name, pid=pid, start_ticks=start_ticks(pid) or 0, cgroup=str(cgroup))


def alive(program: ProgramRecord) -> bool:
    """Whether that very program still runs; a zombie does not."""
    return start_ticks(program.pid) == program.start_ticks


def require_alive(program: ProgramRecord, log: Path) -> None:
    """`LabFailed` with the end of its log if the program has ended."""
    if not alive(program):
        raise LabFailed(f"{program.name} has ended; the end of {log}:\n{tail(log)}")


def tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(lines[-LOG_TAIL_LINES:])


def send(program: ProgramRecord, number: signal.Signals) -> bool:
    """Send a signal to that very program; False if it has ended."""
    try:
        handle = os.pidfd_open(program.pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(program):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def end(program: ProgramRecord, *, number: signal.Signals = signal.SIGTERM, grace_s: float = 25.0) -> bool:
    """Ask the program to end, make it after `grace_s`, wait until it is gone; whether it was there."""
    try:
        handle = os.pidfd_open(program.pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(program):
            return False
        for each in (number, signal.SIGKILL):
            signal.pidfd_send_signal(handle, each)
            if select.select([handle], [], [], grace_s)[0]:
                return True
    except ProcessLookupError:
        return True
    finally:
        os.close(handle)
    raise LabFailed(f"{program.name} (pid {program.pid}) outlives SIGKILL")


def start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat, None for what is gone or a zombie; the name before it may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
