"""Whose every address in the cluster is, kept small: about 200 bytes an endpoint.

A batch is packed into bytes while its page is read; nothing else of it is kept. Of each address one number is kept:
what the record of the highest revision says. Records of this node's own pods are kept by the pod's uid as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from sys import intern
from zlib import crc32

import msgspec

from enitide_api.resources import KEYS_BATCH, EndpointBatch
from enitide_kube.objects import Meta
from enitide_policy.identities import relevance_of_keys
from enitide_policy.labels import Relevance
from enitide_policy.numbers import Reserved

Address = IPv4Address | IPv6Address

_FOUR = struct.Struct("<BIIQI4s")  # family, identity, node, revision, owner, address
_SIX = struct.Struct("<BIIQI16s")
_IDENTITY_BITS, _OWNER_BITS, _BATCH_BITS = 32, 32, 24
_OWNER_MASK = (1 << _OWNER_BITS) - 1
_LOW_BITS = _IDENTITY_BITS + _OWNER_BITS  # a value: revision, batch, owner, identity
_IDENTITY_MASK, _BATCH_MASK = (1 << _IDENTITY_BITS) - 1, (1 << _BATCH_BITS) - 1
_IS_SIX = 1 << 128
_DECODER = msgspec.json.Decoder(EndpointBatch)


@dataclass(frozen=True, slots=True)
class Entry:
    """One address of one record. `owner`: a check sum of the pod's uid, 0: of no pod."""

    key: int
    identity: int
    node: int
    revision: int
    owner: int


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """What is told of a pod of this node."""

    uid: str
    identity: int
    revision: int


@dataclass(frozen=True, slots=True)
class SlimBatch:
    """An EndpointBatch as it is kept. `own`: records of this node's pods; `subnets`: of the nodes it tells of.

    `keys`: what the operator announces; only in the batch that holds no records.
    """

    metadata: Meta
    packed: bytes
    own: tuple[OwnRecord, ...] = ()
    subnets: tuple[str, ...] = ()
    unreadable: int = 0
    keys: Relevance | None = None

    def entries(self) -> Iterator[Entry]:
        """One for each address."""
        at, packed = 0, self.packed
        while at < len(packed):
            layout = _FOUR if packed[at] == 4 else _SIX
            family, identity, node, revision, owner, address = layout.unpack_from(packed, at)
            at += layout.size
            yield Entry(int.from_bytes(address) | (_IS_SIX if family == 6 else 0), identity, node, revision, owner)


class Packer:
    """Decodes batches for the node `own`; a node's name is a small number from then on."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._nodes: dict[str, int] = {own: 0}
        self._names: list[str] = [own]

    def node_name(self, number: int) -> str:
        """The node that a number stands for."""
        return self._names[number]

    def decode(self, raw: bytes) -> SlimBatch:
        """An EndpointBatch's bytes. An address that is none is left out and counted."""
        batch = _DECODER.decode(raw)
        packed, own, bad = bytearray(), [], 0
        subnets: dict[str, None] = {}
        for record in batch.spec.endpoints:
            node = self._number(record.node)
            identity = record.identity
            if node == 0 and identity == Reserved.REMOTE_NODE and record.node:
                identity = Reserved.HOST
            if record.pod_uid and record.node == self._own and identity:
                own.append(OwnRecord(record.pod_uid, identity, record.revision))
            subnets.update(dict.fromkeys(map(intern, record.subnets)))
            owner = crc32(record.pod_uid.encode())
            for text in record.addresses:
                try:
                    address = ip_address(text)
                except ValueError:
                    bad += 1
                    continue
                layout = _FOUR if address.version == 4 else _SIX
                packed += layout.pack(address.version, identity, node, record.revision, owner, address.packed)
        meta = batch.metadata
        slim = Meta(name=meta.name, uid=meta.uid, resource_version=meta.resource_version)
        keys = relevance_of_keys(batch.spec.keys) if meta.name == KEYS_BATCH and batch.spec.keys is not None else None
        return SlimBatch(slim, bytes(packed), tuple(own), tuple(subnets), bad, keys)

    def _number(self, name: str) -> int:
        number = self._nodes.get(name)
        if number is None:
            number = self._nodes[name] = len(self._names)
            self._names.append(name)
        return number


def key_of(address: Address) -> int:
    """An address as one number."""
    return int(address) | (_IS_SIX if address.version == 6 else 0)


def address_of(key: int) -> Address:
    """The inverse of `key_of`."""
    return IPv6Address(key & (_IS_SIX - 1)) if key & _IS_SIX else IPv4Address(key)


