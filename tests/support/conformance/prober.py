"""Asks by real packets who reaches whom: servers and senders of every place in one process, all pairs at once.

A socket belongs for life to the network namespace in which it was made, so one process can speak and listen in all of
them. A probe is answered when its request arrives at the target and the target's reply arrives at the source.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from enitide_lab.house.mounts import in_namespace
from enitide_lab.probe import packets
from enitide_lab.probe.matrix import Place

from . import wire

SILENCE_S = 0.12  # nothing at all for so long: what has not come is not coming
PATIENCE_S = 1.5  # for answers that should come
_SO_RCVBUFFORCE, _BUFFER = 33, 4 << 20
_PROBE, STEADY, FRESH = 0, 1, 2
_DATAGRAM = struct.Struct("!8sBII")
Handler = Callable[[socket.socket], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question about a new connection. `port`: of the target; for ICMP the type."""

    source: str
    target: str
    protocol: str
    port: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.target} {self.protocol}/{self.port}"


@dataclass(slots=True)
class Seen:
    """What came of one round. `arrived`: the request at the target, whatever became of the reply."""

    arrived: set[Probe] = field(default_factory=set)
    answered: set[Probe] = field(default_factory=set)


class Prober:
    """`places` by name; `served`: (name, TCP or UDP, port) that shall listen. Close it."""

    def __init__(self, places: Mapping[str, Place], served: Iterable[tuple[str, str, int]]) -> None:
        self.places = places
        self.nonce = os.urandom(8)
        self.on_stream: Callable[[int, int, int, bool], None] = lambda *_: None
        self._selector = selectors.DefaultSelector()
        self._raw: dict[tuple[str, int], socket.socket] = {}
        self._udp: dict[str, socket.socket] = {}
        self._round = 0
        self._sent = 0
        self._probes: Sequence[Probe] = ()
        self._seen = Seen()
        ports: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for name, protocol, port in sorted(set(served)):
            ports[name].append((protocol, port))
        for name, place in places.items():
            in_namespace(place.netns, lambda name=name, place=place: self._serve(name, place.addresses[0], ports[name]))

    def close(self) -> None:
        """All sockets."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    # --- places ------------------------------------------------------------------------------------------------------

    def _serve(self, name: str, address: str, ports: Iterable[tuple[str, int]]) -> None:
        for protocol, port in ports:
            kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
            made = self._socket(kind, 0)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            if protocol == "TCP":
                made.listen(512)
            self.watch(made, _accept if protocol == "TCP" else self._on_request)
        for number, handler in ((wire.SCTP, self._on_sctp), (packets.PROTOCOL4, self._on_icmp)):
            raw = self._socket(socket.SOCK_RAW, number)
            raw.bind((address, 0))
            self._raw[name, number] = raw
            self.watch(raw, lambda sock, handler=handler, name=name: handler(name, sock))

    def _socket(self, kind: int, protocol: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, kind, protocol)
        made.setblocking(False)
        if kind != socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        return made

    def watch(self, sock: socket.socket, handler: Handler, events: int = selectors.EVENT_READ) -> None:
        """Call `handler` whenever there is something for the socket."""
        self._selector.register(sock, events, handler)

    def forget(self, sock: socket.socket) -> None:
        """Watch it no longer, and close it."""
        self._selector.unregister(sock)
        sock.close()

    def client(self, name: str) -> socket.socket:
        """A datagram socket in a place, at a port of its own, whose replies are heard."""
        place = self.places[name]

        def make() -> socket.socket:
            made = self._socket(socket.SOCK_DGRAM, 0)
            made.bind((place.addresses[0], 0))
            return made

        made = in_namespace(place.netns, make)
        self.watch(made, self._on_reply)
        return made

    # --- a round -----------------------------------------------------------------------------------------------------

    def round(self, probes: Sequence[Probe], hoped: set[Probe]) -> Seen:
        """Ask all, and wait for the answers that are hoped for and then for silence."""
        self._round += 1
        self._probes, self._seen = probes, Seen()
        by_source: dict[str, list[int]] = defaultdict(list)
        for number, probe in enumerate(probes):
            by_source[probe.source].append(number)
        connecting: dict[int, socket.socket] = {}
        for source, numbers in by_source.items():
            self._send(source, numbers, connecting)
            self.pump(0.0)
        deadline = time.monotonic() + PATIENCE_S
        while self.pump(SILENCE_S) or (time.monotonic() < deadline and not hoped <= self._seen.answered):
            continue
        for sock in connecting.values():
            if sock.fileno() >= 0:
                self.forget(sock)
        for source in by_source:
            self.forget(self._udp.pop(source))
        return self._seen

    def _send(self, source: str, numbers: Sequence[int], connecting: dict[int, socket.socket]) -> None:
        self._udp[source] = self.client(source)
        streams = [number for number in numbers if self._probes[number].protocol == "TCP"]
        place = self.places[source]
        connecting |= in_namespace(place.netns, lambda: {number: self._connect(place, number) for number in streams})
        for number in streams:
            sock = connecting[number]
            self.watch(sock, lambda sock, number=number: self._on_connected(sock, number), selectors.EVENT_WRITE)
        for number in numbers:
            probe = self._probes[number]
            target = self.places[probe.target].addresses[0]
            self._sent += 1
            with suppress(BlockingIOError):
                if probe.protocol == "UDP":
                    payload = _DATAGRAM.pack(self.nonce, _PROBE, self._round, number)
                    self._udp[source].sendto(payload, (target, probe.port))
                elif probe.protocol == "SCTP":
                    port = 20000 + self._sent % 40000
                    packet = wire.sctp(wire.INIT, port, probe.port, 0, self._tag(number))
                    self._raw[source, wire.SCTP].sendto(packet, (target, 0))
                elif probe.protocol == "ICMP":
                    packet = _icmp(probe.port, self._identifier(number), number, self.nonce)
                    self._raw[source, packets.PROTOCOL4].sendto(packet, (target, 0))

    def _connect(self, place: Place, number: int) -> socket.socket:
        probe = self._probes[number]
        sock = self._socket(socket.SOCK_STREAM, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind((place.addresses[0], 0))
        sock.connect_ex((self.places[probe.target].addresses[0], probe.port))
        return sock

    def _tag(self, number: int) -> int:
        return (self._round & 0xFFFF) << 16 | (number + 1)

    def _identifier(self, number: int) -> int:
        """One for each probe: two echoes with one identifier are one connection."""
        return (self._round * 1009 + number) & 0xFFFF

    def pump(self, wait_s: float) -> bool:
        """Handle what is there; wait so long for the first. Whether anything was."""
        ready = self._selector.select(wait_s)
        for key, _ in ready:
            if key.fileobj.fileno() >= 0:  # type: ignore[union-attr]
                key.data(key.fileobj)
        return bool(ready)

    # --- what arrives ------------------------------------------------------------------------------------------------

    def _note(self, number: int, name: str, *, reply: bool) -> None:
        if number >= len(self._probes):
            return
        probe = self._probes[number]
        if name == (probe.source if reply else probe.target):
            (self._seen.answered if reply else self._seen.arrived).add(probe)

    def _on_connected(self, sock: socket.socket, number: int) -> None:
        problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert problem != errno.ECONNREFUSED, f"nothing listens: {self._probes[number]}"
        if problem == 0:
            self._seen.arrived.add(self._probes[number])
            self._seen.answered.add(self._probes[number])
        self.forget(sock)

    def _on_request(self, sock: socket.socket) -> None:
        for data, sender in _drain(sock):
            nonce, kind, turn, number = _DATAGRAM.unpack(data)
            if nonce != self.nonce:
                continue
            if kind == _PROBE and turn == self._round:
                self._seen.arrived.add(self._probes[number])
            elif kind != _PROBE:
                self.on_stream(kind, turn, number, False)
            if kind != FRESH:
                with suppress(OSError):
                    sock.sendto(data, sender)

    def _on_reply(self, sock: socket.socket) -> None:
        for data, _ in _drain(sock):
            nonce, kind, turn, number = _DATAGRAM.unpack(data)
            if kind == _PROBE and turn == self._round and nonce == self.nonce:
                self._seen.answered.add(self._probes[number])
            elif kind != _PROBE:
                self.on_stream(kind, turn, number, True)

    def _on_sctp(self, name: str, sock: socket.socket) -> None:
        for packet, sender in _drain(sock):
            said = wire.sctp_of(packet)
            if said is None:
                continue
            kind, source, target, tag, own_tag = said
            if kind == wire.INIT:
                with suppress(OSError):
                    sock.sendto(wire.sctp(wire.INIT_ACK, target, source, own_tag, own_tag), (sender[0], 0))
            seen = own_tag if kind == wire.INIT else tag
            if seen >> 16 == self._round & 0xFFFF:
                self._note((seen & 0xFFFF) - 1, name, reply=kind == wire.INIT_ACK)

    def _on_icmp(self, name: str, sock: socket.socket) -> None:
        for packet, _ in _drain(sock):
            kind, identifier, number = packets.icmp_of(4, packet)
            if self.nonce not in packet or identifier != self._identifier(number) or number >= len(self._probes):
                continue
            asked = self._probes[number].port
            if kind == asked:
                self._note(number, name, reply=False)
            if kind == packets.REPLY4 and asked == packets.ECHO4:
                self._note(number, name, reply=True)
            elif kind == asked != packets.ECHO4 and name == self._probes[number].target:
                self._seen.answered.add(self._probes[number])  # nobody replies to these


def stream_payload(nonce: bytes, kind: int, turn: int, number: int) -> bytes:
    """A datagram of a stream, which the target tells by `on_stream`, and answers if it is of a steady flow."""
    return _DATAGRAM.pack(nonce, kind, turn, number)


def _icmp(kind: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    body = struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + payload
    return body[:2] + struct.pack("!H", packets.checksum(body)) + body[4:]


def _accept(sock: socket.socket) -> None:
    while True:
        try:
            sock.accept()[0].close()
        except BlockingIOError:
            return
        except OSError:
            continue  # reset before it was taken


def _drain(sock: socket.socket) -> Iterable[tuple[bytes, Any]]:
    while True:
        try:
            yield sock.recvfrom(256)
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMP error about an earlier packet
