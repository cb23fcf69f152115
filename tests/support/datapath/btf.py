"""Reads structure layouts from the BTF of a compiled object: ELF section lookup and the BTF kinds C structs need."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = 9, 10, 11, 12, 13, 14, 15
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = 16, 17, 18, 19
_POINTER_BYTES = 8
# What follows the 12 bytes of a type: a fixed part, and a part for each of its `vlen` members.
_TAIL_BYTES = {
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _FUNC_PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _DECL_TAG: (4, 0),
    _ENUM64: (0, 12),
}


@dataclass
class _Type:
    kind: int
    name: str
    size_or_type: int
    members: list[tuple[str, int, int]]
    array: tuple[int, int] = (0, 0)


def _section(image: bytes, wanted: str) -> bytes:
    (offset,) = struct.unpack_from("<Q", image, 0x28)
    size, count, names = struct.unpack_from("<HHH", image, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", image, offset + i * size) for i in range(count)]
    strings = headers[names][4]
    for name, _, _, _, start, length in headers:
        begin = strings + name
        if image[begin : image.index(b"\0", begin)].decode() == wanted:
            return image[start : start + length]
    raise LookupError(wanted)


class Btf:
    def __init__(self, path: Path) -> None:
        data = _section(path.read_bytes(), ".BTF")
        _, _, _, header, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", data)
        self._strings = data[header + str_off : header + str_off + str_len]
        self._types: list[_Type] = [_Type(0, "void", 0, [])]
        self._read(data[header + type_off : header + type_off + type_len])

    def _text(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _read(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            name, info, size_or_type = struct.unpack_from("<III", data, at)
            kind, length, at = info >> 24 & 0x1F, info & 0xFFFF, at + 12
            found = _Type(kind, self._text(name), size_or_type, [])
            if kind in (_STRUCT, _UNION):
                for i in range(length):
                    member, target, bits = struct.unpack_from("<III", data, at + 12 * i)
                    found.members.append((self._text(member), target, (bits & 0xFFFFFF) // 8))
            if kind == _ARRAY:
                element, _, entries = struct.unpack_from("<III", data, at)
                found.array = (element, entries)
            fixed, each = _TAIL_BYTES.get(kind, (0, 0))
            at += fixed + each * length
            self._types.append(found)

    def _size(self, number: int) -> int:
        found = self._types[number]
        if found.kind in (_TYPEDEF, _CONST, _VOLATILE, _RESTRICT, _TYPE_TAG):
            return self._size(found.size_or_type)
        if found.kind == _ARRAY:
            return self._size(found.array[0]) * found.array[1]
        return _POINTER_BYTES if found.kind == _PTR else found.size_or_type

    def structure(self, name: str) -> tuple[int, dict[str, tuple[int, int]]]:
        """Size, and offset and size of each field; of an unnamed union its first member stands for all."""
        found = next(t for t in self._types if t.kind == _STRUCT and t.name == name)
        fields: dict[str, tuple[int, int]] = {}
        for member, target, offset in found.members:
            if not member and self._types[target].kind == _UNION:
                inner_name, inner, inner_offset = self._types[target].members[0]
                fields[inner_name] = (offset + inner_offset, self._size(inner))
            else:
                fields[member] = (offset, self._size(target))
        return found.size_or_type, fields
