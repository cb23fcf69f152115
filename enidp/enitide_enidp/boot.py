"""This boot of the machine: its id, and the clock that runs from it and outlives every process."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from enitide_api.errors import JournalFailed


def boot_id() -> str:
    """Changes with every boot and with nothing else."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def boottime_s() -> float:
    """Seconds of CLOCK_BOOTTIME: never set, never stopped, the same for every process of this boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_time(since_s: float, now_s: float, wall_s: float) -> str:
    """A moment of the boot clock as RFC 3339, given both clocks' reading now."""
    return datetime.fromtimestamp(wall_s - (now_s - since_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def forget_earlier_boot(run_dir: Path) -> None:
    """Remove a journal that speaks of pods of an earlier boot, for a `runDir` that is not on tmpfs.

    Its moments are of a clock that began anew, so none of it can be believed. `JournalFailed` if that cannot be done.
    """
    mark, now = run_dir / "boot", boot_id()
    try:
        if not mark.exists() or mark.read_text().strip() != now:
            for name in ("journal", "journal.new"):
                (run_dir / name).unlink(missing_ok=True)
            mark.write_text(f"{now}\n")
    except OSError as error:
        raise JournalFailed(f"{run_dir}: {error.strerror}") from error


class Stamp:
    """The file beside the socket from which the plugin sees that the agent lived lately: `BOOT_ID SECONDS`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot_id = boot_id()

    def refresh(self) -> None:
        """Written beside and renamed: a plugin reads it whole or not at all."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{self._boot_id} {int(boottime_s())}\n")
        fresh.replace(self._path)
