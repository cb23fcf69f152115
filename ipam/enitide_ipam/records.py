"""What the pool asks its caller to persist before it answers: one record per operation, each complete in itself.

Replaying any prefix of the journal gives the pool as it stood after that operation. Records are msgspec structs with a
tag, so that `msgspec.json` writes and reads them without a codec of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True)
class PodRef:
    """A pod as CNI arguments name it; all empty for a container that is no pod. `uid` empty: the runtime did not say."""

    namespace: str = ""
    name: str = ""
    uid: str = ""


class Held(msgspec.Struct, frozen=True, tag="held"):
    """`address` belongs to `owner` (container/ifname), or only to the pod while `owner` is empty (reserved).

    `confirmed`: its ADD was answered. `since`: when it came into this state.
    """

    address: str
    eni: str
    ipv6: str
    owner: str
    pod: PodRef
    confirmed: bool
    since: float


class Released(msgspec.Struct, frozen=True, tag="released"):
    """`owner`'s DEL (or abort): a tombstone for it, and `address` cools from `at` (empty: it held none).

    `cool` False: nothing ever used it, it is free at once. `tombstone` False: a later ADD of this owner is welcome.
    """

    owner: str
    address: str
    at: float
    cool: bool
    tombstone: bool


class Yielded(msgspec.Struct, frozen=True, tag="yielded"):
    """All CIDRs out of use from now on for the operator's sake; `version` of the status it rests on."""

    cidrs: tuple[str, ...]
    version: str


Record = Held | Released | Yielded


def encode(record: Record) -> bytes:
    """One line of JSON without the newline."""
    return msgspec.json.encode(record)


def decode(line: bytes) -> Record:
    """The record in a line; `msgspec.DecodeError` or `ValidationError` for a torn one."""
    return _DECODER.decode(line)


_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)
