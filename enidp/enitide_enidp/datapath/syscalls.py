"""The bpf(2) system call, for what libbpf 1.1 lacks or makes heavy: maps, batches, pins, links, test runs.

Raw on purpose: bpf(2) is stable kernel ABI. Every failure is an `OSError` with the kernel's errno; callers turn it
into a leaf of the error tree where they know what it means. Descriptors are plain integers owned by the caller.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

# Number of bpf(2) by machine; -1 makes the kernel answer ENOSYS.
_NUMBER = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine, -1)

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT = 0, 1, 2, 3, 4
OBJ_PIN, OBJ_GET, PROG_TEST_RUN = 6, 7, 10
PROG_GET_FD_BY_ID, MAP_GET_FD_BY_ID, INFO_BY_FD, PROG_QUERY = 13, 14, 15, 16
MAP_LOOKUP_AND_DELETE = 21
MAP_LOOKUP_BATCH, MAP_UPDATE_BATCH, MAP_DELETE_BATCH = 24, 26, 27
NO_EXIST = 1
LINK_CREATE, LINK_UPDATE = 28, 29

MAP_TYPE_ARRAY, MAP_TYPE_PROG_ARRAY, MAP_TYPE_ARRAY_OF_MAPS = 2, 3, 12
TCX_INGRESS, TCX_EGRESS = 46, 47

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_ATTR_BYTES = 128
_PATIENCE = 100  # refusals of the allocator in a row without progress


def bpf(command: int, attributes: bytes | bytearray) -> tuple[int, bytes]:
    """One call; returns its result and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(bytes(attributes), max(_ATTR_BYTES, len(attributes)))
    result = _syscall(_NUMBER, ctypes.c_int(command), buffer, ctypes.c_uint(_ATTR_BYTES))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result), buffer.raw


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def create_map(map_type: int, key_bytes: int, value_bytes: int, entries: int, *, inner_fd: int = 0) -> int:
    """A new map's descriptor. `inner_fd` is the pattern of the inner maps of a map of maps."""
    return bpf(MAP_CREATE, struct.pack("=IIIIII", map_type, key_bytes, value_bytes, entries, 0, inner_fd))[0]


