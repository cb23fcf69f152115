"""The pool's memory on tmpfs: one line per record, written before any answer that rests on it.

It survives every crash of the process, at any byte, and goes with the pods at a reboot; so it never calls fsync. A line
carries its checksum: what a crash tore off is cut at the next start and told of, never guessed. When the file has grown
well beyond what is alive it is written anew beside itself and renamed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from enitide_api.errors import JournalFailed
from enitide_ipam.records import Record, decode, encode

_CRC_LENGTH = 8
_COMPACT_MIN_LINES = 1000
_COMPACT_RATIO = 3


@dataclass(frozen=True, slots=True)
class Replay:
    """What a journal held. `torn`: bytes of an unfinished last line; `damaged`: lines before it that cannot be read."""

    records: tuple[Record, ...]
    torn: int
    damaged: int


def line_of(record: Record) -> bytes:
    """`CRC32 JSON` and a newline."""
    body = encode(record)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def record_of(line: bytes) -> Record | None:
    """The record of a line without its newline; None for one that is not what was written."""
    checksum, body = line[:_CRC_LENGTH], line[_CRC_LENGTH + 1 :]
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        return decode(body)
    except msgspec.DecodeError:
        return None


def replay(raw: bytes) -> Replay:
    """Read a whole journal. Only its end may be torn by a crash; damage before it is counted and passed over."""
    whole, newline, tail = raw.rpartition(b"\n")
    records: list[Record] = []
    damaged = 0
    for line in whole.split(b"\n") if newline else ():
        record = record_of(line)
        if record is None:
            damaged += 1
        else:
            records.append(record)
    return Replay(tuple(records), len(tail), damaged)


class Journal:
    """Open it once; `append` raises `JournalFailed` and leaves the file as it was if the record cannot be kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self.found = replay(_read_all(self._fd))
            self._length = os.fstat(self._fd).st_size - self.found.torn
            os.ftruncate(self._fd, self._length)
        except OSError as error:
            raise JournalFailed(f"journal {path}: {error.strerror}") from error
        self._lines = len(self.found.records) + self.found.damaged
        self._shortest = 0  # lines after the last rewriting: what cannot be left out

    def close(self) -> None:
        os.close(self._fd)

    def append(self, records: Sequence[Record]) -> None:
        """Keep them, in order, before anyone is answered."""
        if not records:
            return
        data = b"".join(map(line_of, records))
        try:
            _write_at(self._fd, data, self._length)
        except OSError as error:
            # Without this the next record would follow half a line.
            os.ftruncate(self._fd, self._length)
            raise JournalFailed(f"journal {self._path}: {error.strerror}") from error
        self._length += len(data)
        self._lines += len(records)

    @property
    def is_long(self) -> bool:
        """Whether rewriting would be worth it."""
        return self._lines > max(_COMPACT_MIN_LINES, _COMPACT_RATIO * self._shortest)

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace the content by these in one step: a crash leaves the old or the new file, never a mixture."""
        lines = [line_of(record) for record in records]
        data, fresh = b"".join(lines), self._path.with_suffix(".new")
        try:
            fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _write_at(fd, data, 0)
                fresh.replace(self._path)
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise JournalFailed(f"journal {self._path}: {error.strerror}") from error
        os.close(self._fd)
        self._fd, self._length, self._lines, self._shortest = fd, len(data), len(lines), len(lines)


def _read_all(fd: int) -> bytes:
    chunks: list[bytes] = []
    while chunk := os.pread(fd, 1 << 20, sum(map(len, chunks))):
        chunks.append(chunk)
    return b"".join(chunks)


def _write_at(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
