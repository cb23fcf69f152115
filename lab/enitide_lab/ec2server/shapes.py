"""The model's views in boto3's form, as EC2's Describe calls answer them.

Only facts are translated here; which objects a reply holds is decided by the verbs. What moto alone knows of an
instance (key, volumes, profile) comes in as `extras`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from enitide_lab.ec2model.instances import STATE_CODES
from enitide_lab.ec2model.state import World
from enitide_lab.ec2model.types import CidrReservation, Instance, NetworkInterface, Subnet, Tags

Association = Mapping[str, Any]


class Shapes:
    """Translates for one world. `to_epoch_s` turns the model's clock into seconds since 1970."""

    def __init__(
        self,
        world: World,
        to_epoch_s: Callable[[float], float],
        association: Callable[[str, str, str], Association | None],
    ) -> None:
        """`association(interface_id, private_address, primary)`: the Elastic IP on that address, if any."""
        self._world = world
        self._epoch = to_epoch_s
        self._association = association

    def interface(self, view: NetworkInterface) -> dict[str, Any]:
        """A NetworkInterface of DescribeNetworkInterfaces."""
        shape = self._common(view)
        shape |= {
            "AvailabilityZone": view.zone,
            "InterfaceType": view.interface_type,
            "RequesterManaged": view.requester_managed,
            "TagSet": tags(view.tags),
        }
        if view.attachment is not None:
            shape["Attachment"] = self._attachment(view) | {
                "InstanceId": view.attachment.instance_id,
                "InstanceOwnerId": self._world.owner,
            }
        return shape

    def instance_interface(self, view: NetworkInterface) -> dict[str, Any]:
        """The same ENI as DescribeInstances shows it."""
        return self._common(view) | {"InterfaceType": view.interface_type, "Attachment": self._attachment(view)}

    def _common(self, view: NetworkInterface) -> dict[str, Any]:
        shape: dict[str, Any] = {
            "NetworkInterfaceId": view.id,
            "SubnetId": view.subnet_id,
            "VpcId": view.vpc_id,
            "Description": view.description,
            "OwnerId": self._world.owner,
            "Status": view.status,
            "MacAddress": view.mac,
            "SourceDestCheck": view.source_dest_check,
            "Groups": self.groups(view.groups),
            "PrivateIpAddresses": [self._address(view, address) for address in view.addresses],
            "Ipv6Addresses": [{"Ipv6Address": address} for address in view.ipv6_addresses],
        }
        if view.primary is not None:
            shape["PrivateIpAddress"] = view.primary
            shape["PrivateDnsName"] = self._dns(view.primary)
            shape["Association"] = self._association(view.id, view.primary, view.primary)
        if view.prefixes:
            shape["Ipv4Prefixes"] = [{"Ipv4Prefix": prefix} for prefix in view.prefixes]
        if view.ipv6_prefixes:
            shape["Ipv6Prefixes"] = [{"Ipv6Prefix": prefix} for prefix in view.ipv6_prefixes]
        return shape

    def _address(self, view: NetworkInterface, address: str) -> dict[str, Any]:
        shape = {"PrivateIpAddress": address, "Primary": address == view.primary, "PrivateDnsName": self._dns(address)}
        if (association := self._association(view.id, address, view.primary or "")) is not None:
            shape["Association"] = association
        return shape

    def _attachment(self, view: NetworkInterface) -> dict[str, Any]:
        attachment = view.attachment
        if attachment is None:
            return {}
        return {
            "AttachmentId": attachment.id,
            "DeviceIndex": attachment.index,
            "NetworkCardIndex": attachment.card,
            "Status": attachment.status,
            "AttachTime": self._epoch(attachment.attach_time_s),
            "DeleteOnTermination": attachment.delete_on_termination,
        }

    def groups(self, group_ids: Sequence[str]) -> list[dict[str, str]]:
        """Group identifiers with their names."""
        known = self._world.groups
        return [{"GroupId": i, "GroupName": known[i].name if i in known else i} for i in group_ids]

    def _dns(self, address: str) -> str:
        zone = "ec2.internal" if self._world.region == "us-east-1" else f"{self._world.region}.compute.internal"
        return f"ip-{address.replace('.', '-')}.{zone}"

    def instance(self, view: Instance, extras: Mapping[str, Any]) -> dict[str, Any]:
        """An Instance of DescribeInstances."""
        shape: dict[str, Any] = {
            "InstanceId": view.id,
            "ImageId": view.image_id,
            "State": {"Code": STATE_CODES[view.state], "Name": view.state},
            "InstanceType": view.type,
            "LaunchTime": self._epoch(view.launch_time_s),
            "Placement": {"AvailabilityZone": view.zone, "Tenancy": "default", "GroupName": ""},
            "Monitoring": {"State": "disabled"},
            "AmiLaunchIndex": 0,
            "Architecture": self._architecture(view.type),
            "RootDeviceType": "ebs",
            "VirtualizationType": "hvm",
            "Hypervisor": "xen" if self._world.type_document(view.type).get("Hypervisor") == "xen" else "nitro",
            "EbsOptimized": False,
            "EnaSupport": True,
            "StateTransitionReason": "",
            "Tags": tags(view.tags),
        }
        if view.state != "terminated":
            shape |= {"SubnetId": view.subnet_id, "VpcId": view.vpc_id}
            shape["NetworkInterfaces"] = [self.instance_interface(interface) for interface in view.interfaces]
        if view.interfaces and (first := view.interfaces[0]).primary is not None:
            shape |= {
                "PrivateIpAddress": first.primary,
                "PrivateDnsName": self._dns(first.primary or ""),
                "SourceDestCheck": first.source_dest_check,
                "SecurityGroups": self.groups(first.groups),
            }
            association = self._association(first.id, first.primary or "", first.primary or "")
            if association is not None:
                shape |= {"PublicIpAddress": association["PublicIp"], "PublicDnsName": association["PublicDnsName"]}
        return shape | dict(extras)

    def _architecture(self, type_name: str) -> str:
        names = self._world.type_document(type_name).get("ProcessorInfo", {}).get("SupportedArchitectures", ["x86_64"])
        return "arm64" if "arm64" in names else "x86_64"

    def subnet(self, view: Subnet) -> dict[str, Any]:
        """A Subnet of DescribeSubnets."""
        owner, region = self._world.owner, self._world.region
        return {
            "SubnetId": view.id,
            "SubnetArn": f"arn:aws:ec2:{region}:{owner}:subnet/{view.id}",
            "State": "available",
            "VpcId": view.vpc_id,
            "CidrBlock": view.cidr,
            "AvailableIpAddressCount": max(0, view.free),
            "AvailabilityZone": view.zone,
            "AvailabilityZoneId": view.zone_id,
            "DefaultForAz": view.default_for_zone,
            "MapPublicIpOnLaunch": view.map_public_ip,
            "MapCustomerOwnedIpOnLaunch": False,
            "AssignIpv6AddressOnCreation": view.assign_ipv6,
            "EnableDns64": False,
            "Ipv6Native": False,
            "OwnerId": owner,
            "Ipv6CidrBlockAssociationSet": [
                {
                    "AssociationId": view.ipv6_association_id,
                    "Ipv6CidrBlock": view.ipv6_cidr,
                    "Ipv6CidrBlockState": {"State": "associated"},
                }
            ]
            if view.ipv6_cidr
            else [],
            "PrivateDnsNameOptionsOnLaunch": {
                "HostnameType": "ip-name",
                "EnableResourceNameDnsARecord": False,
                "EnableResourceNameDnsAAAARecord": False,
            },
            "Tags": tags(view.tags),
        }

    def reservation(self, view: CidrReservation) -> dict[str, Any]:
        """A SubnetCidrReservation."""
        return {
            "SubnetCidrReservationId": view.id,
            "SubnetId": view.subnet_id,
            "Cidr": str(ipaddress.ip_network(view.cidr)),
            "ReservationType": view.kind,
            "OwnerId": self._world.owner,
            "Description": view.description,
            "Tags": tags(self._world.tags.get(view.id, {})),
        }


def tags(mapping: Tags) -> list[dict[str, str]]:
    """Tags in boto3's form."""
    return [{"Key": key, "Value": value} for key, value in mapping.items()]
