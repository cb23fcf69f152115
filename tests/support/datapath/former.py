"""What the former build left in the kernel: for tests of upgrades."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from enitide_enidp.datapath import loader, syscalls

BATCH_ENTRIES = 4096


def to_schema_2(pins: Path, name: str = "v2") -> None:
    """Turn the pins that are there into what the former build left: its folder, and its `connections`."""
    folder = pins / name
    loader.schema_dir(pins).rename(folder)
    (folder / "carried").rmdir()
    pin = folder / "maps" / "connections"
    ours = syscalls.pinned(pin)
    kind, _, key_bytes, value_bytes, entries = struct.unpack_from("=IIIII", syscalls.info(ours))
    former = syscalls.create_map(kind, key_bytes, 32, entries)
    found = syscalls.dump(ours, key_bytes, value_bytes, BATCH_ENTRIES)
    assert found
    syscalls.update_batch(former, [(key, value[:16] + value[32:]) for key, value in found])
    pin.unlink()
    syscalls.pin(former, pin)
    os.close(former)
    os.close(ours)
