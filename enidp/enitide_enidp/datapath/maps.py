"""Typed access to the pinned hash maps: put, delete, dump, and `sync`, which makes a map equal to what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from enitide_api.errors import DatapathFailed
from enitide_enidp.datapath import codec, syscalls
from enitide_enidp.datapath.types import Endpoint, Eni, LocalPod

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class HashMap(Generic[K, V]):
    """One map of the kernel; `fd` belongs to whoever loaded it. Decoders take the key too, as some values repeat it."""

    name: str
    fd: int
    key_bytes: int
    value_bytes: int
    capacity: int
    encode_key: Callable[[K], bytes]
    decode_key: Callable[[bytes], K]
    encode: Callable[[V], bytes]
    decode: Callable[[K, bytes], V]

    def put(self, key: K, value: V) -> None:
        """Insert or replace."""
        try:
            syscalls.update(self.fd, self.encode_key(key), self.encode(value))
        except OSError as error:
            raise self._failed(error) from error

    def get(self, key: K) -> V | None:
        """The value of `key`, or None."""
        try:
            value = syscalls.lookup(self.fd, self.encode_key(key), self.value_bytes)
        except OSError as error:
            raise self._failed(error) from error
        return None if value is None else self.decode(key, value)

    def delete(self, key: K) -> bool:
        """Remove; False if it was not there."""
        try:
            return syscalls.delete(self.fd, self.encode_key(key))
        except OSError as error:
            raise self._failed(error) from error

    def dump(self) -> dict[K, V]:
        """All entries."""
        return {key: self.decode(key, value) for raw, value in self._raw().items() for key in (self.decode_key(raw),)}

    def put_missing(self, wanted: Mapping[K, V]) -> int:
        """Write what differs or is missing, in one batch; returns how many entries."""
        present = self._raw()
        encoded = {self.encode_key(key): self.encode(value) for key, value in wanted.items()}
        changed = [(key, value) for key, value in encoded.items() if present.get(key) != value]
        try:
            syscalls.update_batch(self.fd, changed)
        except OSError as error:
            raise self._failed(error) from error
        return len(changed)

    def delete_others(self, wanted: Mapping[K, V]) -> int:
        """Remove what is not wanted; returns how many entries."""
        kept = {self.encode_key(key) for key in wanted}
        surplus = [key for key in self._raw() if key not in kept]
        try:
            return sum(syscalls.delete(self.fd, key) for key in surplus)
        except OSError as error:
            raise self._failed(error) from error

    def sync(self, wanted: Mapping[K, V]) -> int:
        """Make the map equal to `wanted`: additions first, so that nothing wanted is ever missing. Returns changes."""
        return self.put_missing(wanted) + self.delete_others(wanted)

    def _raw(self) -> dict[bytes, bytes]:
        try:
            return dict(syscalls.dump(self.fd, self.key_bytes, self.value_bytes, self.capacity))
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> DatapathFailed:
        return DatapathFailed(f"map {self.name} (capacity {self.capacity}): {error.strerror}")


def _u32(data: bytes) -> int:
    return int(codec.U32.unpack(data)[0])


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps the agent fills."""

    endpoints: HashMap[int, Endpoint]
    local: HashMap[codec.Address, LocalPod]
    node_addresses: HashMap[codec.Address, int]
    enis: HashMap[int, Eni]

    @classmethod
    def of(cls, fds: Mapping[str, int]) -> Maps:
        """Over the descriptors of `loader.Loaded.maps`; capacities are those of bpf/include/consts.h."""
        index: tuple[Callable[[int], bytes], Callable[[bytes], int]] = (codec.U32.pack, _u32)
        address = (codec.encode_address, codec.decode_address)
        return cls(
            endpoints=HashMap(
                "endpoints",
                fds["endpoints"],
                4,
                codec.ENDPOINT.codec.size,
                4096,
                *index,
                codec.encode_endpoint,
                codec.decode_endpoint,
            ),
            local=HashMap(
                "local",
                fds["local"],
                codec.ADDRESS.codec.size,
                codec.LOCAL_POD.codec.size,
                8192,
                *address,
                codec.encode_local_pod,
                lambda _, data: codec.decode_local_pod(data),
            ),
            node_addresses=HashMap(
                "node_addresses",
                fds["node_addresses"],
                codec.ADDRESS.codec.size,
                4,
                8192,
                *address,
                codec.U32.pack,
                lambda _, data: _u32(data),
            ),
            enis=HashMap("enis", fds["enis"], 4, 4, 256, *index, codec.encode_eni, codec.decode_eni),
        )
