"""Listening sockets, made in a network namespace if one is named.

A socket belongs for ever to the namespace in which it was made, so one process can listen in several. Only the thread
that makes the socket enters the namespace, and it ends with that.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
from concurrent.futures import ThreadPoolExecutor

CLONE_NEWNET = 0x40000000


def listen_socket(address: str, port: int, *, netns: str | None = None) -> socket.socket:
    """A TCP socket that listens on `address:port` (port 0: any free one) in the namespace at path `netns`.

    `OSError` says what is wrong with the address or the namespace.
    """
    if netns is None:
        return _listen(address, port)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(_listen_inside, address, port, netns).result()


def _listen_inside(address: str, port: int, netns: str) -> socket.socket:
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"network namespace {netns} cannot be entered: {os.strerror(code)}")
    finally:
        os.close(descriptor)
    return _listen(address, port)


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(1024)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def url_of(sock: socket.socket) -> str:
    """`http://ADDRESS:PORT` of a listening socket."""
    address, port = sock.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
