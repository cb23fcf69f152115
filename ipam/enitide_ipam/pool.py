"""The agent's pool of addresses. Pure: `now` (seconds of a clock that outlives the agent process, such as
CLOCK_BOOTTIME) is passed in, and every change returns the records that the caller must persist BEFORE it answers.

One pool per agent, used from one thread. It never hands out what is yielded, releasing, cooling, of an ENI whose device
is not ready, or not published.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_api.resources import Demand, EndpointRecord, ENINodeStatus, Interface
from enitide_ipam.records import PodRef, Record


@dataclass(frozen=True, slots=True)
class Allocation:
    """An address for a pod, and the ENI it belongs to. `ipv6` empty where the ENI has no /80."""

    address: str
    ipv6: str
    eni_id: str
    interface: Interface | None


@dataclass(frozen=True, slots=True)
class Grant:
    """`allocate` gave (or gave again) this; persist `records`, then configure, then `confirm` or `abort`."""

    allocation: Allocation
    records: tuple[Record, ...]
    again: bool = False  # the owner had it already


@dataclass(frozen=True, slots=True)
class Refusal:
    """No address: why, in a sentence; `retry`: waiting can help."""

    reason: Reason
    message: str
    retry: bool


@dataclass(frozen=True, slots=True)
class AddressRow:
    """One address as the command line shows it. `state`: free, reserved, claimed, in-use, cooling, yielded, releasing,
    not-ready, vanished.
    """

    address: str
    eni_id: str
    state: str
    owner: str
    pod: PodRef
    since: float | None


class Pool:
    """See the module. Durations in seconds."""

    def __init__(self, instance_id: str, *, cooldown_s: float = 30.0) -> None:
        """`instance_id`: a status of another instance is used for nothing."""
        raise NotImplementedError

    def restore(self, records: Iterable[Record], now: float) -> None:
        """Replay the journal; before anything else, and before the first `apply_status`."""
        raise NotImplementedError

    def records(self, now: float) -> tuple[Record, ...]:
        """The shortest journal that gives this pool (compaction)."""
        raise NotImplementedError

    def apply_status(self, status: ENINodeStatus, version: str, now: float) -> tuple[Record, ...]:
        """Take in what the operator published; a version older than the newest seen changes nothing."""
        raise NotImplementedError

    def set_ready(self, eni_ids: Collection[str]) -> None:
        """The ENIs whose devices are configured; addresses of others are not handed out."""
        raise NotImplementedError

    def interfaces(self) -> tuple[Interface, ...]:
        """What is published, by (card, index)."""
        raise NotImplementedError

    def reserve(self, pod: PodRef, now: float) -> Grant | Refusal:
        """An address for a pod that is bound here and has none; again=True where it has one."""
        raise NotImplementedError

    def unreserve(self, pod_uid: str, now: float) -> tuple[Record, ...]:
        """The pod went away without an ADD: its reservation is free at once."""
        raise NotImplementedError

    def allocate(self, owner: str, pod: PodRef, now: float) -> Grant | Refusal:
        """ADD, first phase; idempotent per owner. `owner` is `container id/ifname`. A DEL seen before refuses it
        (PodDeleted, no retry). For want of an address the pod counts as waiting for 2 minutes.
        """
        raise NotImplementedError

    def confirm(self, owner: str, now: float) -> tuple[Record, ...]:
        """ADD, second phase: everything is in place and the answer goes out next."""
        raise NotImplementedError

    def abort(self, owner: str, now: float) -> tuple[Record, ...]:
        """ADD failed after `allocate`: the address goes back to the pod's reservation, else it cools."""
        raise NotImplementedError

    def release(self, owner: str, now: float) -> tuple[Record, ...]:
        """DEL: idempotent; the address cools; the owner is remembered so that a late ADD is refused."""
        raise NotImplementedError

    def demand(self, now: float) -> Demand:
        """InUse (incl. reserved), cooling, waiting, to report."""
        raise NotImplementedError

    def endpoints(self) -> tuple[EndpointRecord, ...]:
        """Pods that hold or are reserved addresses, in a stable order, to report."""
        raise NotImplementedError

    def answer_reclaim(self, now: float) -> tuple[Record, ...]:
        """Choose what to yield for the status.reclaim last applied, or begin to take back; persist, then write
        `yielded()` into the spec with the resourceVersion of the status it rests on.
        """
        raise NotImplementedError

    def yielded(self) -> tuple[str, ...]:
        """What spec.yielded should say now."""
        raise NotImplementedError

    def yielded_written(
        self, written: Collection[str], reply: ENINodeStatus, version: str, now: float
    ) -> tuple[Record, ...]:
        """The write of `written` as spec.yielded was accepted with this reply: what it no longer lists and the reply
        still publishes may be used again.
        """
        raise NotImplementedError

    def allocation(self, owner: str) -> Allocation | None:
        """What an owner holds."""
        raise NotImplementedError

    def owners(self) -> tuple[str, ...]:
        """Every owner that holds an address, sorted."""
        raise NotImplementedError

    def unconfirmed(self) -> tuple[str, ...]:
        """Owners whose ADD was never confirmed (after a crash: abort or finish them)."""
        raise NotImplementedError

    def rows(self, now: float) -> tuple[AddressRow, ...]:
        """Every address with its state."""
        raise NotImplementedError
