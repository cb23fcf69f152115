"""Runs a packet through the live programs and maps by the kernel's test-run call, and reads what they decided.

It sends nothing. The programs know such a run by a random number and then write nothing: no connection, no fragment,
no count, no event, no verdict. What it does touch: the map `dry_runs` itself, and in the kernel the mark of recent use
of the connection it finds and the redirect scratch of one CPU, which the next packet writes over.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from enitide_api.errors import DatapathFailed
from enitide_enidp.datapath import codec, syscalls, testrun
from enitide_enidp.datapath import policycodec as pc
from enitide_enidp.datapath.bpffs import locked
from enitide_enidp.datapath.connections import Connection, Outcome, decode, expires_of
from enitide_enidp.datapath.types import Hook, Onward
from enitide_policy.mapstate import Direction, RuleKey, unpack_key

DRY_RUN_MAGIC = 0x656E_6974
_RECORD, _ASKED = codec.DRY_RUN.codec, codec.ASKED.codec
_NUMBER = struct.Struct("=II")
_NONE = 255
TIERS = ("default", "admin", "middle", "baseline")


@dataclass(frozen=True, slots=True)
class Asked:
    """One end's say. `rule` None: no entry decided, the default did. `fresh` False: the connection remembered it."""

    ruleset: int
    identity: int
    peer: int
    cidr: int
    direction: Direction
    outcome: Outcome
    fresh: bool
    tier: str
    rule: RuleKey | None
    flags: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program did. `reason` 0: it lets the packet through, by `onward`; `packet` is what it became."""

    hook: Hook
    reason: int
    onward: Onward
    packet: bytes
    mark: int
    connection: Connection | None
    sender: Asked | None
    receiver: Asked | None


def _asked(data: bytes) -> Asked | None:
    ruleset, identity, peer, cidr, rule, direction, outcome, fresh, tier, flags, _ = _ASKED.unpack(data)
    if direction == _NONE:
        return None
    place, packed = pc.decode_key(rule)
    return Asked(
        ruleset=ruleset,
        identity=identity,
        peer=peer,
        cidr=cidr,
        direction=Direction(direction),
        outcome=Outcome(outcome),
        fresh=bool(fresh),
        tier=TIERS[tier],
        rule=unpack_key(packed) if place else None,
        flags=flags,
    )


@contextmanager
def _alone(schema_dir: Path) -> Iterator[None]:
    """One dry run at a time: there is one place for its answer."""
    folder = schema_dir / "dry"
    folder.mkdir(exist_ok=True)
    with locked(folder):
        yield


def run(schema_dir: Path, hook: Hook, packet: bytes, *, ifindex: int, came_in_by: int = 0) -> Answer:
    """One packet at one hook of device `ifindex`. `DatapathFailed` if the programs cannot be run."""
    first = codec.U32.pack(0)
    try:
        with ExitStack() as undo:
            entry = syscalls.pinned(schema_dir / "entries" / hook.name.lower())
            undo.callback(os.close, entry)
            answers = syscalls.pinned(schema_dir / "maps" / "dry_runs")
            undo.callback(os.close, answers)
            undo.enter_context(_alone(schema_dir))
            number = (secrets.randbits(32) | 1, secrets.randbits(32))
            untold = _ASKED.pack(0, 0, 0, 0, bytes(12), _NONE, 0, 0, 0, 0, bytes(2))
            blank = _RECORD.pack(
                _NUMBER.pack(*number), 0, 0, bytes(40), bytes(codec.CONNECTION.codec.size), untold, untold
            )
            syscalls.update(answers, first, blank)
            try:
                cb = (*number, 0, 0, DRY_RUN_MAGIC)
                outcome = testrun.run(entry, packet, ifindex=ifindex, came_in_by=came_in_by, cb=cb)
                found = syscalls.lookup(answers, first, _RECORD.size) or blank
            finally:
                syscalls.update(answers, first, bytes(_RECORD.size))
    except OSError as error:
        raise DatapathFailed(f"{hook.name.lower()} cannot be run on ifindex {ifindex}: {error.strerror}") from error
    _, reason, path, key, connection, sender, receiver = _RECORD.unpack(found)
    known = decode(key, connection) if expires_of(connection) else None
    return Answer(hook, reason, Onward(path), outcome.packet, outcome.mark, known, _asked(sender), _asked(receiver))
