"""Live traces of the whole kernel: what it drops and how connects fare. bcc attaches, names and lets go.

The programs are compiled with enitide (bpf/trace.bpf.c); bcc, the distribution's package, attaches them to raw
tracepoints and, where the kernel has them, to kernel probes, and knows the kernel's symbols. No compiler and no kernel
headers are needed on the node. Everything is gone when the trace ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self

from enitide_api.errors import DatapathFailed, KernelUnsupported
from enitide_enidp.datapath import codec, objects, syscalls
from enitide_enidp.datapath.libbpf import BpfObject, library

DROP, CONNECT, FAILED, UNSENT = 1, 2, 3, 4
_EVENT = struct.Struct("=QQQIIIIIHHHBB16s16s16s4x")
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_BTF = Path("/sys/kernel/btf/vmlinux")
_PROBE_FILES = Path("/sys/kernel/tracing/kprobe_events"), Path("/sys/kernel/debug/tracing/kprobe_events")
_BTF_TAIL = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12)}
_BTF_TAIL |= {17: (4, 0), 19: (0, 12)}
_ENUM = 6


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One packet dropped, or one connect that ended one way or the other."""

    time_ns: int
    kind: int
    location: int
    reason: int
    duration_ns: int
    ifindex: int
    length: int
    pid: int
    command: str
    ethertype: int
    protocol: int
    source: codec.Address | None
    destination: codec.Address | None
    source_port: int
    destination_port: int


def decode(data: bytes) -> TraceEvent:
    """`struct trace_event`."""
    time_ns, location, duration_ns, kind, reason, ifindex, length, pid, *rest = _EVENT.unpack(data)
    source_port, destination_port, ethertype, family, protocol, source, destination, command = rest
    return TraceEvent(
        time_ns=time_ns,
        kind=kind,
        location=location,
        reason=reason,
        duration_ns=duration_ns,
        ifindex=ifindex,
        length=length,
        pid=pid,
        command=command.rstrip(b"\0").decode(errors="replace"),
        ethertype=ethertype,
        protocol=protocol,
        source=codec.address_of(family, source) if family else None,
        destination=codec.address_of(family, destination) if family else None,
        source_port=source_port,
        destination_port=destination_port,
    )


def bcc() -> Any:
    """The distribution's bcc; `KernelUnsupported` says which package is missing."""
    try:
        import bcc as module
    except ImportError as error:
        raise KernelUnsupported("bcc cannot be imported: install the distribution's package python3-bpfcc") from error
    if not hasattr(module, "lib"):
        raise KernelUnsupported("this bcc is another project's: remove it from PyPI, install python3-bpfcc")
    return module


