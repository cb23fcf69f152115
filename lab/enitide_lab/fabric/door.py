"""`python -m enitide_lab.fabric.door`: lets programs of this machine reach what listens inside the fabric.

Listens on loopback addresses of this machine and carries each connection, byte by byte, to an address of the fabric's
namespace. kubectl and the AWS clients of a person need no namespace, and the machine needs no route into the lab. It
listens at the same addresses in the loopback of each node too (`--in`), so that what `enitide lab env` prints is right
on both sides: a foreign client in the wrong namespace still reaches the lab, and never something outside of it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from enitide_api.logging import configure, get_logger
from enitide_lab.house.mounts import in_namespace

log = get_logger(__name__)
_CHUNK = 65536


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one side to the other until its end, which is passed on."""
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError as error:
        log.debug("a side has gone", error=str(error))
        writer.transport.abort()


class Door:
    """From one listener here to `target` in the namespace at `netns`."""

    def __init__(self, netns: Path, target: tuple[str, int]) -> None:
        self._netns = netns
        self._target = target

    async def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. Closed at once when nobody listens inside."""
        inner = in_namespace(self._netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        inner.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(inner, self._target)
            inner_reader, inner_writer = await asyncio.open_connection(sock=inner)
        except OSError as error:
            log.warning("nobody behind the door", target=self._target, error=str(error))
            inner.close()
            writer.transport.abort()
            return
        try:
            await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()


def _listener(address: tuple[str, int]) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(address)
    return found


async def _serve(
    netns: Path, doors: Sequence[tuple[tuple[str, int], tuple[str, int]]], rooms: Sequence[Path | None]
) -> None:
    servers = []
    for outer, target in doors:
        for room in rooms:
            listener = _listener(outer) if room is None else in_namespace(room, partial(_listener, outer))
            servers.append(await asyncio.start_server(Door(netns, target).enter, sock=listener))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


@click.command()
@click.option("--netns", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--door", "doors", multiple=True, metavar="ADDR:PORT=ADDR:PORT", help="Here, and inside the fabric.")
@click.option(
    "--in", "rooms", multiple=True, type=click.Path(exists=True, path_type=Path), help="Listen there instead."
)
def main(netns: Path, doors: tuple[str, ...], rooms: tuple[Path, ...]) -> None:
    """Run until ended."""
    configure("info", component="door")
    pairs = [(_address(here), _address(inside)) for here, _, inside in (door.partition("=") for door in doors)]
    asyncio.run(_serve(netns, pairs, rooms or (None,)))


if __name__ == "__main__":
    main()
