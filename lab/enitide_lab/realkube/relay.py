"""Makes an existing cluster's API server reachable inside another network namespace: bytes in and out, TLS untouched.

A listening socket made over there and connections made here need no veth, no address and no route; so the nodes of a
lab reach a cluster of which only this machine knows the way. Threads and blocking sockets: a lab has some dozens of
connections, and `close` is complete because every socket that was ever opened stands in one set.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from enitide_lab.realkube.netns import inside

_CHUNK = 65536
_CONNECT_S = 10.0
_AGAIN_S = 0.2


class Relay:
    """From `address`:`port` in `netns` to `target` here. `OSError` if the address or the port cannot be had."""

    def __init__(self, netns: Path, address: str, port: int, target: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._door = inside(netns, lambda: socket.create_server((address, port), family=family))
        self.port: int = self._door.getsockname()[1]
        self._target = target
        self._guard = threading.Lock()  # of the two below: connections come and go while `close` runs
        self._sockets: set[socket.socket] = set()
        self._closed = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="relay", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """End every connection and stop listening. Safe to repeat."""
        with self._guard:
            self._closed.set()
            sockets = set(self._sockets)
        for end in (self._door, *sockets):
            _shut(end)
        self._acceptor.join()
        self._door.close()

    def _accept(self) -> None:
        carriers: list[threading.Thread] = []
        while not self._closed.is_set():
            try:
                near, _ = self._door.accept()
            except OSError:  # shut by `close`, or this process has too many open files for the moment
                self._closed.wait(_AGAIN_S)
                continue
            carriers = [thread for thread in carriers if thread.is_alive()]
            carriers.append(threading.Thread(target=self._carry, args=(near,), name="relay connection", daemon=True))
            carriers[-1].start()
        for thread in carriers:
            thread.join()

    def _carry(self, near: socket.socket) -> None:
        with near:
            try:
                far = socket.create_connection(self._target, _CONNECT_S)
            except OSError:  # the caller sees a closed connection, as from a server that is away
                return
            with far:
                self._exchange(near, far)

    def _exchange(self, near: socket.socket, far: socket.socket) -> None:
        far.settimeout(None)
        with self._guard:
            if self._closed.is_set():
                return
            self._sockets |= {near, far}
        back = threading.Thread(target=_pump, args=(far, near), name="relay answers", daemon=True)
        back.start()
        _pump(near, far)
        back.join()
        with self._guard:
            self._sockets -= {near, far}


def _pump(source: socket.socket, target: socket.socket) -> None:
    """One direction; its end is passed on alone, because the other may still have something to say."""
    try:
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # one side is gone: so must the other be, and whoever waits for it must wake
        _shut(source)
        _shut(target)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):  # not connected any more
        end.shutdown(socket.SHUT_RDWR)
