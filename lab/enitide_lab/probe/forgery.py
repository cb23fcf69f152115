"""Whether a place gets a packet with somebody else's source address to arrive. An honest packet is sent beside it.

The honest one proves that the path works and that the listener hears: a forgery counts as refused only if the honest
packet arrived and the forged one, sent before it, did not.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from dataclasses import dataclass
from typing import Literal

from enitide_lab.house.mounts import in_namespace
from enitide_lab.probe import packets
from enitide_lab.probe.matrix import Place

_FORGED, _HONEST = 1, 2
_PATIENCE_S = 5.0
_MOMENT_S = 0.1
# The sender's own kernel may refuse the packet already: that is refused as well.
_REFUSALS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH}
)


@dataclass(frozen=True, slots=True)
class Forgery:
    """What came of it: `refused`, `arrived`, or `unproven` when even the honest packet did not arrive."""

    source: str
    pretended: str
    target: str
    outcome: Literal["refused", "arrived", "unproven"]


def forge(source: Place, pretended: str, target: Place) -> Forgery:
    """`source` sends to `target` in the name of the address `pretended`; the family is that of `pretended`."""
    is_ipv6 = ":" in pretended
    own = next(address for address in source.addresses if (":" in address) == is_ipv6)
    to = next(address for address in target.addresses if (":" in address) == is_ipv6)
    nonce = int.from_bytes(os.urandom(2), "big")
    forged = packets.whole(pretended, to, nonce, _FORGED, bytes(16))
    honest = packets.whole(own, to, nonce, _HONEST, bytes(16))
    with (
        in_namespace(target.netns, lambda: _listener(is_ipv6)) as listener,
        in_namespace(source.netns, lambda: _sender(is_ipv6)) as sender,
    ):
        heard = _send_until_heard(sender, listener, (forged, honest), to, nonce)
    outcome: Literal["refused", "arrived", "unproven"] = "refused" if _HONEST in heard else "unproven"
    return Forgery(source.name, pretended, target.name, "arrived" if _FORGED in heard else outcome)


def _send_until_heard(
    sender: socket.socket, listener: socket.socket, pair: tuple[bytes, bytes], to: str, nonce: int
) -> set[int]:
    """Both again and again, the forged one first, until the honest one is heard: the first meet empty caches."""
    heard: set[int] = set()
    deadline = time.monotonic() + _PATIENCE_S
    while _HONEST not in heard and time.monotonic() < deadline:
        for packet in pair:
            _send(sender, packet, to)
        heard |= _hear(listener, 6 if ":" in to else 4, nonce)
    return heard


def _send(sender: socket.socket, packet: bytes, to: str) -> None:
    try:
        sender.sendto(packet, (to, 0))
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise


def _hear(listener: socket.socket, family: int, nonce: int) -> set[int]:
    """What of ours arrives within a moment; an echo request each."""
    heard: set[int] = set()
    deadline = time.monotonic() + _MOMENT_S
    while (left_s := deadline - time.monotonic()) > 0 and select.select([listener], [], [], left_s)[0]:
        kind, identifier, sequence = packets.icmp_of(family, listener.recv(256))
        if kind in (packets.ECHO4, packets.ECHO6) and identifier == nonce:
            heard.add(sequence)
    return heard


def _listener(is_ipv6: bool) -> socket.socket:
    if is_ipv6:
        return socket.socket(socket.AF_INET6, socket.SOCK_RAW, packets.PROTOCOL6)
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, packets.PROTOCOL4)


def _sender(is_ipv6: bool) -> socket.socket:
    return socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
