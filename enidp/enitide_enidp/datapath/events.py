"""Drop events as they come out of the ring buffer, and how people and programs see them.

Read through libbpf's consumer, whose memory ordering is right on every machine. One reader at a time: an event is
delivered once, so a second reader would make holes in both outputs; it is refused.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from enitide_api.errors import DatapathFailed
from enitide_api.reasons import Drop
from enitide_enidp.datapath import codec, syscalls
from enitide_enidp.datapath.libbpf import library
from enitide_enidp.datapath.types import Hook
from enitide_enidp.datapath.words import identity_word
from enitide_policy.mapstate import Direction

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_WITH_PORTS = (6, 17, 132)
NO_DIRECTION = 255
_ETHERTYPES = {0x0806: "ARP", 0x0800: "IPv4", 0x86DD: "IPv6"}


@dataclass(frozen=True, slots=True)
class DropEvent:
    """One dropped packet. `suppressed` more of this reason on the same CPU had no event of their own before it."""

    time_ns: int
    """CLOCK_MONOTONIC of the node."""
    reason: int
    hook: int
    ifindex: int
    endpoint_id: int
    length: int
    suppressed: int
    ethertype: int
    protocol: int
    source: codec.Address | None
    destination: codec.Address | None
    source_port: int
    destination_port: int
    direction: int | None = None
    """Whose policy said it: 0 ingress, 1 egress; None: no policy was asked, and the rest means nothing."""
    audit: bool = False
    """The packet was let through: the endpoint only audits."""
    ruleset: int = 0
    """Its place in the map `rulesets`."""
    identity: int = 0
    peer: int = 0
    """Identities of the endpoint that was asked and of the other end."""


def decode(data: bytes) -> DropEvent:
    """`struct drop_event`."""
    (
        time_ns,
        ifindex,
        endpoint_id,
        length,
        suppressed,
        reason,
        hook,
        family,
        protocol,
        ethertype,
        sport,
        dport,
        direction,
        audit,
        src,
        dst,
        ruleset,
        identity,
        peer,
    ) = codec.DROP_EVENT_CODEC.unpack(data)
    return DropEvent(
        time_ns=time_ns,
        reason=reason,
        hook=hook,
        ifindex=ifindex,
        endpoint_id=endpoint_id,
        length=length,
        suppressed=suppressed,
        ethertype=ethertype,
        protocol=protocol,
        source=codec.address_of(family, src) if family else None,
        destination=codec.address_of(family, dst) if family else None,
        source_port=sport,
        destination_port=dport,
        direction=None if direction == NO_DIRECTION else direction,
        audit=bool(audit),
        ruleset=ruleset,
        identity=identity,
        peer=peer,
    )


def reason_word(number: int) -> str:
    """`SpoofedSource` for `Drop.SPOOFED_SOURCE`; a number newer than this build stays a number."""
    try:
        return Drop(number).word
    except ValueError:
        return str(number)


def hook_word(number: int) -> str:
    """`from-pod` for `Hook.FROM_POD`."""
    try:
        return Hook(number).name.lower().replace("_", "-")
    except ValueError:
        return str(number)


def _side(address: codec.Address | None, port: int, *, ports: bool) -> str:
    if not ports:
        return str(address)
    return f"[{address}]:{port}" if address is not None and address.version == 6 else f"{address}:{port}"


def _policy_words(event: DropEvent) -> list[str]:
    """Whose policy said it, and about whom."""
    if event.direction is None:
        return []
    direction = Direction(event.direction).name.lower()
    return [direction, f"identity {identity_word(event.identity)}", f"peer {identity_word(event.peer)}"]


def human(event: DropEvent, wall_clock_ns: int, names: Mapping[int, str] = MappingProxyType({})) -> str:
    """One line, in local time; `names` of pods by ifindex.

    `12:03:04.120 drop SpoofedSource from-pod ifindex 12 10.0.1.7:4431 > 10.0.9.1:80 TCP len 74`
    """
    moment = datetime.fromtimestamp(wall_clock_ns / 1e9).astimezone()
    words = [
        moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}",
        f"{'audit' if event.audit else 'drop'} {reason_word(event.reason)} {hook_word(event.hook)}",
        names.get(event.endpoint_id) or names.get(event.ifindex) or f"ifindex {event.ifindex}",
        *_policy_words(event),
    ]
    if event.source is None:
        words.append(_ETHERTYPES.get(event.ethertype, f"ethertype 0x{event.ethertype:04x}"))
    else:
        ports = event.protocol in _WITH_PORTS and bool(event.source_port or event.destination_port)
        words.append(_side(event.source, event.source_port, ports=ports))
        words.append("> " + _side(event.destination, event.destination_port, ports=ports))
        words.append(_PROTOCOLS.get(event.protocol, f"protocol {event.protocol}"))
    words.append(f"len {event.length}")
    if event.suppressed:
        words.append(f"(and {event.suppressed} more before)")
    return " ".join(words)


def as_json(event: DropEvent, wall_clock_ns: int, names: Mapping[int, str] = MappingProxyType({})) -> dict[str, object]:
    """One object with stable keys; absent where the packet has no such thing."""
    moment = datetime.fromtimestamp(wall_clock_ns / 1e9).astimezone()
    result: dict[str, object] = {
        "time": moment.isoformat(timespec="milliseconds"),
        "type": "audit" if event.audit else "drop",
        "reason": reason_word(event.reason),
        "reasonNumber": event.reason,
        "hook": hook_word(event.hook),
        "ifindex": event.ifindex,
        "endpoint": event.endpoint_id,
        "length": event.length,
        "suppressed": event.suppressed,
        "ethertype": event.ethertype,
    }
    name = names.get(event.endpoint_id) or names.get(event.ifindex)
    if name is not None:
        result["pod"] = name
    if event.direction is not None:
        result |= {"direction": Direction(event.direction).name.lower(), "identity": event.identity}
        result |= {"peer": event.peer, "ruleset": event.ruleset}
    if event.source is not None:
        result |= {"source": str(event.source), "destination": str(event.destination), "protocol": event.protocol}
        if event.protocol in _WITH_PORTS:
            result |= {"sourcePort": event.source_port, "destinationPort": event.destination_port}
    return result


class EventReader:
    """Reads the pinned ring buffer `events` under a schema folder. Starts with what happens from now on."""

    def __init__(self, schema_dir: Path) -> None:
        self._collected: list[bytes] = []
        self._callback = _CALLBACK(self._collect)
        self._lock = self._only_reader(schema_dir)
        try:
            self._fd = syscalls.pinned(schema_dir / "maps" / "events")
        except OSError as error:
            os.close(self._lock)
            raise DatapathFailed(f"no datapath is loaded under {schema_dir}: {error.strerror}") from error
        self._ring = library().ring_buffer__new(self._fd, ctypes.cast(self._callback, ctypes.c_void_p), None, None)
        if not self._ring:
            raise DatapathFailed(f"the ring buffer cannot be mapped: {os.strerror(ctypes.get_errno())}")
        self._discard_backlog()

    @staticmethod
    def _only_reader(schema_dir: Path) -> int:
        folder = schema_dir / "monitor"
        try:
            folder.mkdir(exist_ok=True)
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise DatapathFailed(f"no datapath is loaded under {schema_dir}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            raise DatapathFailed("another monitor reads this node's events; an event is delivered only once") from error
        return fd

    def _collect(self, _context: int | None, data: int, size: int) -> int:
        self._collected.append(ctypes.string_at(data, size))
        return 0

    def _discard_backlog(self) -> None:
        """Events from before nobody can place in time; the first of a full buffer may be days old."""
        library().ring_buffer__consume(self._ring)
        self._collected.clear()

    def poll(self, timeout_s: float) -> list[DropEvent]:
        """The events that came, after at most `timeout_s`; none is an empty list."""
        result = library().ring_buffer__poll(self._ring, int(timeout_s * 1000))
        if result < 0 and -result != errno.EINTR:
            raise DatapathFailed(f"reading events failed: {os.strerror(-result)}")
        collected, self._collected[:] = list(self._collected), []
        return [decode(data) for data in collected if len(data) == codec.DROP_EVENT_CODEC.size]

    def close(self) -> None:
        """Release the buffer to the next reader. Twice is once."""
        if self._ring:
            library().ring_buffer__free(self._ring)
            self._ring = None
            os.close(self._fd)
            os.close(self._lock)


def wall_clock_offset_ns() -> int:
    """What to add to a monotonic time stamp of this kernel to get wall-clock time; for showing only."""
    return time.time_ns() - time.monotonic_ns()