def lookup(fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """The value, or None. For per-CPU maps `value_bytes` is that of all possible CPUs, each rounded up to 8."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_bytes)
    try:
        bpf(MAP_LOOKUP, struct.pack("=IxxxxQQQ", fd, _address(key_buffer), _address(value), 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw


def update(fd: int, key: bytes, value: bytes) -> None:
    """Insert or replace."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value_buffer = ctypes.create_string_buffer(value, len(value))
    bpf(MAP_UPDATE, struct.pack("=IxxxxQQQ", fd, _address(key_buffer), _address(value_buffer), 0))


def delete(fd: int, key: bytes) -> bool:
    """Remove; False if it was not there."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    try:
        bpf(MAP_DELETE, struct.pack("=IxxxxQQQ", fd, _address(key_buffer), 0, 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def next_key(fd: int, key: bytes | None, key_bytes: int) -> bytes | None:
    """The key after `key` (None: the first) in a map without batch look-ups; None at the end."""
    key_buffer = ctypes.create_string_buffer(key, key_bytes) if key is not None else None
    following = ctypes.create_string_buffer(key_bytes)
    before = _address(key_buffer) if key_buffer is not None else 0
    try:
        bpf(MAP_NEXT, struct.pack("=IxxxxQQQ", fd, before, _address(following), 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return following.raw


def take(fd: int, key: bytes, value_bytes: int) -> bytes | None:
    """Remove an entry of a hash map and return what it was at that moment; None if it was not there."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_bytes)
    try:
        bpf(MAP_LOOKUP_AND_DELETE, struct.pack("=IxxxxQQQ", fd, _address(key_buffer), _address(value), 0))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return value.raw


def insert(fd: int, key: bytes, value: bytes) -> bool:
    """Insert; False if the key was there already."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value_buffer = ctypes.create_string_buffer(value, len(value))
    try:
        bpf(MAP_UPDATE, struct.pack("=IxxxxQQQ", fd, _address(key_buffer), _address(value_buffer), NO_EXIST))
    except OSError as error:
        if error.errno == errno.EEXIST:
            return False
        raise
    return True


def _batch(command: int, fd: int, keys: bytes, values: bytes, count: int) -> None:
    """All of it, also where the kernel's allocator has to be waited for: it refills itself within moments."""
    key_bytes, value_bytes, patience = len(keys) // count, len(values) // count, _PATIENCE
    key_buffer = ctypes.create_string_buffer(keys, len(keys))
    value_buffer = ctypes.create_string_buffer(values, max(1, len(values)))
    done = 0
    while True:
        value_address = _address(value_buffer) + done * value_bytes if values else 0
        addresses = (_address(key_buffer) + done * key_bytes, value_address)
        attributes = struct.pack("=QQQQIIQQ", 0, 0, *addresses, count - done, fd, 0, 0)
        buffer = ctypes.create_string_buffer(attributes, _ATTR_BYTES)
        if _syscall(_NUMBER, ctypes.c_int(command), buffer, ctypes.c_uint(_ATTR_BYTES)) >= 0:
            return
        code, moved = ctypes.get_errno(), int(struct.unpack_from("=I", buffer, 32)[0])
        patience -= 0 if moved else 1
        if code != errno.ENOMEM or not patience:
            raise OSError(code, os.strerror(code))
        done += moved


def update_batch(fd: int, entries: list[tuple[bytes, bytes]]) -> None:
    """Insert or replace many. On failure the first part has been done: the caller's next full sync corrects it."""
    if entries:
        keys, values = zip(*entries, strict=True)
        _batch(MAP_UPDATE_BATCH, fd, b"".join(keys), b"".join(values), len(entries))


def update_packed(fd: int, keys: bytes, values: bytes, count: int) -> None:
    """The same for keys and values that stand in a row already."""
    if count:
        _batch(MAP_UPDATE_BATCH, fd, keys, values, count)


def delete_batch(fd: int, keys: list[bytes]) -> int:
    """Remove many; those that are not there are no error. Returns how many were."""
    if not keys:
        return 0
    try:
        _batch(MAP_DELETE_BATCH, fd, b"".join(keys), b"", len(keys))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return sum(delete(fd, key) for key in keys)  # the batch ends at the first that is missing
    return len(keys)


def dump(fd: int, key_bytes: int, value_bytes: int, capacity: int) -> list[tuple[bytes, bytes]]:
    """All entries of a hash map or an array by batch calls."""
    entries: list[tuple[bytes, bytes]] = []
    token: bytes | None = None
    while True:
        found, token = scan(fd, key_bytes, value_bytes, min(capacity, 4096), token)
        entries += found
        if token is None:
            return entries


def scan(
    fd: int, key_bytes: int, value_bytes: int, chunk: int, token: bytes | None
) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
    """The next `chunk` entries or a few less of a hash map, from where `token` (None: the start) left off.

    A hash bucket never splits: the chunk grows when one does not fit.
    The token returned is None at the end. Entries that come and go meanwhile may be missed or seen twice.
    """
    while True:
        after = ctypes.create_string_buffer(max(8, key_bytes))
        before = ctypes.create_string_buffer(token, max(8, key_bytes)) if token is not None else None
        keys = ctypes.create_string_buffer(chunk * key_bytes)
        values = ctypes.create_string_buffer(chunk * value_bytes)
        attributes = struct.pack(
            "=QQQQIIQQ",
            _address(before) if before is not None else 0,
            _address(after),
            _address(keys),
            _address(values),
            chunk,
            fd,
            0,
            0,
        )
        count, done = _lookup_batch(attributes)
        if count < 0:
            chunk *= 2
            continue
        raw_keys, raw_values = keys.raw, values.raw
        found = [
            (raw_keys[i * key_bytes : (i + 1) * key_bytes], raw_values[i * value_bytes : (i + 1) * value_bytes])
            for i in range(count)
        ]
        return found, None if done else after.raw


def _lookup_batch(attributes: bytes) -> tuple[int, bool]:
    """Entries returned (-1: the chunk is too small for a bucket) and whether these were the last."""
    buffer = ctypes.create_string_buffer(attributes, _ATTR_BYTES)
    result = _syscall(_NUMBER, ctypes.c_int(MAP_LOOKUP_BATCH), buffer, ctypes.c_uint(_ATTR_BYTES))
    code = ctypes.get_errno() if result < 0 else 0
    if code == errno.ENOSPC:
        return -1, False
    if code not in (0, errno.ENOENT):
        raise OSError(code, os.strerror(code))
    return int(struct.unpack_from("=I", buffer, 32)[0]), code == errno.ENOENT


def pin(fd: int, path: Path) -> None:
    """Keep the object alive under `path` on a bpffs."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    bpf(OBJ_PIN, struct.pack("=QII", _address(name), fd, 0))


def pinned(path: Path) -> int:
    """A descriptor of what is pinned at `path`."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return bpf(OBJ_GET, struct.pack("=QII", _address(name), 0, 0))[0]


def info(fd: int) -> bytes:
    """The kernel's description of a map, program or link (`struct bpf_map_info` and so on), 256 bytes."""
    buffer = ctypes.create_string_buffer(256)
    bpf(INFO_BY_FD, struct.pack("=IIQ", fd, len(buffer), _address(buffer)))
    return buffer.raw


def map_ids(fd: int) -> frozenset[int]:
    """Ids of the maps that a program uses: `struct bpf_prog_info.map_ids`."""
    capacity = 64
    ids = (ctypes.c_uint32 * capacity)()
    buffer = ctypes.create_string_buffer(256)
    struct.pack_into("=IQ", buffer, 52, capacity, ctypes.addressof(ids))
    bpf(INFO_BY_FD, struct.pack("=IIQ", fd, len(buffer), _address(buffer)))
    count = struct.unpack_from("=I", buffer, 52)[0]
    return frozenset(ids[: min(count, capacity)])


def program_fd(program_id: int) -> int:
    """A descriptor of a program by its id."""
    return bpf(PROG_GET_FD_BY_ID, struct.pack("=III", program_id, 0, 0))[0]


def map_fd(map_id: int) -> int:
    """A descriptor of a map by its id."""
    return bpf(MAP_GET_FD_BY_ID, struct.pack("=III", map_id, 0, 0))[0]


def program_id(fd: int) -> int:
    """The id of a program: `struct bpf_prog_info`, second word."""
    return int(struct.unpack_from("=I", info(fd), 4)[0])


def create_link(prog_fd: int, ifindex: int, attach_type: int) -> int:
    """Attach a program to an interface by a link; what a link holds nobody else can replace."""
    return bpf(LINK_CREATE, struct.pack("=IIII", prog_fd, ifindex, attach_type, 0))[0]


def wait_for_programs() -> None:
    """Return once every program run that was under way has ended.

    The kernel promises this after an update of a map of maps (it waits for an RCU grace period); there is no call of
    its own for it. About 10 ms.
    """
    inner = create_map(MAP_TYPE_ARRAY, 4, 4, 1)
    try:
        outer = create_map(MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 1, inner_fd=inner)
        try:
            update(outer, bytes(4), struct.pack("=I", inner))
        finally:
            os.close(outer)
    finally:
        os.close(inner)
