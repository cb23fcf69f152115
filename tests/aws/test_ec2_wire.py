"""The server around the model: real clients, moto's world beside it, paging, faults, the lab's paths."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aioboto3
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from support.ec2 import OTHER_ZONE, REGION, ZONE, Endpoint, Ground, interfaces_of

pytestmark = pytest.mark.aws


@pytest.fixture
def client(ec2_endpoint: Endpoint) -> Iterator[Any]:
    made = ec2_endpoint.client()
    yield made
    made.close()


# --- every verb the operator uses, with both clients ---


async def test_an_operators_whole_saga_over_aioboto3(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    ground = ec2_ground
    config = Config(retries={"total_max_attempts": 1})
    session = aioboto3.Session()
    async with session.client("ec2", endpoint_url=ec2_endpoint.url, region_name=REGION, config=config) as ec2:
        made = await asyncio.gather(
            *(
                ec2.create_network_interface(
                    SubnetId=ground.subnet,
                    Groups=[ground.group],
                    SecondaryPrivateIpAddressCount=3,
                    Ipv6PrefixCount=1,
                    ClientToken=f"saga-{index}",
                    TagSpecifications=[
                        {"ResourceType": "network-interface", "Tags": [{"Key": "cluster", "Value": "demo"}]}
                    ],
                )
                for index in (1, 2)
            )
        )
        ids = [reply["NetworkInterface"]["NetworkInterfaceId"] for reply in made]
        for index, interface in enumerate(ids, 1):
            attached = await ec2.attach_network_interface(
                NetworkInterfaceId=interface, InstanceId=ground.instance, DeviceIndex=index
            )
            await ec2.modify_network_interface_attribute(
                NetworkInterfaceId=interface,
                Attachment={"AttachmentId": attached["AttachmentId"], "DeleteOnTermination": True},
            )
        added = await ec2.assign_private_ip_addresses(NetworkInterfaceId=ids[0], Ipv4PrefixCount=2)
        prefixes = [entry["Ipv4Prefix"] for entry in added["AssignedIpv4Prefixes"]]
        await ec2.unassign_private_ip_addresses(NetworkInterfaceId=ids[0], Ipv4Prefixes=prefixes[:1])
        more = await ec2.assign_ipv6_addresses(NetworkInterfaceId=ids[1], Ipv6PrefixCount=1)
        await ec2.unassign_ipv6_addresses(NetworkInterfaceId=ids[1], Ipv6Prefixes=more["AssignedIpv6Prefixes"])
        paginator = ec2.get_paginator("describe_network_interfaces")
        filters = [{"Name": "attachment.instance-id", "Values": [ground.instance]}]
        found = [n async for page in paginator.paginate(Filters=filters) for n in page["NetworkInterfaces"]]
        assert sorted(n["Attachment"]["DeviceIndex"] for n in found) == [0, 1, 2]
        assert all(n["Attachment"]["DeleteOnTermination"] for n in found)
        first = next(n for n in found if n["NetworkInterfaceId"] == ids[0])
        assert [entry["Ipv4Prefix"] for entry in first["Ipv4Prefixes"]] == prefixes[1:]
        assert len(first["Ipv6Prefixes"]) == 1
        await ec2.detach_network_interface(AttachmentId=first["Attachment"]["AttachmentId"])
        await ec2.delete_network_interface(NetworkInterfaceId=ids[0])
        with pytest.raises(ClientError) as caught:
            await ec2.describe_network_interfaces(NetworkInterfaceIds=[ids[0]])
        assert caught.value.response["Error"]["Code"] == "InvalidNetworkInterfaceID.NotFound"


def test_describe_subnets_tells_what_is_left_and_pages(client: Any, ec2_ground: Ground) -> None:
    client.create_network_interface(SubnetId=ec2_ground.tiny, SecondaryPrivateIpAddressCount=4)
    filters = [{"Name": "vpc-id", "Values": [ec2_ground.vpc]}]
    subnets = {s["SubnetId"]: s for s in client.describe_subnets(Filters=filters)["Subnets"]}
    assert len(subnets) == 3
    assert subnets[ec2_ground.tiny]["AvailableIpAddressCount"] == 6
    assert subnets[ec2_ground.subnet]["AvailableIpAddressCount"] == 250  # the instance has one
    assert (subnets[ec2_ground.tiny]["AvailabilityZone"], subnets[ec2_ground.other]["AvailabilityZone"]) == (
        ZONE,
        OTHER_ZONE,
    )
    (association,) = subnets[ec2_ground.subnet]["Ipv6CidrBlockAssociationSet"]
    assert association["Ipv6CidrBlockState"] == {"State": "associated"}
    for block in range(4, 10):
        client.create_subnet(VpcId=ec2_ground.vpc, CidrBlock=f"10.0.{block}.0/24", AvailabilityZone=ZONE)
    pages = client.get_paginator("describe_subnets").paginate(Filters=filters, PaginationConfig={"PageSize": 5})
    assert [len(page["Subnets"]) for page in pages] == [5, 4]


def test_moto_listings_are_cut_into_pages(client: Any, ec2_ground: Ground) -> None:
    for number in range(7):
        client.create_security_group(GroupName=f"g{number}", Description="d", VpcId=ec2_ground.vpc)
        client.create_route_table(VpcId=ec2_ground.vpc)
    filters = [{"Name": "vpc-id", "Values": [ec2_ground.vpc]}]
    for verb, member, key, total in (
        ("describe_security_groups", "SecurityGroups", "GroupId", 9),
        ("describe_route_tables", "RouteTables", "RouteTableId", 8),
    ):
        pages = list(client.get_paginator(verb).paginate(Filters=filters, PaginationConfig={"PageSize": 5}))
        assert [len(page[member]) for page in pages] == [5, total - 5]
        assert len({item[key] for page in pages for item in page[member]}) == total
    assert client.describe_vpcs(VpcIds=[ec2_ground.vpc])["Vpcs"][0]["CidrBlock"] == "10.0.0.0/16"


def test_the_main_route_table_stands_for_subnets_without_their_own(client: Any, ec2_ground: Ground) -> None:
    own = client.create_route_table(VpcId=ec2_ground.vpc)["RouteTable"]["RouteTableId"]
    client.associate_route_table(RouteTableId=own, SubnetId=ec2_ground.other)
    filters = [{"Name": "vpc-id", "Values": [ec2_ground.vpc]}]
    tables = {t["RouteTableId"]: t for t in client.describe_route_tables(Filters=filters)["RouteTables"]}
    assert [a["SubnetId"] for a in tables.pop(own)["Associations"]] == [ec2_ground.other]
    ((main,),) = [table["Associations"] for table in tables.values()]
    assert main["Main"]


def test_instance_types_are_answered_by_name_with_their_limits_and_paged_otherwise(
    client: Any, ec2_endpoint: Endpoint
) -> None:
    (found,) = client.describe_instance_types(InstanceTypes=["two-cards.test"])["InstanceTypes"]
    assert [card["MaximumNetworkInterfaces"] for card in found["NetworkInfo"]["NetworkCards"]] == [2, 3]
    (large,) = client.describe_instance_types(InstanceTypes=["m5.large"])["InstanceTypes"]
    assert large["NetworkInfo"]["Ipv4AddressesPerInterface"] == 10
    first = client.describe_instance_types()
    assert len(first["InstanceTypes"]) == 100
    assert first["NextToken"]
    with pytest.raises(ClientError) as caught:
        client.describe_instance_types(InstanceTypes=["m5.large", "no.such"])
    assert caught.value.response["Error"]["Code"] == "InvalidInstanceType"


def test_describe_instances_counts_instances_per_page_and_knows_interface_filters(
    client: Any, ec2_ground: Ground
) -> None:
    reply = client.run_instances(
        ImageId="ami-12345678", InstanceType="m5.large", MinCount=7, MaxCount=7, SubnetId=ec2_ground.other
    )
    assert len(reply["Instances"]) == 7
    pages = list(client.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    counts = [sum(len(reservation["Instances"]) for reservation in page["Reservations"]) for page in pages]
    assert counts == [5, 3]
    mine = reply["Instances"][0]["NetworkInterfaces"][0]["NetworkInterfaceId"]
    filters = [{"Name": "network-interface.network-interface-id", "Values": [mine]}]
    (found,) = client.describe_instances(Filters=filters)["Reservations"]
    assert found["Instances"][0]["InstanceId"] == reply["Instances"][0]["InstanceId"]
    assert found["Instances"][0]["PrivateIpAddress"] == reply["Instances"][0]["PrivateIpAddress"]


def test_run_instances_applies_what_its_interfaces_ask_for_or_launches_none(client: Any, ec2_ground: Ground) -> None:
    def run(count: int, secondaries: int) -> Any:
        return client.run_instances(
            ImageId="ami-12345678",
            InstanceType="m5.large",
            MinCount=count,
            MaxCount=count,
            NetworkInterfaces=[
                {
                    "DeviceIndex": 0,
                    "SubnetId": ec2_ground.tiny,
                    "Groups": [ec2_ground.group],
                    "SecondaryPrivateIpAddressCount": secondaries,
                    "DeleteOnTermination": True,
                }
            ],
        )

    with pytest.raises(ClientError) as caught:
        run(3, 3)
    assert caught.value.response["Error"]["Code"] == "InsufficientFreeAddressesInSubnet"
    (interface,) = run(1, 9)["Instances"][0]["NetworkInterfaces"]
    assert len(interface["PrivateIpAddresses"]) == 10
    assert client.describe_subnets(SubnetIds=[ec2_ground.tiny])["Subnets"][0]["AvailableIpAddressCount"] == 1
    everything = client.describe_instances()["Reservations"]
    assert sum(len(reservation["Instances"]) for reservation in everything) == 2


def test_cidr_reservations_come_back_and_lower_the_free_count(client: Any, ec2_ground: Ground) -> None:
    made = client.create_subnet_cidr_reservation(
        SubnetId=ec2_ground.other, Cidr="10.0.2.64/27", ReservationType="prefix"
    )
    name = made["SubnetCidrReservation"]["SubnetCidrReservationId"]
    found = client.get_subnet_cidr_reservations(SubnetId=ec2_ground.other)["SubnetIpv4CidrReservations"]
    assert [(r["SubnetCidrReservationId"], r["Cidr"], r["ReservationType"]) for r in found] == [
        (name, "10.0.2.64/27", "prefix")
    ]

    def free() -> int:
        return client.describe_subnets(SubnetIds=[ec2_ground.other])["Subnets"][0]["AvailableIpAddressCount"]

    assert free() == 251 - 32
    client.delete_subnet_cidr_reservation(SubnetCidrReservationId=name)
    assert free() == 251
    assert client.get_subnet_cidr_reservations(SubnetId=ec2_ground.other)["SubnetIpv4CidrReservations"] == []


def test_tags_are_one_thing_for_model_and_moto(client: Any, ec2_ground: Ground, ec2_endpoint: Endpoint) -> None:
    made = client.create_network_interface(SubnetId=ec2_ground.subnet)["NetworkInterface"]["NetworkInterfaceId"]
    client.create_tags(Resources=[made, ec2_ground.subnet, ec2_ground.group], Tags=[{"Key": "team", "Value": "net"}])
    filters = [{"Name": "tag:team", "Values": ["net"]}]
    assert [
        n["NetworkInterfaceId"] for n in client.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
    ] == [made]
    assert [s["SubnetId"] for s in client.describe_subnets(Filters=filters)["Subnets"]] == [ec2_ground.subnet]
    assert [g["GroupId"] for g in client.describe_security_groups(Filters=filters)["SecurityGroups"]] == [
        ec2_ground.group
    ]
    listed = client.describe_tags(Filters=[{"Name": "key", "Values": ["team"]}])["Tags"]
    assert {tag["ResourceId"] for tag in listed} == {made, ec2_ground.subnet, ec2_ground.group}
    client.delete_tags(Resources=[made], Tags=[{"Key": "team"}])
    assert client.describe_network_interfaces(Filters=filters)["NetworkInterfaces"] == []


def test_the_attributes_of_an_interface_are_told_one_by_one_and_reset(client: Any, ec2_ground: Ground) -> None:
    (interface,) = interfaces_of(client, ec2_ground.instance)
    name = {"NetworkInterfaceId": interface["NetworkInterfaceId"]}
    client.modify_network_interface_attribute(**name, SourceDestCheck={"Value": False})

    def told(attribute: str) -> dict[str, Any]:
        return client.describe_network_interface_attribute(**name, Attribute=attribute)

    assert told("sourceDestCheck")["SourceDestCheck"] == {"Value": False}
    assert told("attachment")["Attachment"]["DeviceIndex"] == 0
    assert told("groupSet")["Groups"] == [{"GroupId": ec2_ground.group, "GroupName": "nodes"}]
    client.reset_network_interface_attribute(**name, SourceDestCheck="true")
    assert told("sourceDestCheck")["SourceDestCheck"] == {"Value": True}


def test_a_new_subnet_is_told_as_ec2_tells_it(client: Any, ec2_ground: Ground) -> None:
    (vpc,) = client.describe_vpcs(VpcIds=[ec2_ground.vpc])["Vpcs"]
    block = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].replace("::/56", "")
    made = client.create_subnet(
        VpcId=ec2_ground.vpc, CidrBlock="10.0.7.0/24", AvailabilityZone=ZONE, Ipv6CidrBlock=f"{block[:-2]}07::/64"
    )["Subnet"]
    assert made["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlockState"] == {"State": "associated"}
    assert made["AvailableIpAddressCount"] == 251


def test_what_the_lab_lacks_is_an_ec2_error_and_no_page_of_html(client: Any, ec2_ground: Ground) -> None:
    (interface,) = interfaces_of(client, ec2_ground.instance)
    with pytest.raises(ClientError) as caught:
        client.create_network_interface_permission(
            NetworkInterfaceId=interface["NetworkInterfaceId"], Permission="INSTANCE-ATTACH"
        )
    assert caught.value.response["Error"]["Code"] == "UnsupportedOperation"


def test_instances_of_a_scaling_group_are_instances_of_the_model(
    client: Any, ec2_ground: Ground, ec2_endpoint: Endpoint
) -> None:
    template = client.create_launch_template(
        LaunchTemplateName="nodes",
        LaunchTemplateData={
            "ImageId": "ami-12345678",
            "InstanceType": "m5.large",
            "SecurityGroupIds": [ec2_ground.group],
        },
    )["LaunchTemplate"]
    scaling = boto3.client("autoscaling", endpoint_url=ec2_endpoint.url, region_name=REGION)
    scaling.create_auto_scaling_group(
        AutoScalingGroupName="nodes",
        MinSize=2,
        MaxSize=2,
        LaunchTemplate={"LaunchTemplateId": template["LaunchTemplateId"]},
        VPCZoneIdentifier=ec2_ground.subnet,
    )
    scaling.close()
    reservations = client.describe_instances()["Reservations"]
    made = [i for r in reservations for i in r["Instances"] if i["InstanceId"] != ec2_ground.instance]
    assert [i["InstanceType"] for i in made] == ["m5.large", "m5.large"]
    for instance in made:
        (interface,) = interfaces_of(client, instance["InstanceId"])
        assert interface["PrivateIpAddress"] == instance["PrivateIpAddress"]
        assert [group["GroupId"] for group in interface["Groups"]] == [ec2_ground.group]
        assert interface["Attachment"]["DeleteOnTermination"]


# --- moto's own makers ---


def test_interfaces_that_moto_makes_come_out_of_the_same_pool(client: Any, ec2_ground: Ground) -> None:
    allocation = client.allocate_address(Domain="vpc")["AllocationId"]
    gateway = client.create_nat_gateway(SubnetId=ec2_ground.tiny, AllocationId=allocation)["NatGateway"]
    (address,) = gateway["NatGatewayAddresses"]
    (shown,) = client.describe_network_interfaces(NetworkInterfaceIds=[address["NetworkInterfaceId"]])[
        "NetworkInterfaces"
    ]
    assert shown["PrivateIpAddress"] == address["PrivateIp"]
    assert shown["RequesterManaged"]
    taken = {
        client.create_network_interface(SubnetId=ec2_ground.tiny)["NetworkInterface"]["PrivateIpAddress"]
        for _ in range(10)
    }
    assert address["PrivateIp"] not in taken
    client.delete_nat_gateway(NatGatewayId=gateway["NatGatewayId"])
    assert client.describe_subnets(SubnetIds=[ec2_ground.tiny])["Subnets"][0]["AvailableIpAddressCount"] == 1


def test_what_interfaces_stand_on_cannot_be_removed(client: Any, ec2_ground: Ground) -> None:
    for call in (
        lambda: client.delete_subnet(SubnetId=ec2_ground.subnet),
        lambda: client.delete_security_group(GroupId=ec2_ground.group),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == "DependencyViolation"
    client.terminate_instances(InstanceIds=[ec2_ground.instance])
    client.delete_subnet(SubnetId=ec2_ground.subnet)
    client.delete_security_group(GroupId=ec2_ground.group)
    with pytest.raises(ClientError) as caught:
        client.create_network_interface(SubnetId=ec2_ground.subnet)
    assert caught.value.response["Error"]["Code"] == "InvalidSubnetID.NotFound"


def test_an_elastic_ip_shows_on_the_address_it_was_given_to(client: Any, ec2_ground: Ground) -> None:
    made = client.create_network_interface(SubnetId=ec2_ground.subnet, SecondaryPrivateIpAddressCount=1)[
        "NetworkInterface"
    ]
    second = made["PrivateIpAddresses"][1]["PrivateIpAddress"]
    allocation = client.allocate_address(Domain="vpc")
    client.associate_address(
        AllocationId=allocation["AllocationId"], NetworkInterfaceId=made["NetworkInterfaceId"], PrivateIpAddress=second
    )
    (shown,) = client.describe_network_interfaces(NetworkInterfaceIds=[made["NetworkInterfaceId"]])["NetworkInterfaces"]
    by_address = {a["PrivateIpAddress"]: a.get("Association", {}).get("PublicIp") for a in shown["PrivateIpAddresses"]}
    assert by_address[second] == allocation["PublicIp"]
    assert by_address[shown["PrivateIpAddress"]] is None


def test_vpcs_get_further_cidrs_and_subnets_in_them(client: Any, ec2_ground: Ground, ec2_endpoint: Endpoint) -> None:
    client.associate_vpc_cidr_block(VpcId=ec2_ground.vpc, CidrBlock="100.64.0.0/16")
    made = client.create_subnet(VpcId=ec2_ground.vpc, CidrBlock="100.64.1.0/24", AvailabilityZone=ZONE)["Subnet"]
    interface = client.create_network_interface(SubnetId=made["SubnetId"])["NetworkInterface"]
    assert interface["PrivateIpAddress"].startswith("100.64.1.")
    (vpc,) = ec2_endpoint.model.describe_vpcs([ec2_ground.vpc])
    assert vpc.cidrs == ("10.0.0.0/16", "100.64.0.0/16")


def test_termination_is_seen_by_both_worlds(client: Any, ec2_ground: Ground) -> None:
    client.terminate_instances(InstanceIds=[ec2_ground.instance])
    (found,) = client.describe_instances(InstanceIds=[ec2_ground.instance])["Reservations"]
    assert found["Instances"][0]["State"]["Name"] == "terminated"
    statuses = client.describe_instance_status(InstanceIds=[ec2_ground.instance], IncludeAllInstances=True)
    assert statuses["InstanceStatuses"][0]["InstanceState"]["Name"] == "terminated"
    assert interfaces_of(client, ec2_ground.instance) == []
