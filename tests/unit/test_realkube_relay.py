"""The relay carries every byte and every end, and closes completely."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from enitide_lab.realkube.relay import Relay

pytestmark = pytest.mark.unit

HERE = Path("/proc/self/ns/net")


@pytest.fixture
def may_enter():
    import os

    if os.geteuid() != 0:
        pytest.skip("entering a network namespace needs root")


async def answer(reader, writer):
    """Reads to the end, then answers in capitals: works only if the end of one direction is passed on alone."""
    text = await reader.read()
    writer.write(text.upper())
    writer.close()


async def test_a_request_is_carried_to_its_end_and_the_answer_back(may_enter):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    relay = Relay(HERE, "127.0.0.1", 0, server.sockets[0].getsockname()[:2])
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        assert await reader.read() == b"X" * 1_000_000
        writer.close()
    finally:
        await asyncio.to_thread(relay.close)
        server.close()


async def test_a_target_that_is_away_closes_the_connection(may_enter):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        target = unused.getsockname()
    relay = Relay(HERE, "127.0.0.1", 0, target)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        assert await reader.read() == b""
        writer.close()
    finally:
        await asyncio.to_thread(relay.close)


async def test_closing_ends_open_connections_and_the_port(may_enter):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    relay = Relay(HERE, "127.0.0.1", 0, server.sockets[0].getsockname()[:2])
    port = relay.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"half")
    await writer.drain()
    await asyncio.to_thread(relay.close)
    await asyncio.to_thread(relay.close)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    server.close()
