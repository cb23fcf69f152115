"""Reads what `enitide preflight` judges: nodes and their instances, VPCs, definitions, rights, permissions."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from enitide_api.crds import definitions
from enitide_api.errors import EC2Error, EnitideError, KubeNotFound, SettingsInvalid
from enitide_api.iam import CLUSTER_TAG
from enitide_api.resources import ENIClass, InstanceFacts
from enitide_ipam.limits import limits_for
from enitide_ipam.model import SubnetView
from enitide_ipam.subnets import route_table_of
from enitide_kube.objects import instance_of
from enitide_kube.port import CRD, ENICLASS, NODE, KubePort
from enitide_operator.classes import ClassBook
from enitide_operator.cli import checks
from enitide_operator.cli.checks import FAILING, OK, UNCHECKED, Check, Machine
from enitide_operator.cli.collect import list_all
from enitide_operator.cli.rights import rights_checks
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.ec2.permissions import Target, caller_of, permissions


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: the operator's settings as far as checks depend on them."""

    cluster: str
    region: str
    endpoint_url: str
    lease: tuple[str, str]
    account: str = ""
    taint_nodes: bool = False


async def of_cluster(kube: KubePort, wish: Wish) -> tuple[list[Check], tuple[ENIClass, ...], list[dict[str, Any]]]:
    """Checks of definitions, rights and classes; the classes and the Nodes for the rest."""
    found = checks.crd_checks({name: await _definition(kube, name) for name in _wanted()}, _wanted())
    found += await rights_checks(kube, wish.lease, account=wish.account, taint_nodes=wish.taint_nodes)
    try:
        classes = await list_all(kube, ENICLASS, ENIClass)
        found += checks.class_checks(classes)
    except KubeNotFound:
        classes = ()
    raw: list[dict[str, Any]] = []
    token = ""
    while True:
        page = await kube.list(NODE, continue_token=token)
        raw += [json.loads(each) for each in page.items]
        token = page.continue_token
        if not token:
            return found, classes, raw


async def of_aws(ec2: Gateway, wish: Wish, nodes: Sequence[dict[str, Any]], classes: Iterable[ENIClass]) -> list[Check]:
    """Everything that needs AWS. Without credentials one check says so and the rest is not checked."""
    try:
        client, iam, sts, region = await asyncio.to_thread(_clients, wish)
        caller = await asyncio.to_thread(caller_of, sts)
    except Exception as error:  # noqa: BLE001 - the SDK raises anything for a configuration it cannot use
        do = "set AWS credentials and a region, or run this where the operator runs"
        return [Check("aws", "credentials", FAILING, f"{type(error).__name__}: {error}", do)]
    found = [Check("aws", "credentials", OK, f"{caller.arn} in {region}")]
    machines = await asyncio.to_thread(_machines, client, nodes, classes)
    found += _known(nodes, machines)
    target = await asyncio.to_thread(_target, client, wish.cluster, machines)
    found += checks.iam_checks(await asyncio.to_thread(permissions, client, iam, caller, region, target))
    if not wish.cluster:
        detail = "no --cluster-name: ENIs would carry no cluster tag, and leaked ones would not be looked for"
        found.append(Check("aws", "cluster name", FAILING, detail, "write --cluster-name as the operator will have it"))
    found += await _of_vpcs(ec2, machines)
    found += checks.limit_checks(machines, await _described(ec2, machines))
    return found + (checks.kernel_checks(machines) if machines else [])


async def _of_vpcs(ec2: Gateway, machines: Sequence[Machine]) -> list[Check]:
    found: list[Check] = []
    for vpc in sorted({each.facts.vpc_id for each in machines}):
        mine = [each for each in machines if each.facts.vpc_id == vpc]
        try:
            subnets, groups, tables = await asyncio.gather(ec2.subnets(vpc), ec2.groups(vpc), ec2.route_tables(vpc))
        except EC2Error as error:
            found.append(Check("subnets", vpc, UNCHECKED, error.sentence()))
            continue
        views = [_with_table(each, tables.items) for each in subnets.items]
        found += checks.subnet_checks(mine, views) + checks.group_checks(mine, groups.items)
    return found or checks.subnet_checks((), ())


def _with_table(subnet: SubnetView, tables: Iterable[Any]) -> SubnetView:
    from dataclasses import replace

    return replace(subnet, route_table=route_table_of(subnet.id, subnet.vpc_id, tables))


