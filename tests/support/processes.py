"""The strict EC2, the embedded API server and operators as real processes on loopback, to be stopped and killed.

Everything started here is ended here, by the process objects themselves. Waiting is for conditions, with a bound.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from enitide_api.crds import definitions
from enitide_api.errors import KubeNotFound
from enitide_api.resources import ENINode, decode
from enitide_kube.client import HttpKube
from enitide_kube.port import CRD, ENICLASS, ENINODE, NAMESPACE, NODE, POD
from enitide_lab.ec2server.control import Control

REGION = "us-west-2"
ZONE = "us-west-2a"
TEST_KEY = "AKIAENITIDETEST"


class NeverHappened(AssertionError):
    """A condition did not come true within its bound."""


async def until(check: Callable[[], Awaitable[Any]], what: str, within_s: float = 30.0) -> Any:
    """The first truthy answer of `check`; `NeverHappened` with `what` after the bound."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        answer = await check()
        if answer:
            return answer
        await asyncio.sleep(0.05)
    raise NeverHappened(f"{what} within {within_s:g} s")


@dataclass
class Operator:
    """One operator process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@dataclass
class Ground:
    """A VPC with one /24 (and IPv6) and a group."""

    vpc: str
    subnet: str
    group: str


@dataclass
class Stage:
    """Running servers and what is on them. `ec2` is boto3's client, for setting and looking at the scene."""

    directory: Path
    ec2_url: str
    control: Control
    ec2: Any
    kubeconfig: Path
    kube: HttpKube
    ground: Ground
    operators: list[Operator] = field(default_factory=list)

    def start_operator(self, name: str, *flags: str) -> Operator:
        """`enitide operator`, logging to a file. Its name is its access key too, so that EC2's log tells who called."""
        log = self.directory / f"{name}.log"
        command = [sys.executable, "-c", "from enitide_api.cli import main; main()", "operator", "--identity", name]
        command += [
            "--metrics-address",
            "127.0.0.1:0",
            "--kubeconfig",
            str(self.kubeconfig),
            "--aws-endpoint-url",
            self.ec2_url,
            "--aws-region",
            REGION,
        ]
        command += ["--cluster-name", "stage", "--log-format", "json", *flags]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=aws_environment() | {"AWS_ACCESS_KEY_ID": name}
            )
        operator = Operator(name, process, log)
        self.operators.append(operator)
        return operator

    async def node(self, name: str, instance_type: str = "m5.large") -> str:
        """An instance, its Node and its ENINode, as kubelet and agent would make them; the instance's id."""
        reply = self.ec2.run_instances(
            ImageId="ami-12345678",
            InstanceType=instance_type,
            MinCount=1,
            MaxCount=1,
            SubnetId=self.ground.subnet,
            SecurityGroupIds=[self.ground.group],
        )
        instance = reply["Instances"][0]["InstanceId"]
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name},
            "spec": {"providerID": f"aws:///{ZONE}/{instance}"},
        }
        await self.kube.create(NODE, node)
        facts = {
            "id": instance,
            "type": instance_type,
            "availabilityZone": ZONE,
            "vpcID": self.ground.vpc,
            "subnetID": self.ground.subnet,
        }
        demand = {"inUse": 0, "cooling": 0, "waiting": 0}
        eninode = {
            "apiVersion": "enitide.io/v1alpha1",
            "kind": "ENINode",
            "metadata": {"name": name},
            "spec": {"instance": facts, "demand": demand},
        }
        await self.kube.create(ENINODE, eninode)
        return str(instance)

    async def pods(self, node: str, count: int, prefix: str = "p") -> None:
        """Pods bound to the node."""
        for number in range(count):
            name = f"{prefix}-{node}-{number}"
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "none"}]},
            }
            await self.kube.create(POD, pod, namespace="default")

    async def eninode(self, name: str) -> ENINode:
        """The resource now."""
        return decode(await self.kube.get(ENINODE, name), ENINode)

    def interfaces(self, instance: str) -> list[dict[str, Any]]:
        """What EC2 has on the instance."""
        filters = [{"Name": "attachment.instance-id", "Values": [instance]}]
        return list(self.ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"])

    def mutations_by(self, operator: str) -> list[dict[str, Any]]:
        """Mutating calls that reached EC2 from one operator, oldest first."""
        recent = self.control.calls(last=5000)["recent"]
        return [each for each in recent if each["caller"] == operator and not each["verb"].startswith("Describe")]

    def detached(self) -> list[dict[str, Any]]:
        """ENIs that hang on nothing."""
        filters = [{"Name": "status", "Values": ["available"]}]
        return list(self.ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"])


def aws_environment() -> dict[str, str]:
    """The environment for whoever calls the strict EC2."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ENITIDE_"))}
    return kept | {
        "AWS_ACCESS_KEY_ID": TEST_KEY,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    """Both servers up, CRDs established, the class `default` made; all ended afterwards."""
    kubeconfig = directory / "kubeconfig"
    processes: list[subprocess.Popen[bytes]] = []
    made: Stage | None = None
    try:
        python = [sys.executable, "-m"]
        with (directory / "ec2.log").open("wb") as log:
            command = [*python, "enitide_lab.ec2server", "--region", REGION]
            ec2 = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)  # noqa: ASYNC220
        processes.append(ec2)
        with (directory / "apiserver.log").open("wb") as log:
            command = [*python, "enitide_lab.apiserver", "--kubeconfig-out", str(kubeconfig)]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))  # noqa: ASYNC220
        assert ec2.stdout is not None
        line = await asyncio.to_thread(ec2.stdout.readline)
        url = "http://" + json.loads(line)["listen"]
        await until(lambda: asyncio.to_thread(kubeconfig.exists), "the API server is up")
        client = boto3.client(
            "ec2",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id=TEST_KEY,
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )
        async with HttpKube.connect(str(kubeconfig), "test") as kube:
            await _install(kube)
            made = Stage(directory, url, Control(url), client, kubeconfig, kube, _ground(client))
            yield made
        client.close()
    finally:
        for operator in made.operators if made else []:
            if operator.process.poll() is None:
                operator.resume()
                operator.kill()
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def _ground(client: Any) -> Ground:
    vpc = client.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]
    block = client.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"]
    subnet = client.create_subnet(
        VpcId=vpc, CidrBlock="10.0.0.0/22", AvailabilityZone=ZONE, Ipv6CidrBlock=block.replace("::/56", "::/64")
    )["Subnet"]["SubnetId"]
    group = client.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc)["GroupId"]
    return Ground(vpc, subnet, group)


async def _install(kube: HttpKube) -> None:
    for crd in definitions().values():
        await kube.create(CRD, crd)
    for namespace in ("default", "kube-system"):
        try:
            await kube.get(NAMESPACE, namespace)
        except KubeNotFound:
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            await kube.create(NAMESPACE, body)
    default = {
        "apiVersion": "enitide.io/v1alpha1",
        "kind": "ENIClass",
        "metadata": {"name": "default"},
        "spec": {},
    }

    async def create() -> bool:
        try:
            await kube.create(ENICLASS, default)
        except KubeNotFound:
            return False  # the CRD is not served yet
        return True

    await until(create, "the CRDs are served")
