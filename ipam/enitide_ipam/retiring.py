"""ENIs on their way out: idle ones of ours, and those that their class does not admit any more. Pure.

The way is one for both: the operator marks the ENI `draining`; the agent hands out nothing of it any more, yields what
is idle, and in the end the ENI's own address, by which it says that nothing on the node uses the ENI; the operator
takes it out of `interfaces` in one compare-and-swap. Only an ENI with this cluster's own tag, never the one at card 0,
index 0, then stands in `status.removing` and is detached and deleted by whoever leads. An excluded ENI is merely no
longer published: it is never touched.
"""

from __future__ import annotations

from enitide_api.resources import ENIClassSpec
from enitide_ipam.addresses import expand, size, text
from enitide_ipam.capacity import NODE_PLACE, addresses_of, is_excluded, is_managed
from enitide_ipam.model import TAG_CLUSTER, Attachment, EniView, NodeSnapshot


def is_ours(eni: EniView, cluster: str) -> bool:
    """Made by this cluster's operator. Nothing is without a cluster name."""
    return bool(cluster) and bool(eni.token) and eni.tags.get(TAG_CLUSTER, "") == cluster


def may_go(eni: EniView, class_: ENIClassSpec, cluster: str) -> bool:
    """Whether it may be detached and deleted, were it idle."""
    first = (eni.card, eni.index) == NODE_PLACE
    return is_ours(eni, cluster) and not first and not is_excluded(eni, class_.interfaces)


def is_retired(eni: EniView, snapshot: NodeSnapshot) -> bool:
    """Published, still attached, and not admitted by the class any more: it serves its pods until it is idle."""
    return (
        not is_managed(eni, snapshot.class_.interfaces)
        and eni.attachment is Attachment.ATTACHED
        and eni.instance_id == snapshot.instance.id
        and bool(eni.primary)
        and eni.id not in snapshot.removing
        and any(each.id == eni.id for each in snapshot.published.interfaces)
    )


def retired(snapshot: NodeSnapshot) -> tuple[EniView, ...]:
    """All of the snapshot's ENIs that are so."""
    return tuple(eni for eni in snapshot.enis if is_retired(eni, snapshot))


def idle_since(snapshot: NodeSnapshot, cluster: str, now: float) -> dict[str, float]:
    """Since when an ENI that may go holds nothing for pods: keep it in the snapshot."""
    ordered = {getattr(action, "eni_id", "") for action in snapshot.in_flight}
    making = {intent.token for intent in snapshot.pending} | snapshot.running
    return {
        eni.id: snapshot.idle_since.get(eni.id, now)
        for eni in snapshot.enis
        if is_managed(eni, snapshot.class_.interfaces)
        and may_go(eni, snapshot.class_, cluster)
        and not (eni.addresses or eni.prefixes or eni.primary in snapshot.busy)
        and eni.id not in snapshot.removing
        and eni.id not in ordered
        and eni.token not in making
    }


def held_on_retired(snapshot: NodeSnapshot) -> tuple[int, int]:
    """(addresses of retired ENIs that reported endpoints hold, all others of theirs that EC2 still has there).

    The others of an excluded ENI are not counted: they are no more ours than before it served us, and never go back.
    """
    held = idle = 0
    for eni in retired(snapshot):
        addresses = [text(each) for cidr in (*eni.addresses, *eni.prefixes) for each in expand(cidr)]
        busy = sum(each in snapshot.busy for each in addresses)
        held += busy
        idle += 0 if is_excluded(eni, snapshot.class_.interfaces) else len(addresses) - busy
    return held, idle


def still_leaving(snapshot: NodeSnapshot) -> int:
    """Addresses that were released and that EC2 still has on the node: of `releasing`, and of ENIs in `removing`.

    maxAllocate counts them until they are back: it is there because addresses are scarce, and an Unassign may be
    refused for long. Those on retired ENIs are `held_on_retired`'s to count.
    """
    leaving = frozenset(snapshot.releasing)
    count = 0
    for eni in snapshot.enis:
        if eni.id in snapshot.removing:
            count += addresses_of(eni, snapshot.class_.interfaces, ())
        elif not is_retired(eni, snapshot):
            count += sum(size(cidr) for cidr in (*eni.addresses, *eni.prefixes) if cidr in leaving)
    return count
