"""What the agent needs before it touches anything: root, a kernel that can do the work, and to be the only one.

Each refusal is an error with its reason and what to do; nothing is changed on the node before all have passed.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from enitide_api.errors import JournalFailed, KernelUnsupported, NotRoot, UsageError

_FLOOR = (6, 1)
_BTF = Path("/sys/kernel/btf/vmlinux")


def kernel_version(release: str) -> tuple[int, int]:
    """`6.1.0-18-amd64` as (6, 1); (0, 0) for what is no version."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def require_kernel(release: str, btf: Path = _BTF) -> None:
    """`KernelUnsupported` below Linux 6.1 or without BTF. What is finer is probed where the programs are loaded."""
    if kernel_version(release) < _FLOOR:
        raise KernelUnsupported(f"this kernel is {release}")
    if not btf.exists():
        raise KernelUnsupported(f"this kernel ({release}) has no BTF ({btf} is missing)")


def require_root() -> None:
    """`NotRoot` unless the effective user is."""
    if os.geteuid() != 0:
        raise NotRoot(f"the agent runs as user {os.geteuid()}")


def lock(run_dir: Path) -> int:
    """Hold the folder for this process alone; the descriptor is the lock and stays open for life."""
    path = run_dir / "agent.lock"
    try:
        run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalFailed(f"{run_dir}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise UsageError(f"another agent runs with --run-dir {run_dir}: stop it, or give this one its own") from error
    return fd