@dataclass(slots=True)
class Remote:
    """All addresses of the cluster. `on_batch` is a reflector's callback; `changed` collects what differs.

    `changed`: address key -> identity now, 0: nobody's. Whoever writes it to the kernel takes it with `take`.
    `own_changed`: uids of this node's pods of which something else is told. `strangers`: keys of `changed` that another
    pod has now. `announced`: the keys to which identities in records are cut, as the operator says, if it does.
    """

    changed: dict[int, int] = field(default_factory=dict)
    strangers: set[int] = field(default_factory=set)
    announced: Relevance | None = None
    own_changed: dict[str, None] = field(default_factory=dict)
    subnets: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    _own: dict[str, tuple[OwnRecord, int]] = field(default_factory=dict)  # with the batch that holds it
    _best: dict[int, int] = field(default_factory=dict)
    _number: dict[str, int] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._best)

    def on_batch(self, name: str, old: SlimBatch | None, new: SlimBatch | None) -> None:
        """One batch came, changed or went: what it adds first, then what it no longer says."""
        if name == KEYS_BATCH:
            self.announced = new.keys if new is not None else None
            return
        batch = self._number_of(name)
        said = dict(self._take_in(batch, new)) if new is not None else {}
        if old is not None:
            self._take_out(batch, old, said)
        self._count_subnets(old, new)
        self._own_records(batch, old, new)
        if new is None:
            self._free.append(self._number.pop(name))

    def identity_of(self, address: Address) -> int:
        """0: nobody's, or not known."""
        return self._best.get(key_of(address), 0) & _IDENTITY_MASK

    def identity_of_pod(self, uid: str) -> int:
        """What is told of a pod of this node; 0: nothing yet."""
        known = self._own.get(uid)
        return known[0].identity if known is not None else 0

    def everything(self) -> Iterator[tuple[int, int]]:
        """Address key and identity of all that somebody has."""
        return ((key, value & _IDENTITY_MASK) for key, value in self._best.items() if value & _IDENTITY_MASK)

    def take(self) -> dict[int, int]:
        """What changed since the last call."""
        taken, self.changed = self.changed, {}
        self.strangers.clear()
        return taken

    def _take_in(self, batch: int, new: SlimBatch) -> Iterator[tuple[int, int]]:
        for entry in new.entries():
            yield entry.key, entry.revision
            best = self._best.get(entry.key)
            if best is not None and best >> (_LOW_BITS + _BATCH_BITS) > entry.revision:
                continue
            before = best & _IDENTITY_MASK if best is not None else 0
            said = entry.owner << _IDENTITY_BITS | entry.identity
            self._best[entry.key] = (entry.revision << _BATCH_BITS | batch) << _LOW_BITS | said
            if best is None or not entry.owner or best >> _IDENTITY_BITS & _OWNER_MASK != entry.owner:
                self.strangers.add(entry.key)
            if before != entry.identity:
                self.changed[entry.key] = entry.identity

    def _take_out(self, batch: int, old: SlimBatch, said: dict[int, int]) -> None:
        for entry in old.entries():
            if said.get(entry.key) == entry.revision:
                continue
            best = self._best.get(entry.key)
            if best is None or best >> _LOW_BITS != (entry.revision << _BATCH_BITS | batch):
                continue  # another record holds
            del self._best[entry.key]
            self.strangers.add(entry.key)
            if best & _IDENTITY_MASK:
                self.changed[entry.key] = 0

    def _own_records(self, batch: int, old: SlimBatch | None, new: SlimBatch | None) -> None:
        for record in new.own if new is not None else ():
            known = self._own.get(record.uid)
            if known is None or known[0].revision <= record.revision:
                self._own[record.uid] = record, batch
                self.own_changed[record.uid] = None
        kept = set(new.own) if new is not None else set()
        for record in old.own if old is not None else ():
            if record not in kept and self._own.get(record.uid) == (record, batch):
                del self._own[record.uid]
                self.own_changed[record.uid] = None

    def _count_subnets(self, old: SlimBatch | None, new: SlimBatch | None) -> None:
        for each in new.subnets if new is not None else ():
            self.subnets[each] = self.subnets.get(each, 0) + 1
        for each in old.subnets if old is not None else ():
            self.subnets[each] -= 1
            if not self.subnets[each]:
                del self.subnets[each]

    def _number_of(self, name: str) -> int:
        number = self._number.get(name)
        if number is None:
            number = self._number[name] = self._free.pop() if self._free else len(self._number)
        return number
