"""A route socket of one network namespace: batches with acknowledgements, single questions, dumps.

It sends and reads; it decides nothing. A request that the kernel refuses is `NetlinkFailed` with the call's own words
and the errno's name; callers that know an errno to be harmless ask for the numbers instead.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Self

from enitide_api.errors import NetlinkFailed
from enitide_enidp.netlink import build, codec

_RECEIVE_BYTES = 1 << 17
# A kernel that does not answer a route request within this has lost it; nothing on the node may wait for ever.
_TIMEOUT_S = 10.0
_DUMP_TRIES = 20
# Acknowledgements of one send wait in the socket's buffer together: more than a few hundred would overflow it.
_BATCH = 64
_SOL_NETLINK, _CAP_ACK = 270, 10


class RouteSocket:
    """Made in the calling thread's namespace and bound to it for life. One thread at a time."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.bind((0, 0))
        except OSError as error:
            raise NetlinkFailed(f"no route socket: {error}") from error
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def numbers(self, batch: Sequence[bytes]) -> list[int]:
        """Send all; each message's errno, 0 for done. The kernel does them in order and stops at none."""
        return [number for at in range(0, len(batch), _BATCH) for number in self._send(batch[at : at + _BATCH])]

    def _send(self, batch: Sequence[bytes]) -> list[int]:
        first = self._sequence + 1
        self._sequence += len(batch)
        outcome: dict[int, int] = {}
        try:
            self._socket.send(b"".join(codec.with_sequence(raw, first + i) for i, raw in enumerate(batch)))
            while len(outcome) < len(batch):
                for kind, _, sequence, body in codec.messages(self._socket.recv(_RECEIVE_BYTES)):
                    if kind == codec.NLMSG_ERROR and sequence >= first:
                        outcome[sequence] = codec.error_number(body)
        except OSError as error:
            raise NetlinkFailed(f"route socket: {error}") from error
        return [outcome[first + i] for i in range(len(batch))]

    def run(self, batch: Sequence[bytes], what: str) -> None:
        """Send all; `NetlinkFailed` names the first that failed by its place in the batch."""
        for place, number in enumerate(self.numbers(batch)):
            if number:
                raise NetlinkFailed(f"{what}: step {place + 1} of {len(batch)}: {os.strerror(number)}")

    def link(self, name: str) -> bytes | None:
        """The RTM_NEWLINK body of a device, None if there is none of that name."""
        self._sequence += 1
        wanted = self._sequence
        try:
            self._socket.send(codec.with_sequence(build.get_link(name), wanted))
            while True:
                for kind, _, sequence, body in codec.messages(self._socket.recv(_RECEIVE_BYTES)):
                    if sequence != wanted:
                        continue
                    if kind == build.RTM_NEWLINK:
                        return body
                    if kind == codec.NLMSG_ERROR:
                        _must_be_absent(codec.error_number(body), name)
                        return None
        except OSError as error:
            raise NetlinkFailed(f"device {name}: {error}") from error

    def dump(self, kind: int, family: int = 0) -> list[bytes]:
        """All bodies of a kind. A dump that changes interrupted is taken again, so that nothing is missing from it."""
        for _ in range(_DUMP_TRIES):
            found, whole = self._dump_once(kind, family)
            if whole:
                return found
        raise NetlinkFailed(f"dump {kind}: interrupted by changes {_DUMP_TRIES} times in a row")

    def _dump_once(self, kind: int, family: int) -> tuple[list[bytes], bool]:
        self._sequence += 1
        wanted, found, whole = self._sequence, list[bytes](), True
        try:
            self._socket.send(codec.with_sequence(build.dump(kind, family), wanted))
            while True:
                for got, flags, sequence, body in codec.messages(self._socket.recv(_RECEIVE_BYTES)):
                    if sequence != wanted:
                        continue
                    whole = whole and not flags & codec.NLM_F_DUMP_INTR
                    if got == codec.NLMSG_DONE:
                        return found, whole
                    if got == codec.NLMSG_ERROR:
                        raise NetlinkFailed(f"dump {kind}: {os.strerror(codec.error_number(body))}")
                    found.append(body)
        except OSError as error:
            raise NetlinkFailed(f"dump {kind}: {error}") from error


def _must_be_absent(number: int, name: str) -> None:
    if number not in (errno.ENODEV, errno.ENOENT):
        raise NetlinkFailed(f"device {name}: {os.strerror(number)}")
