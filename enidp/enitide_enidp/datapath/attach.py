"""Puts entry programs on interfaces and keeps them there.

A pod's veth gets clsact and two cls_bpf filters (0.07 ms as one netlink batch; two TCX links would cost 16 to 32 ms).
An ENI gets two TCX links, pinned, which nobody can replace by accident, where the kernel has them (6.6), else filters
too. What hangs on a device is read back and compared by program id; a foreign program in our place is replaced and
named.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path

from enitide_api.errors import InterfaceAbsent, NetlinkFailed, NodeError
from enitide_enidp.datapath import syscalls, tcmessages
from enitide_enidp.datapath.types import Hook

PARENTS = {
    Hook.FROM_POD: tcmessages.INGRESS,
    Hook.TO_POD: tcmessages.EGRESS,
    Hook.FROM_WIRE: tcmessages.INGRESS,
    Hook.TO_WIRE: tcmessages.EGRESS,
}
_TCX = {Hook.FROM_WIRE: syscalls.TCX_INGRESS, Hook.TO_WIRE: syscalls.TCX_EGRESS}
POD_HOOKS = (Hook.FROM_POD, Hook.TO_POD)
ENI_HOOKS = (Hook.FROM_WIRE, Hook.TO_WIRE)
_RECEIVE_BYTES = 1 << 16
# The agent's loop waits for these answers: one that the kernel has lost must not stop it for ever.
_TIMEOUT_S = 10.0
_LINK_ATTEMPTS = 10  # about 10 ms each


class Netlink:
    """A route socket of the namespace it was made in: batches with acknowledgements, and dumps."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def batch(self, batch: list[bytes]) -> list[int]:
        """Send all in one call; returns each message's errno, 0 for done."""
        first = self._sequence + 1
        self._sequence += len(batch)
        self._send(b"".join(tcmessages.with_sequence(m, first + i) for i, m in enumerate(batch)))
        outcome: dict[int, int] = {}
        while len(outcome) < len(batch):
            for kind, sequence, body in tcmessages.messages(self._receive()):
                if kind == tcmessages.NLMSG_ERROR and sequence >= first:
                    outcome[sequence] = tcmessages.error_number(body)
        return [outcome[first + i] for i in range(len(batch))]

    def run(self, batch: list[bytes], what: str) -> None:
        """Send all; the first failure is raised: `InterfaceAbsent` if the device is gone, else `NetlinkFailed`."""
        for number in self.batch(batch):
            if number:
                raise _failure(number, what)

    def filters(self, ifindex: int, parent: int) -> list[tcmessages.Filter]:
        """What hangs on one direction of a device, in the order it runs. No device or no clsact: nothing."""
        self._sequence += 1
        wanted, found = self._sequence, list[tcmessages.Filter]()
        self._send(tcmessages.with_sequence(tcmessages.dump_filters(ifindex, parent), wanted))
        while True:
            for kind, sequence, body in tcmessages.messages(self._receive()):
                if sequence != wanted:
                    continue
                if kind in (tcmessages.NLMSG_DONE, tcmessages.NLMSG_ERROR):
                    return sorted(found, key=lambda f: f.priority)
                if kind == tcmessages.RTM_NEWTFILTER and (entry := tcmessages.parse_filter(body)) is not None:
                    found.append(entry)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise NetlinkFailed(f"route socket: {error}") from error

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except OSError as error:
            raise NetlinkFailed(f"route socket: {error}") from error


def _failure(number: int, what: str) -> NodeError:
    leaf = InterfaceAbsent if number == errno.ENODEV else NetlinkFailed
    return leaf(f"{what}: {os.strerror(number)}")


def supports_tcx(program_fd: int) -> bool:
    """Does this kernel have TCX links? Probed with an ifindex that cannot exist: ENODEV says yes, EINVAL no."""
    try:
        os.close(syscalls.create_link(program_fd, 0x7FFF_FFFF, syscalls.TCX_INGRESS))
    except OSError as error:
        return error.errno == errno.ENODEV
    return True


