"""What agents report (which pod has which address), joined with what the operator knows of nodes and pods. No I/O.

An agent is believed only where it speaks of its own: the address must be one that the operator itself published for an
ENI of that node, and the pod must be bound to that node. So a stolen node's word moves no other node's address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from enitide_api.resources import ENINode, ENINodeStatus
from enitide_kube.objects import Node
from enitide_operator.batches.layout import Wanted
from enitide_operator.pods import SlimPod
from enitide_policy.labels import PodFacts
from enitide_policy.numbers import Reserved


@dataclass(slots=True)
class Place:
    """One node. `addresses`, `networks`: what its ENIs hold for pods; `*_own`: the node's; `claims`: by pod uid."""

    addresses: frozenset[str] = frozenset()
    networks: tuple[Any, ...] = ()
    eni_own: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    node_own: tuple[str, ...] = ()
    claims: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def holds(self, address: str) -> bool:
        """Whether the address is on one of its ENIs, for pods. Text that is no address is on none."""
        if address in self.addresses:
            return True
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.networks)


@dataclass(slots=True)
class Join:
    """Callbacks of reflectors go in; `put(owner, wanted)` comes out for each owner whose record may differ.

    `identity_of`: the number that pods of a template have now, 0: none yet (then what was told of them stays).
    `doubt(node, sentence)`: an agent said what is not believed.
    """

    identity_of: Callable[[PodFacts], int]
    put: Callable[[str, Wanted | None], None]
    doubt: Callable[[str, str], None]
    _places: dict[str, Place] = field(default_factory=dict)
    _pods: dict[str, SlimPod] = field(default_factory=dict)  # bound ones, by uid
    _alike: dict[PodFacts, set[str]] = field(default_factory=dict)
    _doubted: dict[tuple[str, str], str] = field(default_factory=dict)

    # --- news ------------------------------------------------------------------------------------------------------

    def on_pod(self, _key: str, old: SlimPod | None, new: SlimPod | None) -> None:
        """One pod came, changed or went."""
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid or not new.wants_on):
            self._forget(old)
        if new is not None and new.wants_on:
            uid = new.metadata.uid
            known = self._pods.get(uid)
            if known is not None and known.facts is not new.facts:
                self._unlike(known)
            self._pods[uid] = new
            self._alike.setdefault(new.facts, set()).add(uid)
            if known is None or known.facts is not new.facts or known.wants_on != new.wants_on:
                self.look(uid)

    def _forget(self, pod: SlimPod) -> None:
        if self._pods.pop(pod.metadata.uid, None) is not None:
            self._unlike(pod)
            self.put(pod.metadata.uid, None)

    def _unlike(self, pod: SlimPod) -> None:
        alike = self._alike.get(pod.facts)
        if alike is not None:
            alike.discard(pod.metadata.uid)
            if not alike:
                del self._alike[pod.facts]

    def moved(self, facts: PodFacts) -> None:
        """Pods of this template have another identity now."""
        for uid in tuple(self._alike.get(facts, ())):
            self.look(uid)

    def on_eninode(self, name: str, old: ENINode | None, new: ENINode | None) -> None:
        """One node's report or its ENIs changed. Work for what differs, and for one node at most."""
        place = self._places.setdefault(name, Place())
        claims = dict(place.claims)
        place.claims = {each.pod_uid: each.addresses for each in new.spec.endpoints} if new is not None else {}
        changed = {uid for uid in claims.keys() | place.claims.keys() if claims.get(uid) != place.claims.get(uid)}
        if new is None or old is None or old.status.interfaces != new.status.interfaces:
            self._take_interfaces(place, new.status if new is not None else ENINodeStatus())
            changed |= place.claims.keys()
            self._look_node(name, place)
        for uid in changed:
            self.look(uid, claimed_by=name)

    def on_node(self, name: str, old: Node | None, new: Node | None) -> None:
        """A node's own addresses."""
        own = tuple(sorted(each.address for each in new.status.addresses or () if each.is_ip)) if new else ()
        place = self._places.setdefault(name, Place())
        if old is None or place.node_own != own:
            place.node_own = own
            self._look_node(name, place)

    def replay(self) -> None:
        """Say everything again: for a term that begins."""
        for name, place in self._places.items():
            self._look_node(name, place)
        for uid in self._pods:
            self.look(uid)

    def owners(self) -> set[str]:
        """Of whom anything may be told."""
        nodes = (f"node/{name}" for name, place in self._places.items() if place.eni_own or place.node_own)
        return {*self._pods, *nodes}

    # --- judgement -------------------------------------------------------------------------------------------------

    def look(self, uid: str, claimed_by: str = "") -> None:
        """Compare what is said of the pod with what may be believed."""
        pod = self._pods.get(uid)
        if pod is None:
            return  # its own news comes, or it has gone: then its record went with it
        node = pod.wants_on
        if claimed_by and claimed_by != node and uid in self._places[claimed_by].claims:
            self._doubt(claimed_by, uid, f"pod {uid} is bound to {node}, not to {claimed_by}")
        place = self._places.get(node, Place())
        said = place.claims.get(uid, ())
        believed = tuple(address for address in said if place.holds(address))
        if believed != said:
            strange = ", ".join(address for address in said if address not in believed)
            self._doubt(node, uid, f"pod {uid}: {strange} is on no ENI of {node}")
        else:
            self._doubted.pop((node, uid), None)
        if not believed:
            self.put(uid, None)
            return
        identity = self.identity_of(pod.facts)
        if identity:
            self.put(uid, Wanted(believed, identity, node))

    def _doubt(self, node: str, uid: str, sentence: str) -> None:
        if self._doubted.get((node, uid)) != sentence:
            self._doubted[node, uid] = sentence
            self.doubt(node, sentence)

    def _take_interfaces(self, place: Place, status: ENINodeStatus) -> None:
        pods_may_have_own = status.class_ is not None and status.class_.use_primary_address
        addresses: set[str] = set()
        networks: list[Any] = []
        own: list[str] = []
        for each in status.interfaces:
            addresses.update(each.addresses)
            networks += [ip_network(prefix) for prefix in each.prefixes]
            networks += [ip_network(prefix) for prefix in each.ipv6.prefixes] if each.ipv6 is not None else []
            if pods_may_have_own and (each.card, each.index) != (0, 0):
                addresses.add(each.primary)
            elif each.primary:
                own.append(each.primary)
        place.addresses, place.networks, place.eni_own = frozenset(addresses), tuple(networks), tuple(own)
        cidrs = {each.cidr for each in status.interfaces} | {each.ipv6.cidr for each in status.interfaces if each.ipv6}
        place.subnets = tuple(sorted(cidrs - {""}))

    def _look_node(self, name: str, place: Place) -> None:
        own = tuple(sorted({*place.eni_own, *place.node_own}))
        self.put(f"node/{name}", Wanted(own, Reserved.REMOTE_NODE, name, place.subnets) if own else None)
        if not own and not place.claims:
            self._places.pop(name, None)
