"""Makes the lab's VPC and instances by the AWS API, as Terraform or a person would: boto3, no shortcut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client

VPC_CIDR = "10.0.0.0/16"
SUBNET_CIDR = "10.0.0.0/20"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab"}


@dataclass(frozen=True, slots=True)
class LabInstance:
    """A started instance: its own IPv4 address and zone."""

    id: str
    type: str
    address: str
    zone: str


def connect(endpoint: str, region: str) -> EC2Client:
    """A client of the lab's EC2. Proxies of the environment lead elsewhere and are not asked."""
    import boto3
    from botocore.config import Config

    session = boto3.Session(aws_access_key_id="lab", aws_secret_access_key="lab", region_name=region)  # noqa: S106 - no secret
    return session.client("ec2", endpoint_url=endpoint, config=Config(proxies={}, retries={"total_max_attempts": 2}))


def make_vpc(ec2: EC2Client, region: str, types: Sequence[str], cluster: str) -> list[LabInstance]:
    """A VPC and a subnet with both families, a security group, and one instance for each of `types`."""
    vpc = ec2.create_vpc(CidrBlock=VPC_CIDR, AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    vpc_id = vpc["VpcId"]
    ipv6 = ec2.describe_vpcs(VpcIds=[vpc_id])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    subnet = ec2.create_subnet(
        VpcId=vpc_id,
        CidrBlock=SUBNET_CIDR,
        AvailabilityZone=f"{region}a",
        Ipv6CidrBlock=ipv6.replace("/56", "/64"),
    )["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName=f"{cluster}-nodes", Description="nodes and pods", VpcId=vpc_id)
    return [_run(ec2, each, subnet, group["GroupId"], f"{cluster}-{number}") for number, each in enumerate(types, 1)]


def _run(ec2: EC2Client, instance_type: str, subnet: str, group: str, name: str) -> LabInstance:
    kind: Any = instance_type
    card: Any = {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group], "Ipv6AddressCount": 1}
    made = ec2.run_instances(
        ImageId="ami-0abcdef1234567890",
        InstanceType=kind,
        MinCount=1,
        MaxCount=1,
        NetworkInterfaces=[card],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}],
    )["Instances"][0]
    return LabInstance(
        made["InstanceId"], instance_type, made["PrivateIpAddress"], made["Placement"]["AvailabilityZone"]
    )