class Attacher:
    """Attaches the entry programs `entries` (descriptors by hook) in the current namespace."""

    def __init__(self, entries: dict[Hook, int], links_dir: Path, *, tcx: bool | None = None) -> None:
        """`tcx` None: use TCX links on ENIs where the kernel has them; False forces filters."""
        self._entries = entries
        self._ids = {hook: syscalls.program_id(fd) for hook, fd in entries.items()}
        self._links_dir = links_dir
        self._netlink = Netlink()
        self.tcx = supports_tcx(entries[Hook.FROM_WIRE]) if tcx is None else tcx

    def close(self) -> None:
        """Release the socket."""
        self._netlink.close()

    def messages(self, ifindex: int, hooks: tuple[Hook, ...]) -> list[bytes]:
        """Make clsact and the filters of `hooks`, idempotent."""
        filters = [
            tcmessages.bpf_filter(ifindex, PARENTS[hook], self._entries[hook], f"enitide_{hook.name.lower()}")
            for hook in hooks
        ]
        return [tcmessages.clsact(ifindex), *filters]

    def attach_pod(self, ifindex: int) -> None:
        """Both filters of a pod's veth in one batch."""
        self._netlink.run(self.messages(ifindex, POD_HOOKS), f"attach programs to ifindex {ifindex}")

    def repair_pod(self, ifindex: int) -> list[str]:
        """Compare and repair one veth; one sentence for each repair."""
        return self._repair_filters(ifindex, POD_HOOKS, exclusive=True)

    def repair_eni(self, ifindex: int) -> list[str]:
        """Attach to, or compare and repair, one ENI; one sentence for each repair."""
        if not self.tcx:
            self._drop_links(ifindex)
            return self._repair_filters(ifindex, ENI_HOOKS, exclusive=False)
        return [text for hook in ENI_HOOKS for text in self._repair_link(ifindex, hook)]

    def detach_eni(self, ifindex: int) -> None:
        """Take our programs off an ENI, whichever way they hang; a vanished device is no error."""
        self._drop_links(ifindex)
        for hook in ENI_HOOKS:
            ours = [f for f in self._netlink.filters(ifindex, PARENTS[hook]) if f.program_id == self._ids[hook]]
            for number in self._netlink.batch([tcmessages.delete_filter(ifindex, f) for f in ours]) if ours else ():
                if number not in (0, errno.ENOENT, errno.ENODEV):
                    raise NetlinkFailed(f"detach programs from ifindex {ifindex}: {os.strerror(number)}")

    def linked_enis(self) -> set[int]:
        """The ifindexes for which link pins exist."""
        return {int(path.name.split("-")[1]) for path in self._links_dir.glob("eni-*")}

    def _repair_filters(self, ifindex: int, hooks: tuple[Hook, ...], *, exclusive: bool) -> list[str]:
        """`exclusive`: nobody else may stand at our priority, where a later filter would run before ours."""
        repairs = []
        for hook in hooks:
            at_our_place = [
                f for f in self._netlink.filters(ifindex, PARENTS[hook]) if f.priority <= tcmessages.PRIORITY
            ]
            ours = [f for f in at_our_place if f.handle == tcmessages.HANDLE and f.program_id == self._ids[hook]]
            foreign = [f for f in at_our_place if f not in ours]
            if ours and not (exclusive and foreign):
                continue
            other_kind = {f.priority: f for f in foreign if f.kind != "bpf"}
            beside = [f for f in foreign if f.kind == "bpf" and f.handle != tcmessages.HANDLE] if exclusive else []
            self._netlink.run(
                [
                    *(tcmessages.delete_filter(ifindex, f) for f in other_kind.values()),
                    *self.messages(ifindex, (hook,)),
                    *(tcmessages.delete_filter(ifindex, f) for f in beside),
                ],
                f"repair {hook.name.lower()} on ifindex {ifindex}",
            )
            repairs.append(_sentence(ifindex, hook, foreign))
        return repairs

    def _pin(self, ifindex: int, hook: Hook) -> Path:
        return self._links_dir / f"eni-{ifindex}-{hook.name.lower()}"

    def _repair_link(self, ifindex: int, hook: Hook) -> list[str]:
        pin = self._pin(ifindex, hook)
        state = _link_state(pin)
        if state == (self._ids[hook], ifindex):
            return []
        fd = self._create_link(ifindex, hook)
        try:
            pin.unlink(missing_ok=True)
            syscalls.pin(fd, pin)
        finally:
            os.close(fd)
        was = "nothing hung there" if state is None else "the link there was dead or of another program"
        return [f"{hook.name.lower()} attached to ifindex {ifindex}: {was}"]

    def _create_link(self, ifindex: int, hook: Hook) -> int:
        """A new link. One whose pin was removed a moment ago is freed by the kernel in its own time: wait for that."""
        attempts_left = _LINK_ATTEMPTS
        while True:
            attempts_left -= 1
            try:
                return syscalls.create_link(self._entries[hook], ifindex, _TCX[hook])
            except OSError as error:
                if error.errno != errno.EEXIST or not attempts_left:
                    raise _failure(error.errno or 0, f"attach {hook.name.lower()} to ifindex {ifindex}") from error
            syscalls.wait_for_programs()

    def _drop_links(self, ifindex: int) -> None:
        for hook in ENI_HOOKS:
            self._pin(ifindex, hook).unlink(missing_ok=True)


def _link_state(pin: Path) -> tuple[int, int] | None:
    """Program id and ifindex of a pinned TCX link; ifindex 0 if its device has gone. None: no pin."""
    try:
        fd = syscalls.pinned(pin)
    except FileNotFoundError:
        return None
    try:
        data = syscalls.info(fd)
    finally:
        with suppress(OSError):
            os.close(fd)
    program, ifindex = struct.unpack_from("=I", data, 8)[0], struct.unpack_from("=I", data, 16)[0]
    return int(program), int(ifindex)


def _sentence(ifindex: int, hook: Hook, foreign: list[tcmessages.Filter]) -> str:
    where = f"{hook.name.lower()} attached to ifindex {ifindex}"
    if not foreign:
        return f"{where}: nothing hung there"
    names = ", ".join(dict.fromkeys(f"{f.kind} {f.name}".strip() for f in foreign))
    return f"{where}: in its place was {names}"
