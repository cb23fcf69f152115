"""The questions of the prober over IPv6: TCP, UDP and ICMPv6 between pods, all pairs at once, from one process."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enitide_lab.house.mounts import in_namespace

from .prober import Probe

SILENCE_S = 0.12  # nothing at all for so long: what has not come is not coming
PATIENCE_S = 1.5  # for answers that should come
ECHO, ECHO_REPLY = 128, 129
_IDENTIFIER = 0x5E1D
_ASKED = struct.Struct("!II")
_SO_RCVBUFFORCE = 33


@dataclass(frozen=True, slots=True)
class Spot:
    """A pod: its network namespace and its IPv6 address."""

    netns: Path
    address: str


@dataclass(slots=True)
class SixProber:
    """`spots` by name; `ports`: (TCP or UDP, number) at which everyone listens. Close it."""

    spots: Mapping[str, Spot]
    ports: Iterable[tuple[str, int]]
    arrived: set[Probe] = field(default_factory=set)
    answered: set[Probe] = field(default_factory=set)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _probes: Sequence[Probe] = ()
    _round: int = 0
    _udp: dict[str, socket.socket] = field(default_factory=dict)
    _icmp: dict[str, socket.socket] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, spot in self.spots.items():
            in_namespace(spot.netns, lambda name=name, spot=spot: self._open(name, spot))  # type: ignore[misc]

    def close(self) -> None:
        """All sockets."""
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def round(self, probes: Sequence[Probe], must: set[Probe]) -> None:
        """Ask all of them, and wait for `must` as long as something may still come; then see `arrived`, `answered`."""
        self._probes, self._round = probes, self._round + 1
        self.arrived, self.answered = set(), set()
        connecting = [self._ask(number, probe) for number, probe in enumerate(probes)]
        deadline = time.monotonic() + PATIENCE_S
        while self._pump(SILENCE_S) or (must - self.answered and time.monotonic() < deadline):
            continue
        for each in connecting:
            if each is not None:
                with suppress(KeyError):
                    self._selector.unregister(each)
                each.close()

    def _pump(self, silence_s: float) -> bool:
        ready = self._selector.select(silence_s)
        for key, _ in ready:
            key.data(key.fileobj)
        return bool(ready)

    def _open(self, name: str, spot: Spot) -> None:
        for protocol, port in self.ports:
            kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
            made = self._socket(kind, (spot.address, port))
            if protocol == "TCP":
                made.listen(512)
            self._watch(made, self._accept if protocol == "TCP" else self._on_request)
        self._udp[name] = self._watch(self._socket(socket.SOCK_DGRAM, (spot.address, 0)), self._on_reply)
        raw = self._socket(socket.SOCK_RAW, (spot.address, 0), socket.IPPROTO_ICMPV6)
        self._icmp[name] = self._watch(raw, self._on_icmp)

    @staticmethod
    def _socket(kind: int, at: tuple[str, int], protocol: int = 0) -> socket.socket:
        made = socket.socket(socket.AF_INET6, kind, protocol)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind != socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        made.bind(at)
        return made

    def _watch(self, sock: socket.socket, handler: Callable[[Any], None], events: int = 1) -> socket.socket:
        self._selector.register(sock, events, handler)
        return sock

    def _ask(self, number: int, probe: Probe) -> socket.socket | None:
        spot, target = self.spots[probe.source], self.spots[probe.target].address
        payload = _ASKED.pack(self._round, number)
        if probe.protocol == "UDP":
            self._udp[probe.source].sendto(payload, (target, probe.port))
        elif probe.protocol == "ICMP":
            head = struct.pack("!BBHHH", ECHO, 0, 0, _IDENTIFIER, number & 0xFFFF)
            self._icmp[probe.source].sendto(head + payload, (target, 0))
        else:
            made = in_namespace(spot.netns, lambda: self._socket(socket.SOCK_STREAM, (spot.address, 0)))
            made.connect_ex((target, probe.port))
            return self._watch(made, lambda sock: self._connected(sock, probe), selectors.EVENT_WRITE)
        return None

    def _connected(self, sock: socket.socket, probe: Probe) -> None:
        self._selector.unregister(sock)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            self.arrived.add(probe)
            self.answered.add(probe)

    @staticmethod
    def _accept(sock: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                sock.accept()[0].close()

    def _on_request(self, sock: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                payload, source = sock.recvfrom(64)
                self._note(self.arrived, payload)
                sock.sendto(payload, source)

    def _on_reply(self, sock: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                self._note(self.answered, sock.recv(64))

    def _on_icmp(self, sock: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                packet = sock.recv(128)
                kind, _, _, identifier, _ = struct.unpack_from("!BBHHH", packet)
                if identifier == _IDENTIFIER and kind in (ECHO, ECHO_REPLY):
                    self._note(self.arrived if kind == ECHO else self.answered, packet[8:])

    def _note(self, where: set[Probe], payload: bytes) -> None:
        turn, number = _ASKED.unpack_from(payload)
        if turn == self._round:
            where.add(self._probes[number])
