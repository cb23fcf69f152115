"""What the datapath of another schema knows is carried over into this build's maps before these are used.

So an agent's upgrade cuts no connection and opens no pod, though its maps have another layout: pods keep their places,
policies and rule sets, addresses their identities, connections their verdicts. It is done twice: when the new maps are
made, and, for connections that the old programs began meanwhile, once everything is attached to the new ones.

A schema is known here by what differs from this build's layouts. Of one that is not known nothing can be read: that is
said, and its connections are judged anew.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from enitide_enidp.datapath import codec, syscalls

CARRIED = (
    "endpoints",
    "local",
    "node_addresses",
    "enis",
    "policies",
    "rulesets",
    "rules",
    "identities",
    "cidrs",
    "epochs",
    "connections",
)
"""Not carried: counters, budgets, fragments (30 s), what is made anew at each start."""
_DONE = "carried"
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Old:
    """One map of an older schema: bytes of a value, and how it becomes one of ours."""

    value_bytes: int
    convert: Callable[[bytes], bytes]


def _without_checked(value: bytes) -> bytes:
    """`struct connection` of schema 2 had no `checked`: each end is compared once."""
    return value[:16] + bytes(16) + value[16:]


KNOWN: dict[int, dict[str, Old]] = {2: {"connections": Old(32, _without_checked)}}
"""By schema, the maps whose layout is another. Add the schema that is left when `codec.SCHEMA` counts up."""


@dataclass(slots=True)
class Carried:
    """Entries by map, and a sentence for each schema that could not be read."""

    entries: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def carry(root: Path, others: list[Path], maps: Mapping[str, int]) -> Carried:
    """Into fresh maps under `root`, once; a crash before the end repeats all of it. Errors: `OSError`."""
    carried = Carried()
    if (root / _DONE).exists():
        return carried
    readable = [folder for folder in others if _is_known(folder, maps)]
    carried.lost = [_lost(folder) for folder in others if folder not in readable]
    if readable:
        newest = max(readable, key=_number)
        for name in CARRIED:
            entries = 0
            for chunk in _read(newest, name, maps[name]):
                syscalls.update_batch(maps[name], chunk)
                entries += len(chunk)
            carried.entries[name] = entries
    (root / _DONE).mkdir(exist_ok=True)
    return carried


def follow(folder: Path, maps: Mapping[str, int]) -> int:
    """Connections that began in `folder`'s schema since then; those that are known here stay as they are."""
    if not _is_known(folder, maps):
        return 0
    chunks = _read(folder, "connections", maps["connections"])
    return sum(syscalls.insert(maps["connections"], key, value) for chunk in chunks for key, value in chunk)


def _number(folder: Path) -> int:
    return int(folder.name[1:]) if folder.name[1:].isdecimal() else -1


def _lost(folder: Path) -> str:
    return (
        f"connections of schema {folder.name} are not carried over, as this build ({codec.SCHEMA}) does not know its "
        "layout: each is judged anew, and pods pass everything until their policy is in"
    )


def _shape(fd: int) -> tuple[int, int, int]:
    """Type, key bytes, value bytes."""
    kind, _, key_bytes, value_bytes = struct.unpack_from("=IIII", syscalls.info(fd))
    return kind, key_bytes, value_bytes


def _is_known(folder: Path, maps: Mapping[str, int]) -> bool:
    """Whether every map there has the layout that its schema says."""
    differing = KNOWN.get(_number(folder))
    if differing is None:
        return False
    for name in CARRIED:
        try:
            fd = syscalls.pinned(folder / "maps" / name)
        except OSError:
            return False
        try:
            kind, key_bytes, value_bytes = _shape(maps[name])
            expected = differing[name].value_bytes if name in differing else value_bytes
            if _shape(fd) != (kind, key_bytes, expected):
                return False
        finally:
            os.close(fd)
    return True


def _read(folder: Path, name: str, ours: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Entries of an older map as ours, in pieces; of an array only what is not zero."""
    old = KNOWN[_number(folder)].get(name)
    kind, key_bytes, value_bytes = _shape(ours)
    read_bytes = old.value_bytes if old else value_bytes
    fd = syscalls.pinned(folder / "maps" / name)
    token: bytes | None = None
    try:
        while True:
            found, token = syscalls.scan(fd, key_bytes, read_bytes, _CHUNK, token)
            if kind == syscalls.MAP_TYPE_ARRAY:
                found = [(key, value) for key, value in found if any(value)]
            yield [(key, old.convert(value)) for key, value in found] if old else found
            if token is None:
                return
    finally:
        os.close(fd)
