"""Datagrams without end between many pairs, while a policy changes: what is lost and what gets through, counted.

Of every pair goes a steady flow, one port for all its life and every datagram answered, and a row of fresh flows: each
datagram from another port, so each is a new connection.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from enitide_lab.house.mounts import in_namespace

from . import wire
from .prober import FRESH, STEADY, Probe, Prober, stream_payload

PAUSE_S = 0.01
_LAST_S = 2.0


@dataclass(slots=True)
class Counts:
    """Datagrams of one pair, steady and fresh together. `replies`: to steady ones."""

    sent: int = 0
    steady: int = 0
    arrived: int = 0
    replies: int = 0

    @property
    def lost(self) -> int:
        """Requests and replies that never came."""
        return self.sent - self.arrived + self.steady - self.replies


@dataclass(slots=True)
class Streams:
    """`pairs`: UDP probes. Call `sweep` again and again, then `end`."""

    prober: Prober
    pairs: Sequence[Probe]
    counts: list[Counts] = field(default_factory=list)
    turn: int = 0
    _latest: Counter[tuple[int, int]] = field(default_factory=Counter)
    _steady: dict[str, socket.socket] = field(default_factory=dict)
    _fresh: dict[str, socket.socket] = field(default_factory=dict)

    def begin(self) -> None:
        """Open the flows' sockets."""
        self.counts = [Counts() for _ in self.pairs]
        for name in {pair.source for pair in self.pairs}:
            self._steady[name] = self.prober.client(name)
            self._fresh[name] = in_namespace(
                self.prober.places[name].netns,
                lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
            )
        self.prober.on_stream = self._arrived

    def sweep(self) -> set[Probe]:
        """One datagram of either kind for every pair; the pairs of which the one before all came."""
        self.turn += 1
        places = self.prober.places
        for number, pair in enumerate(self.pairs):
            source, target = places[pair.source].addresses[0], places[pair.target].addresses[0]
            steady = stream_payload(self.prober.nonce, STEADY, self.turn, number)
            self._steady[pair.source].sendto(steady, (target, pair.port))
            port = 1024 + (self.turn * 131 + number) % 30000
            fresh = stream_payload(self.prober.nonce, FRESH, self.turn, number)
            packet = wire.datagram((source, port), (target, pair.port), fresh)
            self._fresh[pair.source].sendto(packet, (target, 0))
            self.counts[number].sent += 2
            self.counts[number].steady += 1
            if number % 32 == 0:
                self.prober.pump(0.0)
        while self.prober.pump(PAUSE_S):
            continue
        return {pair for number, pair in enumerate(self.pairs) if self._latest[number, self.turn] == 3}

    def end(self, must: set[Probe]) -> dict[Probe, Counts]:
        """Stop, and wait for what must still come of `must`."""
        deadline = time.monotonic() + _LAST_S
        waiting = [self.counts[number] for number, pair in enumerate(self.pairs) if pair in must]
        while self.prober.pump(0.1) or (any(each.lost for each in waiting) and time.monotonic() < deadline):
            continue
        return dict(zip(self.pairs, self.counts, strict=True))

    def close(self) -> None:
        """Close the flows' sockets."""
        for sock in self._steady.values():
            self.prober.forget(sock)
        for sock in self._fresh.values():
            sock.close()
        self._steady, self._fresh = {}, {}
        self.prober.on_stream = lambda *_: None

    def _arrived(self, _kind: int, turn: int, number: int, reply: bool) -> None:
        self._latest[number, turn] += 1
        if reply:
            self.counts[number].replies += 1
        else:
            self.counts[number].arrived += 1
