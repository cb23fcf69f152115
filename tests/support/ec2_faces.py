"""The strict EC2 behind one small interface, twice: as the model's Python methods and over the wire through boto3.

Contract tests are written against `Face` and run on both. The wire face turns replies into the model's own views and
errors into `ModelError`, so that one assertion serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import pytest
from botocore.exceptions import ClientError

from enitide_lab.ec2model import EC2Model, ModelError
from enitide_lab.ec2model.types import Assigned, Attachment, NetworkInterface, Page, Subnet
from support.ec2 import OTHER_ZONE, TYPES, ZONE, Endpoint, Ground, build_ground, run_instance


@pytest.fixture(params=["model", "wire"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    """Each face in turn, on a new ground."""
    if request.param == "model":
        yield ModelFace(EC2Model(lambda: 0.0, instance_types=TYPES))
        return
    endpoint: Endpoint = request.getfixturevalue("ec2_endpoint")
    client = endpoint.client(parameter_validation=False)  # EC2's own refusals are the subject, not botocore's
    yield WireFace(client, build_ground(client))
    client.close()


@contextmanager
def refused(code: str, status: int = 400) -> Iterator[None]:
    """The block is refused with EC2's `code` and HTTP `status`."""
    with pytest.raises(ModelError) as caught:
        yield
    assert (caught.value.code, caught.value.http_status) == (code, status)


@pytest.fixture
def spare(face: Face) -> Callable[[], str]:
    """A maker of detached ENIs in the roomy subnet."""
    return lambda: face.create(face.ground.subnet, groups=[face.ground.group]).id


class Face(Protocol):
    """What the contract tests use; names and meanings are those of `EC2Model`."""

    ground: Ground

    def create(self, subnet: str, **asked: Any) -> NetworkInterface: ...
    def attach(self, interface: str, instance: str, index: int, card: int = 0) -> str: ...
    def detach(self, attachment: str) -> None: ...
    def delete(self, interface: str, *, dry: bool = False) -> None: ...
    def modify(self, interface: str, **asked: Any) -> None: ...
    def assign(self, interface: str, **asked: Any) -> Assigned: ...
    def unassign(self, interface: str, **asked: Any) -> None: ...
    def assign_ipv6(self, interface: str, **asked: Any) -> Assigned: ...
    def unassign_ipv6(self, interface: str, **asked: Any) -> None: ...
    def describe(
        self, *ids: str, filters: dict[str, list[str]] | None = None, **page: Any
    ) -> Page[NetworkInterface]: ...
    def subnet(self, subnet: str) -> tuple[int, str]: ...
    def run(self, subnet: str, instance_type: str = "m5.large") -> str: ...
    def terminate(self, instance: str) -> None: ...
    def reserve(self, subnet: str, cidr: str, kind: str) -> None: ...
    def tag(self, resource: str, tags: dict[str, str]) -> None: ...


class ModelFace:
    """The model alone."""

    def __init__(self, model: EC2Model) -> None:
        self.model = model
        vpc = model.create_vpc(["10.0.0.0/16"], ipv6_cidrs=["2600:1f13::/56"]).id
        roomy = model.create_subnet(vpc, "10.0.0.0/24", ZONE, ipv6_cidr="2600:1f13::/64").id
        tiny = model.create_subnet(vpc, "10.0.1.0/28", ZONE).id
        other = model.create_subnet(vpc, "10.0.2.0/24", OTHER_ZONE).id
        group = model.create_security_group(vpc, "nodes").id
        instance = model.run_instances("m5.large", roomy, groups=[group])[0].id
        self.ground = Ground(vpc, roomy, tiny, other, group, instance)
        self.create = model.create_network_interface
        self.detach = model.detach_network_interface
        self.delete = model.delete_network_interface
        self.modify = model.modify_network_interface_attribute
        self.assign = model.assign_private_ip_addresses
        self.unassign = model.unassign_private_ip_addresses
        self.assign_ipv6 = model.assign_ipv6_addresses
        self.unassign_ipv6 = model.unassign_ipv6_addresses

    def attach(self, interface: str, instance: str, index: int, card: int = 0) -> str:
        return self.model.attach_network_interface(interface, instance, index, card=card).id

    def describe(self, *ids: str, filters: dict[str, list[str]] | None = None, **page: Any) -> Page[NetworkInterface]:
        return self.model.describe_network_interfaces(ids, filters, **page)

    def subnet(self, subnet: str) -> tuple[int, str]:
        found: Subnet = self.model.describe_subnets([subnet]).items[0]
        return found.free, found.zone

    def run(self, subnet: str, instance_type: str = "m5.large") -> str:
        return self.model.run_instances(instance_type, subnet, groups=[self.ground.group])[0].id

    def terminate(self, instance: str) -> None:
        self.model.terminate_instances([instance])

    def reserve(self, subnet: str, cidr: str, kind: str) -> None:
        self.model.create_subnet_cidr_reservation(subnet, cidr, kind)

    def tag(self, resource: str, tags: dict[str, str]) -> None:
        self.model.create_tags([resource], tags)


