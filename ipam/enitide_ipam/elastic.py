"""A static public address for a node: one unassociated Elastic IP that carries all the tags the class asks for.

It goes on the node's own ENI (card 0, index 0). What is associated there already is adopted, whatever its tags: an
address in use is never replaced. Nothing here waits for it: pods run with or without.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_ipam.capacity import NODE_PLACE
from enitide_ipam.model import AssociateElasticIP, Attachment, ElasticView, EniView, NodeSnapshot


@dataclass(frozen=True, slots=True)
class ElasticChoice:
    """`action`: what to do now. Without an address and an action, `reason` and `message` say what is awaited."""

    address: str = ""
    action: AssociateElasticIP | None = None
    reason: Reason = Reason.ELASTIC_IP_ASSOCIATED
    message: str = ""


def first_eni(snapshot: NodeSnapshot) -> EniView | None:
    """The ENI that carries the node's own address."""
    attached = (each for each in snapshot.enis if each.attachment is Attachment.ATTACHED)
    return next((each for each in attached if (each.card, each.index) == NODE_PLACE), None)


def choose(snapshot: NodeSnapshot, addresses: Iterable[ElasticView] | None) -> ElasticChoice | None:
    """What to do about the node's public address; None where its class asks for none.

    `addresses`: those with the tags, claims of other nodes marked as associated; None while they are not read.
    """
    tags = snapshot.class_.interfaces.elastic_ip_selector.tags
    if not tags:
        return None
    first = first_eni(snapshot)
    if first is None:
        return ElasticChoice(reason=Reason.FILLING, message="the ENI at card 0, index 0 is not known yet")
    if first.elastic_ip:
        return ElasticChoice(first.elastic_ip, message=f"{first.elastic_ip} is on {first.id}")
    if any(isinstance(each, AssociateElasticIP) for each in snapshot.in_flight):
        return ElasticChoice(reason=Reason.FILLING, message="an Elastic IP is being associated")
    wanted = ", ".join(f"{key}={value}" for key, value in sorted(tags.items()))
    if addresses is None:
        return ElasticChoice(reason=Reason.FILLING, message=f"the Elastic IPs with the tags {wanted} are being read")
    fitting = [each for each in addresses if all(each.tags.get(key) == value for key, value in tags.items())]
    free = sorted((each for each in fitting if not each.associated), key=lambda each: (each.address, each.id))
    if not free:
        told = f"all {len(fitting)} Elastic IPs with" if fitting else "no Elastic IP has"
        more = "are associated with others" if fitting else "in this account and region"
        return ElasticChoice(reason=Reason.NO_ELASTIC_IP, message=f"{told} the tags {wanted} {more}")
    chosen = free[0]
    action = AssociateElasticIP(first.id, chosen.id, chosen.address, f"it has the tags {wanted}")
    return ElasticChoice(action=action, reason=Reason.FILLING, message=f"{chosen.address} is being associated")
