"""Connections as the kernel keeps them: read, collect what has expired, flush.

An expired connection is never matched, so collecting is housekeeping only. It goes through the table in slices, one
batch call each. What it removes it takes out by a call that says what was there at that moment: a connection that
has come back to life in between is put in again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from enitide_api.errors import DatapathFailed
from enitide_enidp.datapath import clock, codec, syscalls
from enitide_enidp.datapath.nodesockets import NodeConnection

MAX_CONNECTIONS = 262_144
GRACE_S = 60  # who is about to come back has done so
_TCP = 6
CONNECTION_HIGH, CONNECTION_HOST = 1, 2

_KEY, _VALUE = codec.CONNECTION_KEY.codec, codec.CONNECTION.codec
KEY_BYTES, VALUE_BYTES = _KEY.size, _VALUE.size
EXPIRES_AT = codec.CONNECTION.offsets()["expires"][0]
_VERDICTS = struct.Struct("=2Q")


class Outcome(IntEnum):
    """What a rule set said: the low three bits of a verdict word."""

    NOT_ASKED = 0
    ALLOWED = 1
    DENIED = 2
    DEFAULT = 3
    UNKNOWN = 4
    CLOSED = 5


class TcpState(IntFlag):
    SEEN_REPLY = 1
    SEEN_DATA = 2
    FIN_INITIATOR = 4
    FIN_RESPONDER = 8
    RESET = 16


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one end's policy said, and what held then."""

    outcome: Outcome
    ruleset: int
    """Its place."""
    epoch: int
    generation: int


@dataclass(frozen=True, slots=True)
class Connection:
    """One flow, seen from its initiator. ICMP: `responder_port` is type << 8 | code, the other the identifier."""

    initiator: codec.Address
    responder: codec.Address
    initiator_port: int
    responder_port: int
    protocol: int
    ingress: Verdict
    egress: Verdict
    expires: int
    """In units of the programs' clock, see `clock`."""
    identity: int
    ingress_ifindex: int
    from_host: bool
    tcp: TcpState

    @property
    def expires_in_s(self) -> float:
        """Negative: as good as absent."""
        return clock.seconds(self.expires) - clock.seconds(clock.now())


@dataclass(frozen=True, slots=True)
class Collected:
    """One slice. `wrapped`: it was the last of the table; the next call begins again."""

    seen: int
    removed: int
    wrapped: bool


def _verdict(word: int) -> Verdict:
    outcome = word & 7
    known = Outcome(outcome) if outcome in list(Outcome) else Outcome.NOT_ASKED
    return Verdict(known, word >> 3 & 0x1FFF, word >> 16 & 0xFFFF, word >> 32)


def decode(key: bytes, value: bytes) -> Connection:
    """`struct connection_key` and `struct connection`."""
    low, high, low_port, high_port, family, protocol, _, _ = _KEY.unpack(key)
    verdicts, _, expires, identity, ifindex, flags, tcp, _ = _VALUE.unpack(value)
    ingress, egress = _VERDICTS.unpack(verdicts)
    ends = [(codec.address_of(family, low), low_port), (codec.address_of(family, high), high_port)]
    if flags & CONNECTION_HIGH:
        ends.reverse()
    (initiator, initiator_port), (responder, responder_port) = ends
    return Connection(
        initiator=initiator,
        responder=responder,
        initiator_port=initiator_port,
        responder_port=responder_port,
        protocol=protocol,
        ingress=_verdict(ingress),
        egress=_verdict(egress),
        expires=expires,
        identity=identity,
        ingress_ifindex=ifindex,
        from_host=bool(flags & CONNECTION_HOST),
        tcp=TcpState(tcp & 31),
    )


def expires_of(value: bytes) -> int:
    """Of `struct connection`, without the rest."""
    return int(codec.U32.unpack_from(value, EXPIRES_AT)[0])


def encode_tcp(found: NodeConnection) -> tuple[bytes, bytes]:
    """Key and value of an established TCP connection of which no policy was asked yet."""
    ends = [
        (found.initiator.packed.ljust(16, b"\0"), found.initiator_port),
        (found.responder.packed.ljust(16, b"\0"), found.responder_port),
    ]
    low, high = sorted(ends, key=_as_it_lies)
    key = _KEY.pack(low[0], high[0], low[1], high[1], found.initiator.version, _TCP, 0, bytes(1))
    tcp = TcpState.SEEN_REPLY | TcpState.SEEN_DATA
    expires = clock.now() + clock.units(clock.TCP_S)
    flags = CONNECTION_HIGH if high is ends[0] else 0
    return key, _VALUE.pack(bytes(16), bytes(16), expires, 0, 0, flags, tcp, bytes(2))


def _as_it_lies(end: tuple[bytes, int]) -> tuple[tuple[int, ...], int]:
    return struct.unpack("=4I", end[0]), end[1]


class Connections:
    """The map `connections`. It remembers where the last slice ended."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._token: bytes | None = None

    def collect(self, entries: int) -> Collected:
        """One slice; see the module."""
        try:
            found, self._token = syscalls.scan(self._fd, KEY_BYTES, VALUE_BYTES, entries, self._token)
            now, grace = clock.now(), clock.units(GRACE_S)
            removed = sum(self._take(key, now) for key, value in found if expires_of(value) + grace <= now)
        except OSError as error:
            raise DatapathFailed(f"connections cannot be collected: {error.strerror}") from error
        return Collected(len(found), removed, self._token is None)

    def _take(self, key: bytes, now: int) -> bool:
        value = syscalls.take(self._fd, key, VALUE_BYTES)
        if value is not None and expires_of(value) > now:
            syscalls.insert(self._fd, key, value)
            return False
        return value is not None

    def all(self) -> Iterator[tuple[bytes, Connection]]:
        """Every entry with its key, expired ones too, in slices."""
        token: bytes | None = None
        while True:
            found, token = syscalls.scan(self._fd, KEY_BYTES, VALUE_BYTES, 4096, token)
            yield from ((key, decode(key, value)) for key, value in found)
            if token is None:
                return

    def adopt(self, found: Iterable[NodeConnection]) -> int:
        """Know these too; those that are known stay as they are. Returns how many are new."""
        try:
            return sum(syscalls.insert(self._fd, *encode_tcp(each)) for each in found)
        except OSError as error:
            raise DatapathFailed(f"connections of the node cannot be written: {error.strerror}") from error

    def flush(self) -> int:
        """Remove every entry; returns how many there were."""
        removed, token = 0, None
        while True:
            found, token = syscalls.scan(self._fd, KEY_BYTES, VALUE_BYTES, 4096, token)
            removed += syscalls.delete_batch(self._fd, [key for key, _ in found])
            if token is None:
                return removed