_CREATE = {
    "groups": "Groups",
    "description": "Description",
    "address": "PrivateIpAddress",
    "secondary_count": "SecondaryPrivateIpAddressCount",
    "prefix_count": "Ipv4PrefixCount",
    "ipv6_count": "Ipv6AddressCount",
    "ipv6_prefix_count": "Ipv6PrefixCount",
    "interface_type": "InterfaceType",
    "client_token": "ClientToken",
    "dry": "DryRun",
}
_ASSIGN = {
    "count": "SecondaryPrivateIpAddressCount",
    "addresses": "PrivateIpAddresses",
    "prefix_count": "Ipv4PrefixCount",
    "prefixes": "Ipv4Prefixes",
    "allow_reassignment": "AllowReassignment",
}
_ASSIGN6 = {
    "count": "Ipv6AddressCount",
    "addresses": "Ipv6Addresses",
    "prefix_count": "Ipv6PrefixCount",
    "prefixes": "Ipv6Prefixes",
}


class WireFace:
    """The same through boto3 and the server."""

    def __init__(self, client: Any, ground: Ground) -> None:
        self.client = client
        self.ground = ground

    def _call(self, verb: str, **params: Any) -> Any:
        try:
            return getattr(self.client, verb)(**params)
        except ClientError as exc:
            status = exc.response["ResponseMetadata"]["HTTPStatusCode"]
            raise ModelError(exc.response["Error"]["Code"], exc.response["Error"]["Message"], status) from exc

    def create(self, subnet: str, **asked: Any) -> NetworkInterface:
        params = {_CREATE[name]: value for name, value in asked.items() if name in _CREATE}
        if "addresses" in asked:
            params["PrivateIpAddresses"] = [{"PrivateIpAddress": a} for a in asked["addresses"]]
        if "prefixes" in asked:
            params["Ipv4Prefixes"] = [{"Ipv4Prefix": prefix} for prefix in asked["prefixes"]]
        if "tags" in asked:
            pairs = [{"Key": key, "Value": value} for key, value in asked["tags"].items()]
            params["TagSpecifications"] = [{"ResourceType": "network-interface", "Tags": pairs}]
        return view(self._call("create_network_interface", SubnetId=subnet, **params)["NetworkInterface"])

    def attach(self, interface: str, instance: str, index: int, card: int = 0) -> str:
        return self._call(
            "attach_network_interface",
            NetworkInterfaceId=interface,
            InstanceId=instance,
            DeviceIndex=index,
            NetworkCardIndex=card,
        )["AttachmentId"]

    def detach(self, attachment: str) -> None:
        self._call("detach_network_interface", AttachmentId=attachment)

    def delete(self, interface: str, *, dry: bool = False) -> None:
        self._call("delete_network_interface", NetworkInterfaceId=interface, DryRun=dry)

    def modify(self, interface: str, **asked: Any) -> None:
        params: dict[str, Any] = {}
        if "groups" in asked:
            params["Groups"] = asked["groups"]
        if "description" in asked:
            params["Description"] = {"Value": asked["description"]}
        if "source_dest_check" in asked:
            params["SourceDestCheck"] = {"Value": asked["source_dest_check"]}
        if "delete_on_termination" in asked:
            params["Attachment"] = {
                "AttachmentId": asked["attachment_id"],
                "DeleteOnTermination": asked["delete_on_termination"],
            }
        self._call("modify_network_interface_attribute", NetworkInterfaceId=interface, **params)

    def assign(self, interface: str, **asked: Any) -> Assigned:
        params = {_ASSIGN[name]: value for name, value in asked.items()}
        reply = self._call("assign_private_ip_addresses", NetworkInterfaceId=interface, **params)
        return Assigned(
            reply["NetworkInterfaceId"],
            tuple(entry["PrivateIpAddress"] for entry in reply["AssignedPrivateIpAddresses"]),
            tuple(entry["Ipv4Prefix"] for entry in reply["AssignedIpv4Prefixes"]),
        )

    def unassign(self, interface: str, **asked: Any) -> None:
        params = {_ASSIGN[name]: value for name, value in asked.items()}
        self._call("unassign_private_ip_addresses", NetworkInterfaceId=interface, **params)

    def assign_ipv6(self, interface: str, **asked: Any) -> Assigned:
        params = {_ASSIGN6[name]: value for name, value in asked.items()}
        reply = self._call("assign_ipv6_addresses", NetworkInterfaceId=interface, **params)
        return Assigned(interface, tuple(reply["AssignedIpv6Addresses"]), tuple(reply["AssignedIpv6Prefixes"]))

    def unassign_ipv6(self, interface: str, **asked: Any) -> None:
        params = {_ASSIGN6[name]: value for name, value in asked.items()}
        self._call("unassign_ipv6_addresses", NetworkInterfaceId=interface, **params)

    def describe(self, *ids: str, filters: dict[str, list[str]] | None = None, **page: Any) -> Page[NetworkInterface]:
        params: dict[str, Any] = {"NetworkInterfaceIds": list(ids)} if ids else {}
        if filters:
            params["Filters"] = [{"Name": name, "Values": values} for name, values in filters.items()]
        if page.get("max_results") is not None:
            params["MaxResults"] = page["max_results"]
        if page.get("next_token") is not None:
            params["NextToken"] = page["next_token"]
        reply = self._call("describe_network_interfaces", **params)
        return Page(tuple(map(view, reply["NetworkInterfaces"])), reply.get("NextToken"))

    def subnet(self, subnet: str) -> tuple[int, str]:
        found = self._call("describe_subnets", SubnetIds=[subnet])["Subnets"][0]
        return found["AvailableIpAddressCount"], found["AvailabilityZone"]

    def run(self, subnet: str, instance_type: str = "m5.large") -> str:
        try:
            return run_instance(self.client, subnet, self.ground.group, instance_type)
        except ClientError as exc:
            raise ModelError(exc.response["Error"]["Code"], exc.response["Error"]["Message"]) from exc

    def terminate(self, instance: str) -> None:
        self._call("terminate_instances", InstanceIds=[instance])

    def reserve(self, subnet: str, cidr: str, kind: str) -> None:
        self._call("create_subnet_cidr_reservation", SubnetId=subnet, Cidr=cidr, ReservationType=kind)

    def tag(self, resource: str, tags: dict[str, str]) -> None:
        self._call("create_tags", Resources=[resource], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])


