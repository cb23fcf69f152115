"""Datagrams of one pair as fast as one process can send them: what gets through in the blink of a change.

Policy is asked for every datagram, because each comes from another port. The sender is a process of its own, so that it
never waits for the test.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from enitide_lab.house.mounts import in_namespace

from . import wire
from .prober import Prober

_FIRST_PORT, _PORTS = 10_000, 40_000
_SO_RCVBUFFORCE = 33


@dataclass(slots=True)
class Flood:
    """`port`: one at which nobody else listens."""

    prober: Prober
    source: str
    target: str
    port: int = 4242
    _count: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 8))
    _server: socket.socket = field(init=False)

    def sent(self) -> int:
        """Datagrams until now."""
        return int(struct.unpack_from("<Q", self._count, 0)[0])

    def arrived(self) -> int:
        """Datagrams that came since the last call."""
        found = 0
        with suppress(BlockingIOError):
            while True:
                self._server.recv(64)
                found += 1
        return found

    @contextmanager
    def flowing(self) -> Iterator[Flood]:
        """It flows within the block."""
        places = self.prober.places
        sender = in_namespace(
            places[self.source].netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        )
        self._server = in_namespace(places[self.target].netns, self._listen)
        child = os.fork()
        if child == 0:
            self._send(sender)
        try:
            yield self
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            sender.close()
            self._server.close()

    def _listen(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
        made.bind((self.prober.places[self.target].addresses[0], self.port))
        return made

    def _send(self, sender: socket.socket) -> None:
        source, target = (self.prober.places[each].addresses[0] for each in (self.source, self.target))
        ports = range(_FIRST_PORT, _FIRST_PORT + _PORTS)
        packets = [wire.datagram((source, port), (target, self.port), b"flood") for port in ports]
        to, sent = (target, 0), 0
        try:
            while True:
                for packet in packets:
                    with suppress(OSError):
                        sender.sendto(packet, to)
                    sent += 1
                    struct.pack_into("<Q", self._count, 0, sent)
        finally:
            os._exit(1)
