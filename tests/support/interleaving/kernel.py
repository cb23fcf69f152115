"""What of a node outlives its agent's process: the wired pods and the journal's bytes.

It stands for the agent's route socket, its datapath and its reaper, in as much as they decide which pod has which
address. Everything fails once the agent that asks is dead: none of a dead process's clean-up reaches the kernel.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from enitide_enidp.endpoints import life
from enitide_enidp.journal import Journal, line_of
from enitide_enidp.netlink.facts import Link
from enitide_enidp.netlink.pod import PodWiring
from enitide_ipam.records import Record


class Kernel:
    """One node's pods: `addresses` by the name of their host device. `on_wired(name, address)` is told of each."""

    def __init__(self, on_wired: Callable[[str, str], None]) -> None:
        self.addresses: dict[str, str] = {}
        self.links: dict[str, Link] = {}
        self._on_wired = on_wired
        self._numbers = itertools.count(10)

    def wire(self, wiring: PodWiring) -> int:
        """A pod's devices, routes and endpoint."""
        link = Link(next(self._numbers), wiring.host_name, "", wiring.mtu, up=True, alias=wiring.alias)
        self.links[wiring.host_name] = link
        self.addresses[wiring.host_name] = str(wiring.ipv4)
        self._on_wired(wiring.host_name, str(wiring.ipv4))
        return link.ifindex

    def cut(self, name: str) -> int | None:
        """Its routes go; the device waits for the reaper."""
        self.addresses.pop(name, None)
        link = self.links.get(name)
        return None if link is None else link.ifindex

    def reap(self, ifindex: int) -> None:
        """The device goes."""
        for name in [name for name, link in self.links.items() if link.ifindex == ifindex]:
            del self.links[name]
            self.addresses.pop(name, None)


class Handle:
    """One agent process's way to its kernel: route socket, datapath and reaper in one."""

    pending: frozenset[int] = frozenset()

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.dead = False

    def alive(self) -> Kernel:
        """The kernel; a dead process is cancelled instead."""
        if self.dead:
            raise asyncio.CancelledError
        return self.kernel

    def link(self, name: str) -> Link | None:
        """As the route socket."""
        return self.alive().links.get(name)

    def put_endpoint(self, _endpoint: Any) -> None:
        """As the datapath."""
        self.alive()

    def delete_endpoint(self, _ifindex: int) -> None:
        """As the datapath."""
        self.alive()

    def attach_messages(self, _ifindex: int) -> list[bytes]:
        """As the datapath."""
        return []

    def take(self, ifindex: int, _netns: str) -> None:
        """As the reaper, only at once."""
        self.alive().reap(ifindex)

    async def settled(self, _netns: str) -> None:
        """As the reaper."""


class _PodModule:
    """Stands for `enitide_enidp.netlink.pod` in `life`."""

    @staticmethod
    def create(route: Handle, wiring: PodWiring, _namespace: Any) -> int:
        return route.alive().wire(wiring)

    @staticmethod
    def cut(route: Handle, name: str, _addresses: Any) -> int | None:
        return route.alive().cut(name)

    @staticmethod
    def set_up_host(*_: Any) -> None:
        return

    set_up_pod = carry = set_up_host


class _NoNamespace:
    def __init__(self, path: str) -> None:
        self.path = path

    def close(self) -> None:
        return


@contextmanager
def no_netlink() -> Iterator[None]:
    """`Endpoints` wires its pods through a `Handle` meanwhile."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(life, "pod", _PodModule))
        stack.enter_context(mock.patch.object(life, "Namespace", _NoNamespace))
        yield


class FragileJournal(Journal):
    """The real journal of a process that may die at its next record: `before` it, with it `torn`, or `after` it."""

    def __init__(self, path: Path, die: Callable[[], None]) -> None:
        super().__init__(path)
        self._file = path
        self._die = die
        self.dead = False
        self.dies_at = ""

    def append(self, records: Sequence[Record]) -> None:
        """As the journal, if the process lives on."""
        self._live()
        if self.dies_at == "before" and records:
            self._end()
        if self.dies_at == "torn" and records:
            data = b"".join(map(line_of, records))
            fd = os.open(self._file, os.O_WRONLY | os.O_APPEND)
            os.write(fd, data[: len(data) // 2])
            os.close(fd)
            self._end()
        super().append(records)
        if self.dies_at and records:
            self._end()

    def rewrite(self, records: Any) -> None:
        """As the journal, if the process lives."""
        self._live()
        super().rewrite(records)

    def _live(self) -> None:
        if self.dead:
            raise asyncio.CancelledError

    def _end(self) -> None:
        self.dies_at = ""
        self._die()
        raise asyncio.CancelledError
