"""From the SDK's reply documents to frozen views. Pure; a reply that lacks what EC2 always sends is a `KeyError`.

The gateway's wire turns that `KeyError` into `EC2Ambiguous`: a garbage reply to a mutation proves nothing either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from enitide_ipam.blocks import CidrReservation
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import Attachment, ElasticView, EniView, GroupView, RouteTableView, SubnetView
from enitide_operator.ec2.port import InstanceView, VpcView

Document = Mapping[str, Any]


def tags(items: Iterable[Document] | None) -> dict[str, str]:
    """EC2's list of Key and Value as a mapping."""
    return {item["Key"]: item.get("Value", "") for item in items or ()}


def interface(doc: Document) -> EniView:
    """A `NetworkInterface`. The own address is split from the secondaries by its flag, not by its place."""
    attachment: Document = doc.get("Attachment") or {}
    private = doc.get("PrivateIpAddresses") or ()
    return EniView(
        id=doc["NetworkInterfaceId"],
        subnet_id=doc["SubnetId"],
        mac=doc.get("MacAddress", ""),
        primary=next((p["PrivateIpAddress"] for p in private if p.get("Primary")), ""),
        card=attachment.get("NetworkCardIndex", 0),
        index=attachment.get("DeviceIndex", 0),
        addresses=tuple(p["PrivateIpAddress"] for p in private if not p.get("Primary")),
        prefixes=tuple(p["Ipv4Prefix"] for p in doc.get("Ipv4Prefixes") or ()),
        ipv6_prefixes=tuple(p["Ipv6Prefix"] for p in doc.get("Ipv6Prefixes") or ()),
        groups=tuple(g["GroupId"] for g in doc.get("Groups") or ()),
        tags=tags(doc.get("TagSet")),
        instance_id=attachment.get("InstanceId", ""),
        attachment_id=attachment.get("AttachmentId", ""),
        attachment=Attachment(attachment.get("Status") or Attachment.DETACHED),
        delete_on_termination=bool(attachment.get("DeleteOnTermination")),
        elastic_ip=_own_elastic_ip(private),
    )


def instance(doc: Document) -> InstanceView:
    """One entry of a reservation."""
    return InstanceView(doc["InstanceId"], doc["State"]["Name"])


def subnet(doc: Document) -> SubnetView:
    """A `Subnet`; its route table is not in this document."""
    blocks = doc.get("Ipv6CidrBlockAssociationSet") or ()
    associated = [b["Ipv6CidrBlock"] for b in blocks if _state(b, "Ipv6CidrBlockState") == "associated"]
    return SubnetView(
        id=doc["SubnetId"],
        vpc_id=doc["VpcId"],
        zone=doc["AvailabilityZone"],
        cidr=doc["CidrBlock"],
        free=doc["AvailableIpAddressCount"],
        ipv6_cidr=associated[0] if associated else "",
        tags=tags(doc.get("Tags")),
    )


def _state(block: Document, key: str) -> str:
    state = block.get(key) or {}
    return str(state.get("State", ""))


def group(doc: Document) -> GroupView:
    """A `SecurityGroup`."""
    return GroupView(doc["GroupId"], doc["VpcId"], tags(doc.get("Tags")))


def reservation(doc: Document) -> CidrReservation:
    """A `SubnetCidrReservation`."""
    return CidrReservation(doc["SubnetCidrReservationId"], doc["Cidr"], doc["ReservationType"])


def elastic_ip(doc: Document) -> ElasticView:
    """An `Address`; one of the old EC2-Classic kind has no allocation and cannot be on an ENI."""
    return ElasticView(doc["AllocationId"], doc["PublicIp"], bool(doc.get("AssociationId")), tags(doc.get("Tags")))


def _own_elastic_ip(private: Iterable[Document]) -> str:
    """The Elastic IP on an ENI's own address; a public address that EC2 lends has no allocation and is none."""
    association = next((p.get("Association") or {} for p in private if p.get("Primary")), {})
    return str(association.get("PublicIp", "")) if association.get("AllocationId") else ""


def route_table(doc: Document) -> RouteTableView:
    """A `RouteTable`."""
    associations = doc.get("Associations") or ()
    return RouteTableView(
        id=doc["RouteTableId"],
        vpc_id=doc["VpcId"],
        main=any(a.get("Main") for a in associations),
        subnet_ids=tuple(a["SubnetId"] for a in associations if a.get("SubnetId")),
    )


def vpc(doc: Document) -> VpcView:
    """A `Vpc`: associated CIDRs, the first one first."""
    blocks = doc.get("CidrBlockAssociationSet") or ()
    found = [b["CidrBlock"] for b in blocks if _state(b, "CidrBlockState") == "associated"]
    ipv6_blocks = doc.get("Ipv6CidrBlockAssociationSet") or ()
    ipv6 = [b["Ipv6CidrBlock"] for b in ipv6_blocks if _state(b, "Ipv6CidrBlockState") == "associated"]
    cidrs = dict.fromkeys([doc["CidrBlock"], *found])
    return VpcView(doc["VpcId"], tuple(cidrs), tuple(ipv6))


def limits(doc: Document) -> InstanceLimits:
    """An `InstanceType`: what its network cards and interfaces may hold."""
    network = doc["NetworkInfo"]
    cards = sorted(network.get("NetworkCards") or (), key=lambda card: card["NetworkCardIndex"])
    per_card = tuple(card["MaximumNetworkInterfaces"] for card in cards) or (network["MaximumNetworkInterfaces"],)
    hypervisor = doc.get("Hypervisor", "")
    return InstanceLimits(
        type=doc["InstanceType"],
        cards=per_card,
        ipv4_per_interface=network["Ipv4AddressesPerInterface"],
        ipv6_per_interface=network.get("Ipv6AddressesPerInterface", 0),
        hypervisor=hypervisor,
        prefixes=hypervisor != "xen",
    )
