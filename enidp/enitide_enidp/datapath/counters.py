"""Per-CPU counters of the programs, summed: what was dropped and why, what went on and how."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from enitide_api.errors import DatapathFailed
from enitide_api.reasons import Drop
from enitide_enidp.datapath import codec, syscalls
from enitide_enidp.datapath.types import Hook, Onward


@dataclass(frozen=True, slots=True)
class Count:
    """Packets (segmentation-offload frames count once) and bytes of frames."""

    packets: int
    bytes: int

    def __add__(self, other: Count) -> Count:
        return Count(self.packets + other.packets, self.bytes + other.bytes)


@cache
def possible_cpus() -> int:
    """How many CPUs per-CPU values have room for: the highest possible number plus one."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace("-", ",").split(",")[-1]) + 1


def _read(fd: int, key: int) -> Count:
    size = codec.COUNTER_CODEC.size
    try:
        value = syscalls.lookup(fd, codec.U32.pack(key), size * possible_cpus())
    except OSError as error:
        raise DatapathFailed(f"counters cannot be read: {error.strerror}") from error
    packets = total = 0
    for count, length in codec.COUNTER_CODEC.iter_unpack(value or b""):
        packets += count
        total += length
    return Count(packets, total)


def drops(fd: int) -> dict[tuple[Drop, Hook], Count]:
    """Every reason at every hook, from the map `drops`."""
    return {(reason, hook): _read(fd, reason * codec.HOOKS + hook) for reason in Drop for hook in Hook}


def forwards(fd: int) -> dict[tuple[Hook, Onward], Count]:
    """Every way onward at every hook, from the map `forwards`."""
    return {(hook, onward): _read(fd, hook * codec.PATHS + onward) for hook in Hook for onward in Onward}
