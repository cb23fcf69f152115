"""What we know of EC2's ENIs: mutation replies and targeted reads, merged so that no older reading erases newer facts.

EC2's reads lag behind its writes. After a reply of a mutation, a read that was asked for before that reply, or so soon
after it that it may not show it yet, says nothing about that ENI: what the reply said stands, and the read is to be
repeated later (`settled_at`). It never calls EC2 and never forgets an ENI because a filtered listing lacks it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from enitide_ipam.model import Attachment, EniView, is_foreign
from enitide_operator.ec2.port import Read

SETTLE_S = 10.0  # how long EC2's reads may lag behind a mutation that we did
TOMBSTONE_S = 600.0


@dataclass(frozen=True, slots=True)
class _Fact:
    """`settled_at`: only a read asked for at or after this may replace what we know (Unix seconds)."""

    view: EniView
    settled_at: float


class World:
    """All ENIs we have seen, by id, with an index by instance. For one event loop."""

    def __init__(self, cluster: str = "", *, settle_s: float = SETTLE_S) -> None:
        """`cluster`: our own name, by which another's ENIs are told."""
        self._cluster = cluster
        self._settle_s = settle_s
        self._facts: dict[str, _Fact] = {}
        self._by_instance: dict[str, set[str]] = {}
        self._by_token: dict[str, str] = {}
        self._gone: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._facts)

    def enis_of(self, instance_id: str, tokens: Collection[str] = ()) -> tuple[EniView, ...]:
        """ENIs attached to an instance, and those made for these tokens wherever they are; by card, index and id."""
        ids = set(self._by_instance.get(instance_id, ()))
        ids |= {self._by_token[token] for token in tokens if token in self._by_token}
        found = [self._facts[eni_id].view for eni_id in ids]
        return tuple(sorted(found, key=lambda eni: (eni.card, eni.index, eni.id)))

    def get(self, eni_id: str) -> EniView | None:
        """An ENI by id."""
        fact = self._facts.get(eni_id)
        return fact.view if fact else None

    def by_token(self, token: str) -> EniView | None:
        """The ENI made for an intent."""
        return self.get(self._by_token.get(token, ""))

    def settled_at(self, instance_id: str) -> float:
        """The earliest moment at which a read of the instance replaces all that we know of it (Unix seconds)."""
        ids = self._by_instance.get(instance_id, ())
        return max((self._facts[eni_id].settled_at for eni_id in ids), default=0.0)

    def settled_at_of(self, eni_id: str) -> float:
        """The earliest moment at which a read replaces what we know of this ENI (Unix seconds)."""
        fact = self._facts.get(eni_id)
        return fact.settled_at if fact is not None else 0.0

    # --- reads -----------------------------------------------------------------------------------------------------

    def merge_instance(self, instance_id: str, read: Read[EniView]) -> None:
        """A complete listing of one instance's ENIs. An empty one is not merged: it proves nothing by itself."""
        if not read.items:
            return
        shown = {eni.id for eni in read.items}
        for eni_id in self._by_instance.get(instance_id, set()) - shown:
            if read.asked_at >= self._facts[eni_id].settled_at:
                self._drop(eni_id)
        self._merge(read)

    def merge_some(self, read: Read[EniView]) -> None:
        """A listing that proves nothing about what it lacks (by token, or by id)."""
        self._merge(read)

    def _merge(self, read: Read[EniView]) -> None:
        for eni in read.items:
            fact = self._facts.get(eni.id)
            if fact is not None and read.asked_at < fact.settled_at:
                continue
            gone_at = self._gone.get(eni.id)
            if gone_at is not None and read.asked_at < gone_at + self._settle_s:
                continue
            foreign = is_foreign(eni.tags, self._cluster)
            self._put(_Fact(replace(eni, asked_at=read.asked_at, foreign=foreign), read.asked_at))

    # --- mutation replies ------------------------------------------------------------------------------------------

    def made(self, eni: EniView, at: float) -> None:
        """CreateNetworkInterface answered."""
        self._put(_Fact(replace(eni, asked_at=at), at + self._settle_s))

    def attached(self, eni_id: str, attachment_id: str, instance_id: str, place: tuple[int, int], at: float) -> None:
        """AttachNetworkInterface answered: it is on its way to the instance and cannot be refused any more."""
        card, index = place
        self._change(
            eni_id,
            at,
            attachment=Attachment.ATTACHED,
            attachment_id=attachment_id,
            instance_id=instance_id,
            card=card,
            index=index,
            delete_on_termination=False,
        )

    def flagged(self, eni_id: str, *, delete_on_termination: bool, at: float) -> None:
        """ModifyNetworkInterfaceAttribute answered."""
        self._change(eni_id, at, delete_on_termination=delete_on_termination)

    def associated(self, eni_id: str, elastic_ip: str, at: float) -> None:
        """AssociateAddress answered."""
        self._change(eni_id, at, elastic_ip=elastic_ip)

    def detaching(self, eni_id: str, at: float) -> None:
        """DetachNetworkInterface answered."""
        self._change(eni_id, at, attachment=Attachment.DETACHING)

    def gained(
        self,
        eni_id: str,
        at: float,
        *,
        addresses: Iterable[str] = (),
        prefixes: Iterable[str] = (),
        ipv6_prefixes: Iterable[str] = (),
    ) -> None:
        """An assign call answered with what it added."""
        eni = self.get(eni_id)
        if eni is not None:
            self._change(
                eni_id,
                at,
                addresses=tuple(dict.fromkeys((*eni.addresses, *addresses))),
                prefixes=tuple(dict.fromkeys((*eni.prefixes, *prefixes))),
                ipv6_prefixes=tuple(dict.fromkeys((*eni.ipv6_prefixes, *ipv6_prefixes))),
            )

    def lost(self, eni_id: str, cidrs: Collection[str], at: float) -> None:
        """UnassignPrivateIpAddresses answered."""
        eni = self.get(eni_id)
        if eni is not None:
            self._change(
                eni_id,
                at,
                addresses=tuple(each for each in eni.addresses if each not in cidrs),
                prefixes=tuple(each for each in eni.prefixes if each not in cidrs),
            )

    def deleted(self, eni_id: str, at: float) -> None:
        """DeleteNetworkInterface answered, or EC2 says that it does not exist."""
        self._drop(eni_id)
        self._gone[eni_id] = at
        for old in [each for each, when in self._gone.items() if when + TOMBSTONE_S < at]:
            del self._gone[old]

    def forget_instance(self, instance_id: str) -> None:
        """The instance is gone, or its node is: keep nothing of it."""
        for eni_id in tuple(self._by_instance.get(instance_id, ())):
            self._drop(eni_id)

    def _change(self, eni_id: str, at: float, **changes: Any) -> None:
        fact = self._facts.get(eni_id)
        if fact is not None:
            self._put(_Fact(replace(fact.view, asked_at=at, **changes), at + self._settle_s))

    def _put(self, fact: _Fact) -> None:
        view = fact.view
        self._drop(view.id)
        self._facts[view.id] = fact
        if view.instance_id:
            self._by_instance.setdefault(view.instance_id, set()).add(view.id)
        if view.token:
            self._by_token[view.token] = view.id

    def _drop(self, eni_id: str) -> None:
        fact = self._facts.pop(eni_id, None)
        if fact is None:
            return
        members = self._by_instance.get(fact.view.instance_id)
        if members is not None:
            members.discard(eni_id)
            if not members:
                del self._by_instance[fact.view.instance_id]
        if self._by_token.get(fact.view.token) == eni_id:
            del self._by_token[fact.view.token]
