"""Makes the API server reachable in another network namespace: bytes in, bytes out, TLS untouched.

kube-apiserver opens its own sockets, in one namespace alone, while a lab needs it in two: where its nodes are and where
kubectl is. A listening socket made over there and a connection made here need no veth, no address and no route.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from enitide_api.errors import UsageError
from enitide_lab.realkube.netns import inside

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Door:
    """Where to listen: the path of a network namespace, and an address and port in it."""

    netns: Path
    address: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Door:
        """`/run/netns/fabric,198.18.0.1:6443`. `UsageError` says what is expected."""
        path, _, where = text.partition(",")
        address, _, port = where.rpartition(":")
        if not path.startswith("/") or not address or not port.isdigit():
            raise UsageError(f"{text!r} is no door: write NETNS-PATH,ADDRESS:PORT")
        return cls(Path(path), address, int(port))

    def listen(self) -> socket.socket:
        """A listening socket over there. `NamespaceMissing`, or `OSError` if the address or port cannot be had."""
        return inside(self.netns, lambda: socket.create_server((self.address, self.port)))


async def serve(door: socket.socket, target: tuple[str, int]) -> asyncio.Server:
    """Relay each connection that arrives at `door` to `target`, until the server is closed."""
    return await asyncio.start_server(_handler(target), sock=door)


def _handler(target: tuple[str, int]) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:  # the caller sees a closed connection, as from a server that is away
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            for end in (writer, far_writer):
                end.close()

    return handle


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction; its end is passed on alone, because the other may still have something to say."""
    with contextlib.suppress(ConnectionError):  # the other direction ends by it as well
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
