"""What the node knows of policy, and what the kernel is told of it, in the order that opens and drops nothing.

Events go in at any time; `flush` writes what they changed: rules first, then the addresses of who they speak of, then
the endpoints that switch; what goes away goes in the reverse order. Before the first `sync` nothing is written, so that
what an earlier process left stays in force. It does no waiting and knows no API server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Protocol

from enitide_enidp.datapath.types import EndpointPolicy
from enitide_enidp.policy.everyone import Everyone
from enitide_enidp.policy.host import HOST, Host, HostKernel
from enitide_enidp.policy.keys import KeyHold
from enitide_enidp.policy.names import Names
from enitide_enidp.policy.own import Identities, OwnPods
from enitide_enidp.policy.remote import Address, Remote, address_of, key_of
from enitide_policy.engine.engine import Engine
from enitide_policy.labels import IdentityLabels
from enitide_policy.mapstate import Changes, RuleSet, RuleSetDelta
from enitide_policy.numbers import FIRST_NUMBER, Reserved

LINGER_S = (
    5.0  # an identity whose object vanished keeps its rules so long: somebody may only have deleted it by mistake
)


class Kernel(HostKernel, Protocol):
    """The part of `PolicyMaps` that is needed here."""

    def apply(self, change: RuleSet | RuleSetDelta) -> Any: ...
    def apply_all(self, changes: Iterable[RuleSetDelta]) -> int: ...
    def retire(self, number: int) -> None: ...
    @property
    def closed(self) -> frozenset[int]: ...
    def set_endpoint(self, ifindex: int, policy: EndpointPolicy) -> bool: ...
    def put_identities(self, identities: Mapping[Address, int]) -> None: ...
    def delete_identities(self, addresses: Iterable[Address]) -> int: ...
    def sync_identities(self, wanted: Mapping[Address, int]) -> int: ...
    def known_cidrs(self) -> dict[Any, int]: ...
    def put_cidrs(self, identities: Mapping[Any, int]) -> None: ...
    def delete_cidrs(self, networks: Iterable[Any]) -> None: ...
    def sync_cidrs(self, wanted: Mapping[Any, int]) -> int: ...
    def set_cluster_networks(self, networks: Iterable[Any]) -> None: ...
    def forget_unclaimed(self) -> int: ...


@dataclass(slots=True)
class Local:
    """A wired pod. `identity` 0: not known yet, and what the kernel has for it stays. `ruleset`: the engine's id."""

    ifindex: int
    uid: str
    addresses: tuple[Address, ...]
    identity: int = 0
    ruleset: int = 0
    told: EndpointPolicy | None = None
    revision: int = 0