@cache
def drop_reasons() -> dict[int, str]:
    """The kernel's own names of why it drops, from its BTF: `NO_SOCKET` for SKB_DROP_REASON_NO_SOCKET."""
    try:
        data = _BTF.read_bytes()
    except OSError:
        return {}
    _, _, _, header, types, types_bytes, strings, _ = struct.unpack_from("<HBBIIIII", data)
    at, end, text = header + types, header + types + types_bytes, header + strings

    def name(offset: int) -> str:
        return data[text + offset : data.index(b"\0", text + offset)].decode()

    while at < end:
        name_offset, info, _ = struct.unpack_from("<III", data, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        at += 12
        if kind == _ENUM and name(name_offset) == "skb_drop_reason":
            members = [struct.unpack_from("<Ii", data, at + 8 * i) for i in range(count)]
            return {number: name(each).removeprefix("SKB_").removeprefix("DROP_REASON_") for each, number in members}
        fixed, each_bytes = _BTF_TAIL.get(kind, (0, 0))
        at += fixed + each_bytes * count
    return {}


@dataclass(slots=True)
class Tracer:
    """Attached while it lives. `missing` says what could not be attached, and what is not seen for that."""

    kinds: frozenset[str]
    missing: list[str] = field(default_factory=list)
    _object: BpfObject | None = None
    _fds: list[int] = field(default_factory=list)
    _probes: list[bytes] = field(default_factory=list)
    _ring: int | None = None
    _collected: list[bytes] = field(default_factory=list)
    _callback: Any = None

    def __enter__(self) -> Self:
        """Load and attach; `DatapathFailed` if nothing at all could be attached."""
        self._object = BpfObject(objects.folder() / objects.TRACE, Path("/nowhere"))
        try:
            self._object.load()
            self._attach(self._object.programs())
            self._callback = _CALLBACK(self._collect)
            ring = self._object.maps()["trace_events"]
            self._ring = library().ring_buffer__new(ring, ctypes.cast(self._callback, ctypes.c_void_p), None, None)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attach(self, programs: dict[str, int]) -> None:
        lib = bcc().lib
        points = {"drops": ["kfree_skb"], "connect": ["inet_sock_set_state"]}
        for kind in sorted(self.kinds):
            for point in points[kind]:
                fd = lib.bpf_attach_raw_tracepoint(programs[point], point.encode())
                self._keep(fd, f"raw tracepoint {point}", f"no {kind} are seen")
        if not self._fds:
            raise DatapathFailed("; ".join(self.missing))
        if "connect" in self.kinds:
            for function in ("tcp_v4_connect", "tcp_v6_connect"):
                self._attach_probe(lib, programs, function)

    def _attach_probe(self, lib: Any, programs: dict[str, int], function: str) -> None:
        lost = "a connect that fails before its first packet (no route) is not seen"
        if not os.path.exists("/sys/bus/event_source/devices/kprobe"):  # noqa: PTH110 - a name of the kernel's
            self.missing.append(f"kernel probe {function}: this kernel has no probes; {lost}")
            return
        for number, (program, word) in enumerate((("call", "kprobe"), ("return", "kretprobe"))):
            event = f"enitide_{program}_{function}".encode()
            fd = lib.bpf_attach_kprobe(programs[f"{program}_{function}"], number, event, function.encode(), 0, 0)
            if self._keep(fd, f"{word} {function}", lost):
                self._probes.append(event)

    def _keep(self, fd: int, what: str, lost: str) -> bool:
        if fd < 0:
            self.missing.append(f"{what}: {os.strerror(ctypes.get_errno() or errno.ENOENT)}; {lost}")
            return False
        self._fds.append(fd)
        return True

    def _collect(self, _context: int | None, data: int, size: int) -> int:
        self._collected.append(ctypes.string_at(data, size))
        return 0

    def poll(self, timeout_s: float) -> Iterator[TraceEvent]:
        """The events that came, after at most `timeout_s`."""
        result = library().ring_buffer__poll(self._ring, int(timeout_s * 1000))
        if result < 0 and -result != errno.EINTR:
            raise DatapathFailed(f"reading events failed: {os.strerror(-result)}")
        collected, self._collected[:] = list(self._collected), []
        yield from (decode(data) for data in collected if len(data) == _EVENT.size)

    @property
    def lost(self) -> int:
        """Events that found the buffer full."""
        assert self._object is not None
        value = syscalls.lookup(self._object.maps()["lost"], codec.U32.pack(0), 8)
        return int.from_bytes(value or b"", "little")

    def close(self) -> None:
        """Let go of everything. Twice is once."""
        if self._ring:
            library().ring_buffer__free(self._ring)
            self._ring = None
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        if any(path.exists() for path in _PROBE_FILES):  # else they went with their descriptors, and bcc would complain
            for event in self._probes:
                bcc().lib.bpf_detach_kprobe(event)
        self._probes.clear()
        if self._object is not None:
            self._object.close()


def symbol(address: int) -> str:
    """The kernel function an address is in: `tcp_v4_rcv+0x1c`."""
    found: bytes = bcc().BPF.ksym(address, show_offset=True)
    return found.decode(errors="replace")