async def _described(ec2: Gateway, machines: Iterable[Machine]) -> dict[str, bool]:
    unknown = sorted({each.facts.type for each in machines if limits_for(each.facts.type) is None})
    found: dict[str, bool] = {}
    for name in unknown:
        try:
            found[name] = await ec2.instance_type(name) is not None
        except EnitideError:
            found[name] = False
    return found


def _known(nodes: Sequence[dict[str, Any]], machines: Sequence[Machine]) -> list[Check]:
    """Nodes without an instance that EC2 shows to us."""
    seen = {each.node for each in machines}
    lost = sorted(each["metadata"]["name"] for each in nodes if each["metadata"]["name"] not in seen)
    if lost:
        detail = f"their providerID names no instance that is found in this account and region: {', '.join(lost[:5])}"
        return [Check("aws", f"{len(lost)} nodes", FAILING, detail, "docs/runbook.md#instancemismatch")]
    return [Check("aws", f"{len(nodes)} nodes", OK, "each one's instance is found")] if nodes else []


def _wanted() -> dict[str, dict[str, Any]]:
    return {body["metadata"]["name"]: body for body in definitions().values()}


async def _definition(kube: KubePort, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(await kube.get(CRD, name))
    except KubeNotFound:
        return None
    return found


# --- boto3: what the operator's own port does not ask for ------------------------------------------------------------


def _clients(wish: Wish) -> tuple[Any, Any, Any, str]:
    import boto3
    from botocore.config import Config

    session = boto3.Session()  # not the process's default one: that keeps the credentials it has once found
    region = wish.region or os.environ.get("AWS_REGION") or session.region_name
    if not region:
        raise SettingsInvalid("no AWS region is known: write --aws-region or set AWS_REGION")
    config = Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=15)
    made = [
        session.client(name, region_name=region, endpoint_url=wish.endpoint_url or None, config=config)
        for name in ("ec2", "iam", "sts")
    ]
    return made[0], made[1], made[2], region


def _machines(client: Any, nodes: Sequence[dict[str, Any]], classes: Iterable[ENIClass]) -> list[Machine]:
    """Nodes with their instances, as EC2 shows them."""
    book = ClassBook()
    for each in classes:
        book.on_change(each.metadata.name, None, each)
    by_instance = {instance_of(each.get("spec", {}).get("providerID", "")): each for each in nodes}
    by_instance.pop("", None)
    found = []
    for batch in _batches(sorted(by_instance), 100):
        filters = [{"Name": "instance-id", "Values": batch}]
        for page in client.get_paginator("describe_instances").paginate(Filters=filters):
            shown = (each for reservation in page["Reservations"] for each in reservation["Instances"])
            found += [_machine(each, by_instance[each["InstanceId"]], book) for each in shown]
    return found


def _machine(instance: dict[str, Any], node: dict[str, Any], book: ClassBook) -> Machine:
    governing = book.governing(node["metadata"].get("labels") or {})
    facts = InstanceFacts(
        id=instance["InstanceId"],
        type=instance["InstanceType"],
        availability_zone=instance["Placement"]["AvailabilityZone"],
        vpc_id=instance.get("VpcId", ""),
        subnet_id=instance.get("SubnetId", ""),
    )
    groups = tuple(each["GroupId"] for each in instance.get("SecurityGroups") or ())
    kernel = node.get("status", {}).get("nodeInfo", {}).get("kernelVersion", "")
    return Machine(node["metadata"]["name"], facts, groups, kernel, governing.name, governing.spec)


def _target(client: Any, cluster: str, machines: Sequence[Machine]) -> Target:
    """What dry runs are asked about: some node's subnet, and some ENI of this cluster if there is one."""
    subnet = machines[0].facts.subnet_id if machines else ""
    instance = machines[0].facts.id if machines else ""
    if not cluster:
        return Target(cluster, subnet, instance)
    filters = [{"Name": f"tag:{CLUSTER_TAG}", "Values": [cluster]}]
    shown = client.describe_network_interfaces(Filters=filters, MaxResults=5)["NetworkInterfaces"]
    for eni in shown:
        attachment = eni.get("Attachment") or {}
        if attachment.get("AttachmentId"):
            return Target(cluster, subnet, instance, eni["NetworkInterfaceId"], attachment["AttachmentId"])
    return Target(cluster, subnet, instance, shown[0]["NetworkInterfaceId"] if shown else "")


def _batches(values: Sequence[str], size: int) -> Iterable[list[str]]:
    return (list(values[start : start + size]) for start in range(0, len(values), size))
