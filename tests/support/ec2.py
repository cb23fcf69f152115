"""The strict EC2 for tests: a server in a thread of this process, its model in reach, a small VPC built over the wire.

`pytest_plugins = ["support.ec2"]` (or an import in a conftest) gives the fixtures `ec2_endpoint`, `ec2_model` and
`ec2_ground`. Each test has an EC2 as new. Credentials are set for the length of the test, so that any AWS client of
the process finds some.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config

from enitide_lab.ec2model import EC2Model, Physics
from enitide_lab.ec2model.limits import make_type
from enitide_lab.ec2server.control import Control
from enitide_lab.ec2server.http import listen
from enitide_lab.ec2server.server import EC2Server

REGION = "us-west-2"
ZONE = "us-west-2a"
OTHER_ZONE = "us-west-2b"
TYPES = {
    "two-cards.test": make_type("two-cards.test", cards=(2, 3), ipv4=4),
    "xen.test": make_type("xen.test", cards=(3,), ipv4=10, hypervisor="xen"),
}


@dataclass(frozen=True)
class Endpoint:
    """A running server. Hold `server.locked` while touching `model` or `physics`."""

    url: str
    server: EC2Server
    model: EC2Model
    physics: Physics
    control: Control

    def client(self, **config: Any) -> Any:
        """A boto3 client without retries."""
        settings: dict[str, Any] = {"retries": {"total_max_attempts": 1}, "read_timeout": 20} | config
        return boto3.client("ec2", endpoint_url=self.url, region_name=REGION, config=Config(**settings))


@dataclass(frozen=True)
class Ground:
    """A VPC: `subnet` (/24, IPv6) and `tiny` (/28) in ZONE, `other` in OTHER_ZONE, a group, an m5.large in `subnet`."""

    vpc: str
    subnet: str
    tiny: str
    other: str
    group: str
    instance: str


@pytest.fixture(scope="session")
def _ec2_server() -> Iterator[Endpoint]:
    server = EC2Server(region=REGION, instance_types=TYPES)
    host, port = server.listen(listen("127.0.0.1", 0))
    url = f"http://{host}:{port}"
    yield Endpoint(url, server, server.model, server.physics, Control(url))
    server.stop()


@pytest.fixture
def ec2_endpoint(_ec2_server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """The server, as new."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAENITIDETEST",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    _ec2_server.server.endpoint.reset()
    model = _ec2_server.model
    model.attach_delay_s = model.detach_delay_s = model.terminate_delay_s = model.visible_after_s = 0.0
    _ec2_server.physics.latency_s = 0.0
    return _ec2_server


@pytest.fixture
def ec2_model(ec2_endpoint: Endpoint) -> EC2Model:
    """The model behind the server."""
    return ec2_endpoint.model


@pytest.fixture
def ec2_ground(ec2_endpoint: Endpoint) -> Ground:
    """A small VPC, built over the wire."""
    client = ec2_endpoint.client()
    try:
        return build_ground(client)
    finally:
        client.close()


def build_ground(client: Any) -> Ground:
    """The VPC of `Ground`, through any EC2 client."""
    vpc = client.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]
    block = client.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]

    def subnet(cidr: str, zone: str, **more: Any) -> str:
        return client.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone, **more)["Subnet"]["SubnetId"]

    roomy = subnet("10.0.0.0/24", ZONE, Ipv6CidrBlock=block.replace("::/56", "::/64"))
    tiny, other = subnet("10.0.1.0/28", ZONE), subnet("10.0.2.0/24", OTHER_ZONE)
    group = client.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc)["GroupId"]
    return Ground(vpc, roomy, tiny, other, group, run_instance(client, roomy, group))


def run_instance(client: Any, subnet: str, group: str, instance_type: str = "m5.large", **more: Any) -> str:
    """One instance; its id."""
    reply = client.run_instances(
        ImageId="ami-12345678",
        InstanceType=instance_type,
        MinCount=1,
        MaxCount=1,
        SubnetId=subnet,
        SecurityGroupIds=[group],
        **more,
    )
    return reply["Instances"][0]["InstanceId"]


def interfaces_of(client: Any, instance: str) -> list[dict[str, Any]]:
    """The ENIs of an instance, over the wire."""
    filters = [{"Name": "attachment.instance-id", "Values": [instance]}]
    return client.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]
