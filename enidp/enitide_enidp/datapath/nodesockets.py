"""TCP connections that the node's own sockets have: which are there, and which end began each.

A connection that is older than its tracking shows no SYN any more. Who began it follows from whether the node listens
on the local port. Format of the files: proc(5), `/proc/net/tcp`; addresses are printed as words of the CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from enitide_enidp.datapath.codec import Address

FILES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_ESTABLISHED, _LISTEN = "01", "0A"


@dataclass(frozen=True, slots=True)
class NodeConnection:
    """One established connection, seen from who began it."""

    initiator: Address
    initiator_port: int
    responder: Address
    responder_port: int


def read() -> list[NodeConnection]:
    """Those of this network namespace. `OSError` if they cannot be read."""
    return connections_in(path.read_text() for path in FILES if path.exists())


def connections_in(tables: Iterable[str]) -> list[NodeConnection]:
    """Those in the text of these files, but for those that stay inside the node."""
    rows = [row for table in tables for row in _rows(table)]
    listening = {local[1] for local, _, state in rows if state == _LISTEN}
    found = []
    for local, remote, state in rows:
        if state == _ESTABLISHED and not local[0].is_loopback and local[0] != remote[0]:
            ends = (*remote, *local) if local[1] in listening else (*local, *remote)
            found.append(NodeConnection(*ends))
    return found


def _rows(table: str) -> Iterator[tuple[tuple[Address, int], tuple[Address, int], str]]:
    for line in table.splitlines()[1:]:
        words = line.split()
        yield _end(words[1]), _end(words[2]), words[3]


def _end(text: str) -> tuple[Address, int]:
    address, _, port = text.partition(":")
    words = (int(address[at : at + 8], 16) for at in range(0, len(address), 8))
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    if len(packed) == len(IPv4Address(0).packed):
        return IPv4Address(packed), int(port, 16)
    six = IPv6Address(packed)
    return six.ipv4_mapped or six, int(port, 16)
