"""The number by which the programs see that nothing has changed since a connection was last compared with its policy.

A connection remembers the stamp under which its ends' verdicts were found to hold, and whose they are. While the stamp
is the same the programs compare nothing else. So **whoever changes something on which a verdict or a way rests** (rule
sets, identities, policies of endpoints, whose an address is) **renews the stamp afterwards**; each connection is then
compared once more. It is drawn, not counted: two writers can never bring an old one back.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping

from enitide_enidp.datapath import syscalls

BITS = 48
"""The connection has as many for it beside the place."""
_KEY, _VALUE = bytes(4), struct.Struct("=Q")


class Stamp:
    """The map `stamp`."""

    def __init__(self, fds: Mapping[str, int]) -> None:
        self._fd = fds["stamp"]

    def renew(self) -> None:
        """Another number, never 0 (with which nothing takes the short way). Errors: `OSError`."""
        syscalls.update(self._fd, _KEY, _VALUE.pack(secrets.randbits(BITS) or 1))

    def read(self) -> int:
        return int(_VALUE.unpack(syscalls.lookup(self._fd, _KEY, _VALUE.size) or bytes(_VALUE.size))[0])
