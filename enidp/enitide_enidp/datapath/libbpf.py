"""A thin binding of the part of `libbpf.so.1` that opens and loads objects; about 1 ms to bind, no compiler.

Names, arguments and return values are libbpf's (stable ABI since 1.0). Everything else is done by `syscalls.py`. An
object owns its descriptors: `close` closes them, so what shall live on is pinned or duplicated before.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Self

from enitide_api.errors import DatapathFailed, KernelUnsupported

VERIFIER_LOG_BYTES = 1 << 20
_LOG_TAIL_CHARACTERS = 3000
_pointer = ctypes.c_void_p


class _OpenOptions(ctypes.Structure):
    """`struct bpf_object_open_opts` of libbpf 1.0; `sz` tells libbpf how much of it we know."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("_reserved", ctypes.c_uint32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
        ("kernel_log_buf", ctypes.c_void_p),
        ("kernel_log_size", ctypes.c_size_t),
        ("kernel_log_level", ctypes.c_uint32),
    )


_PROTOTYPES: dict[str, tuple[object, list[object]]] = {
    "libbpf_set_print": (_pointer, [_pointer]),
    "bpf_object__open_mem": (_pointer, [_pointer, ctypes.c_size_t, _pointer]),
    "bpf_object__load": (ctypes.c_int, [_pointer]),
    "bpf_object__close": (None, [_pointer]),
    "bpf_object__next_map": (_pointer, [_pointer, _pointer]),
    "bpf_object__next_program": (_pointer, [_pointer, _pointer]),
    "bpf_map__name": (ctypes.c_char_p, [_pointer]),
    "bpf_map__fd": (ctypes.c_int, [_pointer]),
    "bpf_map__type": (ctypes.c_uint, [_pointer]),
    "bpf_map__key_size": (ctypes.c_uint, [_pointer]),
    "bpf_map__value_size": (ctypes.c_uint, [_pointer]),
    "bpf_map__max_entries": (ctypes.c_uint, [_pointer]),
    "bpf_map__initial_value": (_pointer, [_pointer, ctypes.POINTER(ctypes.c_size_t)]),
    "bpf_map__set_initial_value": (ctypes.c_int, [_pointer, _pointer, ctypes.c_size_t]),
    "bpf_program__name": (ctypes.c_char_p, [_pointer]),
    "bpf_program__fd": (ctypes.c_int, [_pointer]),
    "ring_buffer__new": (_pointer, [ctypes.c_int, _pointer, _pointer, _pointer]),
    "ring_buffer__poll": (ctypes.c_int, [_pointer, ctypes.c_int]),
    "ring_buffer__consume": (ctypes.c_int, [_pointer]),
    "ring_buffer__free": (None, [_pointer]),
}


@cache
def library() -> ctypes.CDLL:
    """The loaded library, silent on standard error: what went wrong is in errno and in the verifier's log."""
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise KernelUnsupported(f"libbpf.so.1 cannot be loaded ({error}); install the package libbpf1") from error
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.libbpf_set_print(None)
    return lib


class BpfObject:
    """One compiled object. Open it, replace `.rodata` sections, load it, take descriptors, close it."""

    def __init__(self, path: Path, pin_root: Path) -> None:
        """Parse `path`. Maps that ask for it are pinned under `pin_root` by name, or reused from there, at `load`."""
        self._name = path.name.split(".")[0]
        self._image = path.read_bytes()
        self._log = ctypes.create_string_buffer(VERIFIER_LOG_BYTES)
        options = _OpenOptions(
            sz=ctypes.sizeof(_OpenOptions),
            object_name=self._name.encode(),
            pin_root_path=os.fsencode(pin_root),
            kernel_log_buf=ctypes.addressof(self._log),
            kernel_log_size=VERIFIER_LOG_BYTES,
        )
        self._handle = library().bpf_object__open_mem(self._image, len(self._image), ctypes.byref(options))
        if not self._handle:
            raise self._failed("is no eBPF object that libbpf can read", ctypes.get_errno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free everything, with all descriptors. Twice is once."""
        if self._handle:
            library().bpf_object__close(self._handle)
            self._handle = None

    def set_rodata(self, section: str, value: bytes) -> None:
        """Replace the whole of a read-only data section before the load, which then freezes it."""
        lib, size = library(), ctypes.c_size_t()
        for entry in self._entries("map"):
            if lib.bpf_map__name(entry).decode().endswith(section):
                lib.bpf_map__initial_value(entry, ctypes.byref(size))
                if size.value != len(value):
                    raise self._failed(f"expects {size.value} bytes in {section}, not {len(value)}", errno.EINVAL)
                if lib.bpf_map__set_initial_value(entry, value, len(value)):
                    raise self._failed(f"does not take {section}", ctypes.get_errno())
                return
        raise self._failed(f"has no section {section}", errno.ENOENT)

    def load(self) -> None:
        """Make the maps and have the programs verified. The error carries the end of the verifier's log."""
        result = library().bpf_object__load(self._handle)
        if result:
            raise self._failed("was refused by the kernel", -result, self._log.value.decode(errors="replace"))

    def programs(self) -> dict[str, int]:
        """Descriptors of the loaded programs by name; they belong to the object."""
        lib = library()
        return {lib.bpf_program__name(p).decode(): lib.bpf_program__fd(p) for p in self._entries("program")}

    def maps(self) -> dict[str, int]:
        """Descriptors of the loaded maps by name; they belong to the object."""
        lib = library()
        return {lib.bpf_map__name(m).decode(): lib.bpf_map__fd(m) for m in self._entries("map")}

    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """Type, key bytes, value bytes and capacity of each map that the object asks for, by name."""
        lib = library()
        return {
            lib.bpf_map__name(m).decode(): (
                lib.bpf_map__type(m),
                lib.bpf_map__key_size(m),
                lib.bpf_map__value_size(m),
                lib.bpf_map__max_entries(m),
            )
            for m in self._entries("map")
        }

    def _entries(self, what: str) -> Iterator[int]:
        following = getattr(library(), f"bpf_object__next_{what}")
        entry = following(self._handle, None)
        while entry:
            yield entry
            entry = following(self._handle, entry)

    def _failed(self, sentence: str, number: int, log: str = "") -> DatapathFailed:
        text = f"object {self._name} {sentence}: {os.strerror(number)}"
        if number == errno.EINVAL and "refused" in sentence and not log.strip():
            text += " (a pinned map of another shape? layouts have changed without a new SCHEMA)"
        tail = log.strip()[-_LOG_TAIL_CHARACTERS:]
        return DatapathFailed(f"{text}\nverifier log, last part:\n{tail}" if tail else text)
