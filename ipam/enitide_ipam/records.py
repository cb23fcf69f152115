"""What the pool asks its caller to persist before it answers: one record per operation, each complete in itself.

Replaying any prefix of the journal gives the pool as it stood after that operation. Records are msgspec structs with a
tag, so that `msgspec.json` writes and reads them without a codec of ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from enitide_api.resources import ENINodeStatus


@dataclass(frozen=True, slots=True)
class PodRef:
    """A pod as CNI arguments name it; all empty for a container that is no pod.

    `uid` is empty where the runtime did not say it.
    """

    namespace: str = ""
    name: str = ""
    uid: str = ""

    @property
    def full_name(self) -> str:
        """`namespace/name`, empty for a container that is no pod."""
        return f"{self.namespace}/{self.name}" if self.name else ""


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
    """`address` (empty: none was held) is nobody's from `at` on.

    `cool`: it cools first; else nothing ever used it and it is free at once. `tombstone`: an ADD of `owner` that comes
    late is refused. `served`: its ADD had been answered, so one that began after `at` is a new attachment.
    """

    owner: str
    address: str
    at: float
    cool: bool
    tombstone: bool
    served: bool = False


class Past(msgspec.Struct, frozen=True, tag="past"):
    """Who had an address that nobody has now: for people who ask, never for a decision. Times as in `Held`."""

    address: str
    ipv6: str
    owner: str
    pod: PodRef
    since: float
    until: float


class Yielded(msgspec.Struct, frozen=True, tag="yielded"):
    """All CIDRs out of use from now on for the operator's sake, in the order chosen; `version` it rests on."""

    cidrs: tuple[str, ...]
    version: str


class Published(msgspec.Struct, frozen=True, tag="published"):
    """The operator's status that is in use from now on, so that a restart without the API server can serve."""

    status: ENINodeStatus
    version: str


Record = Held | Released | Past | Yielded | Published

_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """One line of JSON without the newline."""
    return msgspec.json.encode(record)


def decode(line: bytes) -> Record:
    """The record in a line; `msgspec.DecodeError` (ValidationError is one) for a torn or foreign one."""
    return _DECODER.decode(line)
