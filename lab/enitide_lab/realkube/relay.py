"""Makes an existing cluster's API server reachable inside another network namespace: bytes in and out, TLS untouched.

A listening socket made over there and connections made here need no veth, no address and no route; so the nodes of a
lab reach a cluster of which only this machine knows the way. It runs in a thread of its own and ends with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from enitide_lab.realkube.netns import inside

_CHUNK = 65536


class Relay:
    """From `address`:`port` in `netns` to `target` here. `OSError` if the address or the port cannot be had."""

    def __init__(self, netns: Path, address: str, port: int, target: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._door = inside(netns, lambda: socket.create_server((address, port), family=family))
        self._target = target
        self._stop: Callable[[], object] = lambda: None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="relay", daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._door.getsockname()[1]
        return port

    def close(self) -> None:
        """End every connection and stop listening. Safe to repeat."""
        if self._thread.is_alive():
            self._stop()
            self._thread.join()

    async def _serve(self) -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        self._stop = lambda: loop.call_soon_threadsafe(ended.set)
        server = await asyncio.start_server(self._carry, sock=self._door)
        self._started.set()
        await ended.wait()
        server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:  # the caller sees a closed connection, as from a server that is away
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            writer.close()
            far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction; its end is passed on alone, because the other may still have something to say."""
    with contextlib.suppress(OSError):  # reset or not connected any more; the other direction ends by it as well
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
