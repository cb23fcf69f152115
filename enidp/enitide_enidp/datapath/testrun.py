"""One run of a loaded program on one packet, without a network: BPF_PROG_TEST_RUN. For tests and for program cost."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

from enitide_enidp.datapath import syscalls

_SKB_BYTES = 192
_SKB_MARK, _SKB_INGRESS_IFINDEX, _SKB_IFINDEX, _SKB_CB = 8, 36, 40, 48
_OUT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    """`action` is the program's return value (TC_ACT_*), `duration_ns` the mean over the repeats."""

    action: int
    packet: bytes
    mark: int
    duration_ns: int


def run(
    program_fd: int,
    packet: bytes,
    *,
    ifindex: int = 0,
    mark: int = 0,
    repeat: int = 1,
    came_in_by: int = 0,
    cb: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0),
) -> Outcome:
    """Run with `packet`, an Ethernet frame of at most 3.5 kB, as if it had come on device `ifindex`, which must exist.

    `came_in_by` is the device by which it reached the node; 0: it was made here. A packet changed by one repeat is the
    input of the next, so a program that lowers a hop limit wants few repeats: 60 at most.
    """
    data = ctypes.create_string_buffer(packet, len(packet))
    out = ctypes.create_string_buffer(_OUT_BYTES)
    context = bytearray(_SKB_BYTES)
    struct.pack_into("=I", context, _SKB_MARK, mark)
    struct.pack_into("=I", context, _SKB_INGRESS_IFINDEX, came_in_by)
    struct.pack_into("=I", context, _SKB_IFINDEX, ifindex)
    struct.pack_into("=5I", context, _SKB_CB, *cb)
    context_in = ctypes.create_string_buffer(bytes(context), _SKB_BYTES)
    context_out = ctypes.create_string_buffer(_SKB_BYTES)
    address = ctypes.addressof
    attributes = struct.pack(
        "=IIIIQQIIIIQQ",
        program_fd,
        0,
        len(packet),
        _OUT_BYTES,
        address(data),
        address(out),
        repeat,
        0,
        _SKB_BYTES,
        _SKB_BYTES,
        address(context_in),
        address(context_out),
    )
    _, answer = syscalls.bpf(syscalls.PROG_TEST_RUN, attributes)
    action, length = struct.unpack_from("=i", answer, 4)[0], struct.unpack_from("=I", answer, 12)[0]
    duration_ns = struct.unpack_from("=I", answer, 36)[0]
    return Outcome(action, out.raw[:length], struct.unpack_from("=I", context_out, _SKB_MARK)[0], duration_ns)
