"""The agent's pool of addresses: who gets one, what cools, what is yielded, who waits.

Pure: `now` (seconds of a clock that outlives the agent process and stops at a reboot, such as CLOCK_MONOTONIC) is
passed in, and every change returns the records that the caller must persist BEFORE it answers anyone. One pool per
agent, used from one thread. It never hands out what is held, cooling, yielded, releasing, unpublished, or of an ENI
whose device is not ready.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import msgspec

from enitide_api.durations import seconds
from enitide_api.reasons import Reason
from enitide_api.resources import Demand, EndpointRecord, ENINodeStatus, Interface
from enitide_ipam import handover
from enitide_ipam.addresses import ipv6_of, parse, size, text
from enitide_ipam.capacity import provisioned_addresses
from enitide_ipam.ledger import PAST, Ledger, keys
from enitide_ipam.records import Held, PodRef, Published, Record, Released, Yielded
from enitide_ipam.refusals import Refusal, why_no_address
from enitide_ipam.stock import Stock

__all__ = ["Allocation", "Grant", "PodRef", "Pool", "Record", "Refusal"]

WAITING_S = 120.0  # how long a pod counts as waiting after its ADD last asked
ASKING_S = 2.0  # an open ADD asks every second
UNCLAIMED_S = 5.0  # a reservation that no ADD took for this long does not keep the address from an ADD that waits
REUSE_AFTER_S = 5.0  # at capacity, with pods waiting, an address may be used again after this


@dataclass(frozen=True, slots=True)
class Allocation:
    """An address for a pod, and the ENI it belongs to. `ipv6` empty where the ENI has no /80.

    `interface` is None where the ENI is not published (any more).
    """

    address: str
    ipv6: str
    eni_id: str
    interface: Interface | None


@dataclass(frozen=True, slots=True)
class Grant:
    """`allocate` or `reserve` gave (or gave `again`) this: persist `records`, configure, then `confirm` or `abort`."""

    allocation: Allocation
    records: tuple[Record, ...]
    again: bool = False


class Pool:
    """See the module. Durations in seconds."""

    def __init__(self, instance_id: str, *, cooldown_s: float = 30.0, remember: int = PAST) -> None:
        """`instance_id`: a status of another instance is used for nothing. `cooldown_s`: until the class says.

        `remember`: how many former holders of addresses are kept for people who ask.
        """
        self._instance_id = instance_id
        self._cooldown_s = cooldown_s
        self.stock = Stock()
        self.ledger = Ledger(remember)
        self._status = ENINodeStatus()
        self._version = ""
        self._waiting: dict[str, tuple[float, str]] = {}  # pod's first key, else owner -> (last asked, owner)
        self._yielded: tuple[str, ...] = ()

    # --- what is published ---------------------------------------------------------------------------------------

    def restore(self, records: Iterable[Record], now: float) -> None:
        """Replay the journal; before anything else."""
        for record in records:
            if isinstance(record, Yielded):
                self._yielded, self._version = record.cidrs, record.version
            elif isinstance(record, Published):
                self._status, self._version = _of_instance(record.status, self._instance_id), record.version
            else:
                self.ledger.apply(record)
        self.ledger.sort()
        self._publish()
        self._expire(now)

    def records(self, now: float) -> tuple[Record, ...]:
        """The shortest journal that gives this pool (compaction)."""
        self._expire(now)
        version = self._version
        return (Published(self._status, version), Yielded(self._yielded, version), *self.ledger.records())

    def apply_status(
        self, status: ENINodeStatus, version: str, now: float, *, listed: Collection[str] | None = None
    ) -> tuple[Record, ...]:
        """Take in what the operator published; a version older than the newest seen changes nothing.

        `listed`: spec.yielded of the same version (None: not known). What neither it lists nor we want to list is
        forgotten, or may be used again if it is published: no write of ours that listed it can come true any more,
        since it carried an older version. (It listed it because the status then asked for it, and this one does not.)
        """
        if _older(version, self._version) or not status.instance_id:
            return ()  # nobody has spoken yet: an ENINode that was made anew must not take away what is in use
        status = _of_instance(status, self._instance_id)
        self._version = version
        records: list[Record] = []
        if status != self._status:
            self._status = status
            self._publish()
            records = [Published(status, version), *self._drop_vanished_reservations(now)]
        if listed is not None:
            kept = {*listed, *self.yielded()}
            records += self._set_yielded(tuple(cidr for cidr in self._yielded if cidr in kept), version)
        return tuple(records)

    def adopt_yielded(self, cidrs: Iterable[str], version: str) -> tuple[Record, ...]:
        """At start: what our own spec.yielded says is out of use, whatever the journal knows."""
        fresh = tuple(cidr for cidr in cidrs if cidr not in self._yielded)
        return self._set_yielded((*self._yielded, *fresh), version)

    def set_ready(self, eni_ids: Collection[str]) -> None:
        """The ENIs whose devices are configured; addresses of others are not handed out."""
        self.stock.set_ready(eni_ids)

    def interfaces(self) -> tuple[Interface, ...]:
        """What is published, by (card, index)."""
        return tuple(eni.interface for eni in self.stock.enis.values())

    def _publish(self) -> None:
        class_ = self._status.class_
        if class_ is not None:
            self._cooldown_s = seconds(class_.cooldown)
        primary = class_ is not None and class_.use_primary_address
        used = (*self.ledger.held, *self.ledger.cooling)
        self.stock.publish(self._status.interfaces, used, use_primary_address=primary)
        self.stock.close(self._yielded)

    def _drop_vanished_reservations(self, now: float) -> tuple[Record, ...]:
        """A reservation without an address helps nobody; one that a container holds stays known.

        An ENI's own address that serves no more pods is still there for those that were promised it.
        """
        held, stock = self.ledger.held, self.stock
        gone = sorted(
            address
            for address in held
            if not held[address].owner and address not in stock and not stock.is_own(text(address))
        )
        return tuple(record for each in gone for record in self._free(each, now))

    # --- pods ----------------------------------------------------------------------------------------------------

    def reserve(self, pod: PodRef, now: float) -> Grant | Refusal:
        """An address for a pod that is bound here and has none; `again` where it has one."""
        self._expire(now)
        mine = self.ledger.of_pod(pod)
        if mine:
            return Grant(self._allocation(self.ledger.held[mine[0]]), (), again=True)
        address = self.stock.pick()
        if address is None:
            return why_no_address(self._status, self.stock, at_capacity=self._at_capacity())
        return self._grant(address, "", pod, now)

    def unreserve(self, pod_uid: str, now: float) -> tuple[Record, ...]:
        """The pod went away: a reservation that no ADD took is free at once, and it waits no longer."""
        self._waiting.pop(pod_uid, None)
        reserved = [each for each in self.ledger.of_pod(PodRef(uid=pod_uid)) if not self.ledger.held[each].owner]
        return tuple(record for each in reserved for record in self._free(each, now))

    def is_asking(self, pod: PodRef, now: float) -> bool:
        """Whether an ADD of the pod is open and finds no address."""
        return any(key in self._waiting and self._waiting[key][0] + ASKING_S > now for key in keys(pod))

    def reserved(self) -> tuple[PodRef, ...]:
        """Pods with a reservation that no ADD has taken yet, to compare with those that are bound."""
        return tuple(held.pod for _, held in sorted(self.ledger.held.items()) if not held.owner)

    def allocate(self, owner: str, pod: PodRef, now: float, *, began: float | None = None) -> Grant | Refusal:
        """ADD, first phase; idempotent per owner (`container id/interface`). `began`: when its plugin started.

        A DEL seen before refuses it (PodDeleted, no retry; see `Tombstone.refuses`). For want of an address the pod
        counts as waiting for 2 minutes; the caller asks again when the pool has changed.
        """
        self._expire(now)
        if owner in self.ledger.by_owner:
            return Grant(self._allocation(self.ledger.held[self.ledger.by_owner[owner]]), (), again=True)
        grave = self.ledger.tombstones.get(owner)
        if grave is not None and grave.refuses(began):
            return Refusal(Reason.POD_DELETED, grave.sentence(owner, now), retry=False)
        reserved = self._reservation(pod)
        address = reserved if reserved is not None and self._is_ready(reserved) else self.stock.pick()
        if address is None:
            self._waiting[_waiter(pod, owner)] = (now, owner)
            address = self._coolest(now) or self._unclaimed(now)
        if address is None:
            return why_no_address(self._status, self.stock, at_capacity=self._at_capacity())
        taken = self._free(address, now) if address in self.ledger.held and address != reserved else ()
        grant = self._grant(address, owner, pod, now)
        freed = () if reserved in (None, address) else self._free(reserved, now)
        return Grant(grant.allocation, (*taken, *grant.records, *freed))

    def confirm(self, owner: str, now: float) -> tuple[Record, ...] | Refusal:
        """ADD, second phase: all is in place, the answer goes out next. Refused when its DEL came in between."""
        address = self.ledger.by_owner.get(owner)
        if address is None:
            return Refusal(Reason.POD_DELETED, f"container {owner} was deleted while it was added", retry=False)
        held = self.ledger.held[address]
        return () if held.confirmed else (self._apply(msgspec.structs.replace(held, confirmed=True, since=now)),)

    def abort(self, owner: str, now: float) -> tuple[Record, ...]:
        """ADD failed after `allocate`: the address goes back to the pod's reservation, else it cools."""
        address = self.ledger.by_owner.get(owner)
        if address is None:
            return ()
        held = self.ledger.held[address]
        if held.pod.uid and self._reservation(held.pod) is None:
            return (self._apply(msgspec.structs.replace(held, owner="", confirmed=False, since=now)),)
        return (self._apply(Released(owner, held.address, now, cool=True, tombstone=False)),)

    def release(self, owner: str, now: float) -> tuple[Record, ...]:
        """DEL: idempotent; the address cools; the owner is remembered so that a late ADD is refused."""
        self._expire(now)
        for key in [key for key, (_, who) in self._waiting.items() if who == owner]:
            del self._waiting[key]
        address = self.ledger.by_owner.get(owner)
        if address is None and owner in self.ledger.tombstones:
            return ()
        held = "" if address is None else text(address)
        served = address is not None and self.ledger.held[address].confirmed
        return (self._apply(Released(owner, held, now, cool=True, tombstone=True, served=served)),)

    def _free(self, address: int, now: float) -> tuple[Record, ...]:
        """End a reservation: no packet was ever sent with it, so it need not cool."""
        return (self._apply(Released("", text(address), now, cool=False, tombstone=False)),)

    def _grant(self, address: int, owner: str, pod: PodRef, now: float) -> Grant:
        known = self.ledger.held.get(address)
        if known is not None:  # a reservation keeps what it was promised
            pod = PodRef(pod.namespace or known.pod.namespace, pod.name or known.pod.name, pod.uid or known.pod.uid)
            record = msgspec.structs.replace(known, owner=owner, pod=pod, confirmed=False, since=now)
        else:
            eni = self.stock.eni_of(address)
            assert eni is not None, "only published addresses are picked"
            v6 = eni.interface.ipv6
            ipv6 = ipv6_of(v6.prefixes[0], address) if v6 is not None and v6.prefixes else ""
            record = Held(text(address), eni.interface.id, ipv6, owner, pod, confirmed=False, since=now)
        self._apply(record)
        self._waiting.pop(_waiter(pod, owner), None)
        return Grant(self._allocation(record), (record,))

    def _apply(self, record: Held | Released) -> Record:
        self.ledger.apply(record)
        if record.address:
            address = parse(record.address)
            if address in self.ledger.held or address in self.ledger.cooling:
                self.stock.take(address)
            else:
                self.stock.give(address)
        return record

    def _reservation(self, pod: PodRef) -> int | None:
        mine = self.ledger.of_pod(pod)
        return next((address for address in mine if not self.ledger.held[address].owner), None)

    def _is_ready(self, address: int) -> bool:
        eni = self.stock.eni_of(address)
        return eni is not None and eni.ready and not self.stock.is_closed(address)

    def _expire(self, now: float) -> None:
        for address in self.ledger.expired(now, self._cooldown_s):
            self.stock.give(address)

    def _coolest(self, now: float) -> int | None:
        """At capacity: the address that cooled longest, if it did for 5 s."""
        if not self._at_capacity():
            return None
        ripe = (address for address, since in self.ledger.cooling.items() if since + REUSE_AFTER_S <= now)
        return next((address for address in ripe if self._is_ready(address)), None)

    def _unclaimed(self, now: float) -> int | None:
        """Reserved for a pod that does not ask: its runtime backs off, or its volumes never come."""
        old = ((held.since, address) for address, held in self.ledger.held.items() if not held.owner)
        ripe = (each for each in old if each[0] + UNCLAIMED_S <= now and self._is_ready(each[1]))
        return min(ripe, default=(0.0, None))[1]

    def _at_capacity(self) -> bool:
        capacity, class_ = self._status.capacity, self._status.class_
        most = class_.pool.max_allocate if class_ is not None else None
        return not capacity.free_slots or (most is not None and self.provisioned() >= most)

    # --- reports -------------------------------------------------------------------------------------------------

    def provisioned(self) -> int:
        """Published addresses for pods, as the operator counts them."""
        class_ = self._status.class_
        primary = class_ is not None and class_.use_primary_address
        return provisioned_addresses(self._status.interfaces, use_primary_address=primary)

    def demand(self, now: float) -> Demand:
        """What to report: in use (reserved ones too), cooling (published ones), waiting pods."""
        self._expire(now)
        for key in [key for key, (at, _) in self._waiting.items() if at + WAITING_S <= now]:
            del self._waiting[key]
        cooling = sum(address in self.stock for address in self.ledger.cooling)
        return Demand(in_use=len(self.ledger.held), cooling=cooling, waiting=len(self._waiting))

    def demand_changes_at(self) -> float | None:
        """When `demand` will be another by time alone: a cool-down or a pod's waiting ends. None: never."""
        ends = [at + WAITING_S for at, _ in self._waiting.values()]
        ends += [since + self._cooldown_s for since in self.ledger.cooling.values()]
        return min(ends, default=None)

    def endpoints(self) -> tuple[EndpointRecord, ...]:
        """Pods that hold or are reserved addresses, by pod UID, to report. Containers that are no pods have none."""
        return self.ledger.endpoints()

    # --- the hand-over -------------------------------------------------------------------------------------------

    def answer_reclaim(self) -> tuple[Record, ...]:
        """Choose what else to yield for the reclaim last applied; then write `yielded()` as spec.yielded.

        That write must carry the version of the status applied last: a late one must not come true after a newer.
        """
        if not self._reclaim() and not self.stock.has_draining:
            return ()
        units = tuple(self.stock.idle_units())
        missing = self._reclaim() - sum(size(cidr) for cidr in self.yielded() if not self.stock.is_draining(cidr))
        chosen = handover.choose(units, missing) if missing > 0 else ()
        return self._set_yielded((*self._yielded, *handover.drained(units), *chosen), self._version)

    def yielded(self) -> tuple[str, ...]:
        """What spec.yielded should say now: what is out of use, published and asked for."""
        return self.stock.asked_for(self._yielded, self._reclaim())

    def yielded_written(
        self, listed: Collection[str], reply: ENINodeStatus, version: str, now: float
    ) -> tuple[Record, ...]:
        """Our own write of spec was accepted; `listed` is spec.yielded and `reply` the status as the REPLY shows them.

        Never pass what was meant to be written: an earlier write whose reply was lost may have listed more.
        """
        return self.apply_status(reply, version, now, listed=listed)

    def out_of_use(self) -> tuple[str, ...]:
        """Every CIDR that is yielded, gone with our own write still to say so, or being taken back."""
        return self._yielded

    def _reclaim(self) -> int:
        return self._status.reclaim.count if self._status.reclaim is not None else 0

    def _set_yielded(self, cidrs: tuple[str, ...], version: str) -> tuple[Record, ...]:
        if cidrs == self._yielded:
            return ()
        self._yielded = cidrs
        self.stock.close(cidrs)
        return (Yielded(cidrs, version),)

    # --- views ---------------------------------------------------------------------------------------------------

    def allocation(self, owner: str) -> Allocation | None:
        """What an owner holds."""
        address = self.ledger.by_owner.get(owner)
        return None if address is None else self._allocation(self.ledger.held[address])

    def owners(self) -> tuple[str, ...]:
        """Every owner that holds an address, sorted."""
        return tuple(sorted(self.ledger.by_owner))

    def unconfirmed(self) -> tuple[str, ...]:
        """Owners whose ADD was never confirmed (after a crash: abort or finish them), sorted."""
        held = self.ledger.held.values()
        return tuple(sorted(each.owner for each in held if each.owner and not each.confirmed))

    def _allocation(self, held: Held) -> Allocation:
        eni = self.stock.enis.get(held.eni)
        return Allocation(held.address, held.ipv6, held.eni, eni.interface if eni is not None else None)


def _waiter(pod: PodRef, owner: str) -> str:
    return next(iter(keys(pod)), owner)


def _of_instance(status: ENINodeStatus, instance_id: str) -> ENINodeStatus:
    """The part the pool uses, empty if the status speaks of another instance; nothing of what is releasing."""
    if status.instance_id != instance_id:
        return ENINodeStatus()
    leaving = frozenset(status.releasing)
    interfaces = status.interfaces
    if leaving:
        interfaces = tuple(handover.without(each, leaving) for each in interfaces)
    return msgspec.structs.replace(status, interfaces=interfaces, pending=(), releasing=())


def _older(version: str, seen: str) -> bool:
    """Resource versions of one object grow as integers; anything else cannot be compared and counts as newer."""
    return version.isdecimal() and seen.isdecimal() and int(version) < int(seen)