def view(shape: dict[str, Any]) -> NetworkInterface:
    """boto3's NetworkInterface as the model's view."""
    attachment = shape.get("Attachment")
    addresses = shape["PrivateIpAddresses"]
    assert [entry["Primary"] for entry in addresses] == [True] + [False] * (len(addresses) - 1)
    return NetworkInterface(
        id=shape["NetworkInterfaceId"],
        subnet_id=shape["SubnetId"],
        vpc_id=shape["VpcId"],
        zone=shape["AvailabilityZone"],
        description=shape["Description"],
        mac=shape["MacAddress"],
        groups=tuple(group["GroupId"] for group in shape["Groups"]),
        status=shape["Status"],
        interface_type=shape["InterfaceType"],
        source_dest_check=shape["SourceDestCheck"],
        addresses=tuple(entry["PrivateIpAddress"] for entry in addresses),
        prefixes=tuple(entry["Ipv4Prefix"] for entry in shape.get("Ipv4Prefixes", [])),
        ipv6_addresses=tuple(entry["Ipv6Address"] for entry in shape["Ipv6Addresses"]),
        ipv6_prefixes=tuple(entry["Ipv6Prefix"] for entry in shape.get("Ipv6Prefixes", [])),
        attachment=None
        if attachment is None
        else Attachment(
            id=attachment["AttachmentId"],
            instance_id=attachment["InstanceId"],
            card=attachment["NetworkCardIndex"],
            index=attachment["DeviceIndex"],
            status=attachment["Status"],
            delete_on_termination=attachment["DeleteOnTermination"],
            attach_time_s=attachment["AttachTime"].timestamp(),
        ),
        requester_managed=shape["RequesterManaged"],
        tags={tag["Key"]: tag["Value"] for tag in shape["TagSet"]},
    )
