"""Threads and sockets: a WSGI application on listening sockets, some of them inside other network namespaces.

One thread per connection, HTTP/1.1 with keep-alive and without Nagle's delay. The application may take a connection
away unanswered (`Dropped`): the peer then sees a reset, as from a gateway that died. Nothing here knows EC2.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import ThreadedWSGIServer

CLONE_NEWNET = 0x40000000
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class DroppedError(ConnectionError):
    """The application wants this connection closed without an answer."""


class _Handler(MotoRequestHandler):
    """One connection.

    werkzeug's own handler closes it after each reply, since it cannot know what an application left unread; the
    applications here read every body whole, so the connection stays.
    """

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"

    def run_wsgi(self) -> None:
        """Answer one request."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc: Any = None) -> Callable[[bytes], object]:
            started[:] = [(status, headers)]
            return self.wfile.write

        try:
            body = b"".join(self.server.app(self.make_environ(), start_response))
            self._reply(*started[0], body)
        except DroppedError:
            # a reset instead of a polite end, as from a gateway that died
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

    def _reply(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code, _, phrase = status.partition(" ")
        self.send_response(int(code), phrase)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The endpoint keeps its own log of calls."""


class _Server(ThreadedWSGIServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, listener: socket.socket, app: Wsgi) -> None:
        host, port = listener.getsockname()[:2]
        super().__init__(host, port, app, _Handler, fd=listener.fileno())
        self._open: set[socket.socket] = set()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection, remembered so that a stop can end it."""
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away is no error of ours; anything else is shown by the base class."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def end_connections(self) -> None:
        """Close what idle keep-alive peers hold open."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def listen(address: str, port: int, netns: str | None = None) -> socket.socket:
    """A listening socket, made inside the network namespace at path `netns` if one is given.

    A socket stays in the namespace it was made in; the namespace is entered by a thread of its own, which ends at
    once, so that no other thread ever runs there. `OSError` if the address cannot be bound or the namespace is absent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if netns is None:
        return _bound_socket(family, address, port)
    made: list[socket.socket | BaseException] = []

    def inside() -> None:
        try:
            _enter(netns)
            made.append(_bound_socket(family, address, port))
        except BaseException as exc:  # noqa: BLE001 - handed to the caller below
            made.append(exc)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if isinstance(made[0], BaseException):
        raise made[0]
    return made[0]


def _bound_socket(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener


def _enter(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(fd, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(fd)


class Serving:
    """An application answering on one socket until `stop`."""

    def __init__(self, app: Wsgi, listener: socket.socket) -> None:
        self._server = _Server(listener, app)
        listener.close()
        self.address: tuple[str, int] = self._server.socket.getsockname()[:2]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name=f"serve {self.address}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting, end idle connections, close the socket."""
        self._server.shutdown()
        self._thread.join()
        self._server.end_connections()
        self._server.server_close()


@contextlib.contextmanager
def serving(app: Wsgi, listener: socket.socket) -> Iterator[Serving]:
    """`Serving` for the length of a block."""
    served = Serving(app, listener)
    try:
        yield served
    finally:
        served.stop()
