"""Every place to every address, both families, small and full-size: one process, one socket a place and family.

A socket belongs to the network namespace in which it was made, so one process can speak from all of them at once.
Requests are sent in rounds until each is answered or time is over: the first packets of a network meet empty
neighbour tables, and a lost packet in a burst is not a broken path.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from enitide_lab.house.mounts import in_namespace
from enitide_lab.probe import packets

SMALL = 64
FULL_MTU = 9001
_ROUND_S = 0.15
_BURST = 24
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DO = 10, 23, 2
_SOL_RAW, _ICMP_FILTER = 255, 1


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere packets come from and go to: a pod or a node. `netns` is its network namespace."""

    name: str
    netns: Path
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One question: does `source` reach `address` of `target` with IP packets of `size` bytes that may not be split."""

    source: str
    target: str
    address: str
    size: int


@dataclass(slots=True)
class Matrix:
    """The answers. `missing`: cells without an answer."""

    asked: int
    answered: int
    missing: tuple[Cell, ...]
    took_s: float
    round_trips_ms: dict[Cell, float] = field(default_factory=dict)


def ask(
    places: Sequence[Place],
    *,
    sizes: Sequence[int] = (SMALL, FULL_MTU),
    timeout_s: float = 5.0,
    targets: Sequence[Place] = (),
) -> Matrix:
    """From every one of `places` to every address of `targets` (default: the same places), itself included."""
    cells = [
        Cell(source.name, target.name, address, size)
        for source in places
        for target in (targets or places)
        for address in target.addresses
        for size in sizes
    ]
    began = time.monotonic()
    with _Sockets(places) as sockets:
        times = _rounds(cells, sockets, began + timeout_s)
    missing = tuple(cell for cell in cells if cell not in times)
    return Matrix(len(cells), len(times), missing, time.monotonic() - began, times)


def _rounds(cells: Sequence[Cell], sockets: _Sockets, deadline: float) -> dict[Cell, float]:
    times: dict[Cell, float] = {}
    sent_at: dict[int, float] = {}
    while len(times) < len(cells) and time.monotonic() < deadline:
        for number, cell in enumerate(cells):
            if cell in times:
                continue
            sent_at[number] = time.monotonic()
            sockets.send(cell, number)
            if number % _BURST == 0:
                _collect(cells, sockets, sent_at, times, 0.0)
        until = min(time.monotonic() + _ROUND_S, deadline)
        while len(times) < len(cells) and (left_s := until - time.monotonic()) > 0:
            _collect(cells, sockets, sent_at, times, left_s)
    return times


def _collect(
    cells: Sequence[Cell], sockets: _Sockets, sent_at: dict[int, float], times: dict[Cell, float], wait_s: float
) -> None:
    for number in sockets.replies(wait_s):
        cell = cells[number]
        times.setdefault(cell, (time.monotonic() - sent_at[number]) * 1000)


class _Sockets:
    """Raw ICMP sockets in every place. The number of a question travels in identifier and sequence, and a nonce."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._nonce = os.urandom(8)
        self._selector = selectors.DefaultSelector()
        self._by_place: dict[tuple[str, int], socket.socket] = {}
        for place in places:
            for family, made in in_namespace(place.netns, _make_pair):
                self._by_place[place.name, family] = made
                self._selector.register(made, selectors.EVENT_READ, family)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for each in self._by_place.values():
            each.close()

    def send(self, cell: Cell, number: int) -> None:
        family = 6 if ":" in cell.address else 4
        padding = cell.size - (packets.HEADERS6 if family == 6 else packets.HEADERS4) - len(self._nonce)
        payload = self._nonce + bytes(max(0, padding))
        packet = packets.echo(family, number >> 16, number & 0xFFFF, payload)
        try:
            self._by_place[cell.source, family].sendto(packet, (cell.address, 0))
        except OSError:
            return  # no route, too big for the path, buffer full: the question stays unanswered, which is the finding

    def replies(self, wait_s: float) -> Iterator[int]:
        """Numbers of questions whose answer is there; waits at most `wait_s` for the first."""
        for key, _ in self._selector.select(wait_s):
            family: int = key.data
            for packet in _drain(key.fileobj):
                kind, identifier, sequence = packets.icmp_of(family, packet)
                if kind in (packets.REPLY4, packets.REPLY6) and self._nonce in packet[:64]:
                    yield (identifier << 16) | sequence


def _make_pair() -> list[tuple[int, socket.socket]]:
    four = socket.socket(socket.AF_INET, socket.SOCK_RAW, packets.PROTOCOL4)
    four.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
    four.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("I", 0xFFFFFFFF & ~(1 << packets.REPLY4)))
    six = socket.socket(socket.AF_INET6, socket.SOCK_RAW, packets.PROTOCOL6)
    six.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)
    for each in (four, six):
        each.setblocking(False)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return [(4, four), (6, six)]


def _drain(sock: object) -> Iterator[bytes]:
    assert isinstance(sock, socket.socket)
    while True:
        try:
            yield sock.recv(128)
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMP error about an earlier packet, told to us by the socket; the next read goes on