class PolicyState:
    """`engine`, `remote`, `identities` and `own` are fed by mirrors; `attach` and `detach` by the life of pods.

    `clock`: seconds that never jump back. `audit`: what policy would drop passes, and is counted and told.
    `host_policy`: policies of nodes hold for this one.
    """

    def __init__(
        self, kernel: Kernel, clock: Callable[[], float], *, audit: bool = False, host_policy: bool = False
    ) -> None:
        self.engine = Engine(kernel.known_cidrs())
        self.policies = KeyHold(self.engine, clock, self._own_labels)
        self.remote = Remote()
        self.identities = Identities(self._learned, self._forgotten)
        self.own = OwnPods(self.identities, self.remote.identity_of_pod)
        self.host = Host(self.engine, kernel, clock, enabled=host_policy, audit=audit)
        self.locals: dict[str, Local] = {}
        self.synced = False
        self.revision = 0
        self._kernel = kernel
        self._clock = clock
        self._audit = audit
        self._names = Names(self.engine.named, self.remote, self.identities, self._own_addresses)
        self._overlay: dict[int, int] = {}  # addresses of this node's own pods, known before any record
        self._waiting: dict[int, set[int]] = {}  # identity not known yet -> addresses that have it
        self._kept: dict[int, int] = {}  # of these, addresses that keep what the same pod had, and what they wait for
        self._leaving: dict[int, float] = {}
        self._look: dict[str, None] = {}  # owners whose identity may differ
        self._applied: set[int] = set()
        self._subnets: frozenset[str] = frozenset()

    # --- events ------------------------------------------------------------------------------------------------------

    def _learned(self, number: int, labels: IdentityLabels) -> None:
        self._leaving.pop(number, None)
        self.engine.identity(number, labels)
        for key in self._waiting.pop(number, ()):
            if self.remote.identity_of(address_of(key)) == number:
                self.remote.changed.setdefault(key, number)
        self.look_at_all()

    def _forgotten(self, number: int) -> None:
        self._leaving[number] = self._clock() + LINGER_S

    def look_at_all(self) -> None:
        """Labels, namespaces, relevance or identities changed: any own pod may have another identity."""
        self._look.update(dict.fromkeys(self.locals))

    @property
    def due_at(self) -> float | None:
        """When there is something to do though nobody says so."""
        due = [*self._leaving.values(), self.policies.due_at, self.host.due_at]
        return min((at for at in due if at is not None), default=None)

    # --- pods of this node -------------------------------------------------------------------------------------------

    def attach(self, owner: str, uid: str, ifindex: int, addresses: Iterable[Address]) -> None:
        """A pod is wired and closed; its policy is in the kernel when this returns. `uid` empty: it is no pod.

        A container that is no pod of the cluster is nobody's subject: it passes, as `unmanaged`.
        """
        local = Local(ifindex, uid, tuple(addresses))
        self.locals[owner] = local
        if not uid:
            local.identity = Reserved.UNMANAGED
            self._tell(local, EndpointPolicy(0, Reserved.UNMANAGED, enforce=False))
            self._place(local)
            return
        self._look[owner] = None
        self.flush()

    def adopt(self, owner: str, uid: str, ifindex: int, addresses: Iterable[Address]) -> None:
        """A pod that lives already: what the kernel has for it stays until the first sync."""
        self.locals[owner] = Local(ifindex, uid, tuple(addresses), 0 if uid else Reserved.UNMANAGED)
        self._look[owner] = None

    def detach(self, owner: str) -> None:
        """Its record in the datapath is gone; now its addresses are nobody's."""
        local = self.locals.pop(owner, None)
        if local is None:
            return
        self._look.pop(owner, None)
        self.engine.endpoint(owner, None)
        gone = [address for address in local.addresses if self._overlay.pop(key_of(address), None) is not None]
        for address in gone:
            self.engine.named.pod(address, None)
        if self.synced and gone:
            self._kernel.delete_identities(gone)

    def is_known(self, uid: str) -> bool:
        """Whether a pod with this uid could be given its policy now."""
        return self.synced and self.own.identity_of(uid) != 0

    # --- writes ------------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Everything known, as a whole: the first time, and after a failure. Nothing is deleted before all is added."""
        self.engine.commit()
        self._choose()
        self._kept.clear()
        self._narrow()
        self._widen(is_first=not self.synced)
        self._names.restart()
        self._names.tell({}, ())
        self.engine.commit()
        sets = {owner: self.engine.rule_set_of(owner) for owner in self.locals}
        wanted = {found.id: found for found in (*sets.values(), self.host.rule_set()) if found is not None}
        for rules in wanted.values():
            self._kernel.apply(rules)
        self.remote.take()
        self._waiting.clear()
        self._kernel.sync_cidrs(self.engine.cidrs.numbers)
        self._set_networks()
        self._kernel.sync_identities(self._all_addresses())
        for owner, found in sets.items():
            local = self.locals[owner]
            local.ruleset, local.told = found.id if found is not None else 0, None
            self._settle(owner, local)
        self.host.begin()
        self.host.settle()
        for number in self._applied - wanted.keys():
            self._kernel.retire(number)
        self._applied = set(wanted)
        self._kernel.forget_unclaimed()
        self.policies.closing = False
        self.synced = True
        self.revision += 1

    def flush(self) -> bool:
        """What changed since the last time; whether anything was written."""
        if not self.synced:
            return False
        wrote = self._narrow() and self._write([], {}, [])
        moved = self._choose()
        self.policies.look()
        wrote = self._write(moved, *self._addresses()) or wrote
        if self._widen():  # every address has its new identity by now
            wrote = self._write([], {}, []) or wrote
        wrote = self.host.settle() or wrote
        wrote = self._leave() or wrote
        self.revision += wrote
        return wrote

    def _write(self, moved: list[str], puts: dict[Address, int], deletes: list[Address]) -> bool:
        own = {each: self.locals[owner].identity for owner in moved for each in self.locals[owner].addresses}
        self._names.tell(puts | own, deletes)
        changes = self.engine.commit()
        self._add(changes)
        self._set_networks()
        if puts:
            self._kernel.put_identities(puts)
        pods = {owner: number for owner, number in changes.endpoints.items() if owner != HOST}
        for owner, number in pods.items():
            self.locals[owner].ruleset = number
        for owner in {*moved, *pods}:
            self._settle(owner, self.locals[owner])
        self.host.settle()
        if deletes:
            self._kernel.delete_identities(deletes)
        self._remove(changes)
        return bool(changes) or bool(puts) or bool(deletes) or bool(moved)

    def _choose(self) -> list[str]:
        """Own pods whose identity is another now: the engine is told."""
        moved = []
        look, self._look = self._look, {}
        self._look_records(look)
        for owner in look:
            local = self.locals.get(owner)
            if local is None or not local.uid:
                continue
            identity = self.own.identity_of(local.uid)
            if identity and identity != local.identity:
                local.identity = identity
                self.engine.endpoint(owner, identity)
                moved.append(owner)
        return moved

    def _own_labels(self) -> list[tuple[IdentityLabels, IdentityLabels]]:
        """Of each pod here the labels of its identity, and all of them."""
        known = (
            (self.identities.labels.get(each.identity), self.own.labels_of(each.uid)) for each in self.locals.values()
        )
        return [(cut, whole) for cut, whole in known if cut is not None and whole is not None]

    def _look_records(self, look: dict[str, None]) -> None:
        if self.remote.own_changed:
            uids, self.remote.own_changed = self.remote.own_changed, {}
            look.update(dict.fromkeys(owner for owner, local in self.locals.items() if local.uid in uids))

    def _addresses(self) -> tuple[dict[Address, int], list[Address]]:
        """Records to put and to delete. An identity that is not known yet is nobody's: better than another's.

        Only the same pod keeps what it had: then what it had is a pod's that it was a moment ago.
        """
        puts: dict[Address, int] = {}
        deletes: list[Address] = []
        strangers = set(self.remote.strangers)
        for key, number in self.remote.take().items():
            self._kept.pop(key, None)
            if key in self._overlay:
                continue
            if number and self._is_known(number):
                puts[address_of(key)] = number
                continue
            if number:
                self._waiting.setdefault(number, set()).add(key)
            if number and key not in strangers:
                self._kept[key] = number
            else:
                deletes.append(address_of(key))
        return puts, deletes

    def _narrow(self) -> bool:
        """Keys that went do so before the first record that is cut without them."""
        said, known = self.remote.announced, self.policies.announced
        if said == known or said is None or known is None:
            return False
        return self.policies.announce(known & said)

    def _widen(self, *, is_first: bool = False) -> bool:
        """Keys that came count once everybody has in the kernel the identity that the records give."""
        said, known = self.remote.announced, self.policies.announced
        if said == known or not (is_first or said is None or self._is_settled()):
            return False
        return self.policies.announce(said)

    def _is_settled(self) -> bool:
        """Whether everybody has in the kernel the identity that the records give."""
        if self._kept:
            return False
        told = ((local, self.remote.identity_of_pod(local.uid)) for local in self.locals.values() if local.uid)
        return all(number in (0, local.identity) for local, number in told)

    def _all_addresses(self) -> Everyone:
        for key, number in self.remote.everything():
            if not self._is_known(number):
                self._waiting.setdefault(number, set()).add(key)
        self._overlay = self._own_addresses()
        return Everyone(self.remote, self._overlay, self._is_known)

    def _own_addresses(self) -> dict[int, int]:
        pods = (local for local in self.locals.values() if local.identity)
        return {key_of(address): local.identity for local in pods for address in local.addresses}

    def _is_known(self, number: int) -> bool:
        return number < FIRST_NUMBER or number in self.identities.labels or number in self._leaving

    def _settle(self, owner: str, local: Local) -> None:
        """Tell the kernel what holds for the endpoint, and whose its addresses are."""
        del owner
        if not local.identity:
            return
        if not local.uid:
            self._tell(local, EndpointPolicy(0, local.identity, enforce=False))
            return
        self._place(local)
        self._tell(local, EndpointPolicy(local.ruleset, local.identity, audit=self._audit))

    def _tell(self, local: Local, policy: EndpointPolicy) -> None:
        if local.told != policy:
            self._kernel.set_endpoint(local.ifindex, policy)
            local.told = policy
            local.revision = self.revision + 1

    def _place(self, local: Local) -> None:
        keys = {key_of(address): address for address in local.addresses}
        fresh = {address: local.identity for key, address in keys.items() if self._overlay.get(key) != local.identity}
        if fresh:
            self._kernel.put_identities(fresh)
            self._overlay.update(dict.fromkeys(keys, local.identity))

    def _add(self, changes: Changes) -> None:
        if changes.early:
            self._kernel.apply_all(changes.early)
        if changes.cidrs:
            self._kernel.put_cidrs(changes.cidrs)
        for found in changes.created:
            self._kernel.apply(found)
            self._applied.add(found.id)
        for delta in changes.deltas:
            self._kernel.apply(delta)

    def _remove(self, changes: Changes) -> None:
        if changes.cidrs_gone:
            self._kernel.delete_cidrs(changes.cidrs_gone)
        for delta in changes.late:
            self._kernel.apply(delta)
        for number in changes.dropped:
            self._kernel.retire(number)
            self._applied.discard(number)

    def _leave(self) -> bool:
        """Identities that are gone for good: their rules go last. One that a pod here has stays with it."""
        now = self._clock()
        used = {local.identity for local in self.locals.values()}
        gone = [number for number, until in self._leaving.items() if until <= now and number not in used]
        for number in gone:
            del self._leaving[number]
            self.engine.identity(number, None)
        for number in self._leaving.keys() & used:
            self._leaving[number] = max(self._leaving[number], now + LINGER_S)
        if not gone:
            return False
        changes = self.engine.commit()
        self._add(changes)
        self._remove(changes)
        return bool(changes)

    def _set_networks(self) -> None:
        subnets = frozenset(self.remote.subnets)
        if subnets != self._subnets:
            self._subnets = subnets
            self._kernel.set_cluster_networks([ip_network(each) for each in subnets])
