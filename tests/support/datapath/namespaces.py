"""Unnamed network namespaces for one process: they vanish with their last descriptor, whatever happens to the test."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)


class Namespace:
    """One namespace; `entered` runs the calling thread in it."""

    def __init__(self) -> None:
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.unshare(CLONE_NEWNET), "unshare")
            self.fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self.ip("link set lo up")
            _sysctl("net/ipv4/ip_forward", "1")
            _sysctl("net/ipv6/conf/all/forwarding", "1")
            for scope in ("all", "default"):
                _sysctl(f"net/ipv4/conf/{scope}/rp_filter", "0")
                _sysctl(f"net/ipv6/conf/{scope}/accept_dad", "0")
        finally:
            _check(_libc.setns(home, CLONE_NEWNET), "setns")
            os.close(home)

    @property
    def path(self) -> str:
        """For `ip link set … netns PATH`."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self.fd, CLONE_NEWNET), "setns")
            yield
        finally:
            _check(_libc.setns(home, CLONE_NEWNET), "setns")
            os.close(home)

    @staticmethod
    def ip(commands: str) -> None:
        """`ip -batch` in the current namespace; one command a line."""
        program("ip", "-batch", "-", feed=commands)

    def run(self, commands: str) -> None:
        """`ip -batch` in this namespace."""
        with self.entered():
            self.ip(commands)

    def sysctl(self, name: str, value: str) -> None:
        with self.entered():
            _sysctl(name, value)

    def close(self) -> None:
        os.close(self.fd)


def program(*words: str, feed: str = "") -> None:
    """Run a program in the current namespace; what it complains about becomes the failure."""
    done = subprocess.run(words, input=feed, text=True, check=False, capture_output=True, timeout=30)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}\n{feed}"


def _sysctl(name: str, value: str) -> None:
    Path(f"/proc/sys/{name}").write_text(value)


def ifindex(name: str) -> int:
    """Of the current namespace."""
    import socket

    return socket.if_nametoindex(name)


def mac(name: str) -> bytes:
    """Of a device of the current namespace; /sys shows another namespace's devices, so the kernel is asked."""
    import fcntl
    import socket
    import struct

    siocgifhwaddr = 0x8927
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, siocgifhwaddr, struct.pack("16s24x", name.encode()))
    return answer[18:24]
