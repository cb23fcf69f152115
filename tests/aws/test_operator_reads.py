"""What every read of the operator looks like on the wire: filtered, and paged where EC2 pages."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import aioboto3
import pytest
from support.ec2 import REGION, Endpoint, Ground

from enitide_operator.ec2.port import MUTATIONS, InterfaceQuery, Verb
from enitide_operator.ec2.wire import AwsEc2

pytestmark = pytest.mark.aws

UNPAGED = {Verb.DESCRIBE_ADDRESSES}  # EC2 has no pages for it
BY_SUBNET = {Verb.GET_RESERVATIONS}  # EC2 demands the subnet beside the filters

READS: dict[str, Callable[[AwsEc2, Ground], Any]] = {
    "interfaces of instances": lambda ec2, g: ec2.describe_interfaces(InterfaceQuery(instance_ids=(g.instance,)), ""),
    "interfaces by token": lambda ec2, _: ec2.describe_interfaces(InterfaceQuery(tokens=("t",)), ""),
    "interfaces by id": lambda ec2, _: ec2.describe_interfaces(InterfaceQuery(interface_ids=("eni-1",)), ""),
    "loose interfaces": lambda ec2, _: ec2.describe_interfaces(InterfaceQuery(loose_of="blue"), ""),
    "interfaces of a subnet": lambda ec2, g: ec2.describe_interfaces(InterfaceQuery(subnet_ids=(g.subnet,)), ""),
    "instances": lambda ec2, g: ec2.describe_instances((g.instance,), ""),
    "an instance type": lambda ec2, _: ec2.describe_instance_type("m5.large"),
    "subnets": lambda ec2, g: ec2.describe_subnets(g.vpc, ""),
    "groups": lambda ec2, g: ec2.describe_groups(g.vpc, ""),
    "route tables": lambda ec2, g: ec2.describe_route_tables(g.vpc, ""),
    "VPCs": lambda ec2, g: ec2.describe_vpcs(g.vpc, ""),
    "reservations": lambda ec2, g: ec2.subnet_reservations(g.subnet, ""),
    "elastic IPs": lambda ec2, _: ec2.describe_elastic_ips({"for": "nodes"}),
}


@functools.cache
def _session() -> aioboto3.Session:
    return aioboto3.Session(aws_access_key_id="AKIAENITIDETEST", aws_secret_access_key="test", region_name=REGION)


async def _sent(url: str, ground: Ground, reads: dict[str, Callable[[AwsEc2, Ground], Any]]) -> list[tuple[str, Any]]:
    """Verb and parameters of each call, as the SDK was told them."""
    found: list[tuple[str, Any]] = []

    def note(params: Any, model: Any, **_more: Any) -> None:
        found.append((model.name, dict(params)))

    async with AwsEc2.connect(region=REGION, endpoint_url=url, call_timeout_s=10.0, session=_session()) as port:
        port._client.meta.events.register("provide-client-params.ec2", note)
        for read in reads.values():
            await read(port, ground)
    return found


async def test_no_read_is_unfiltered_or_unpaged(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    sent = await _sent(ec2_endpoint.url, ec2_ground, READS)
    assert len(sent) == len(READS)
    assert {verb for verb, _ in sent} == set(Verb) - MUTATIONS, "every verb that reads"
    for verb, params in sent:
        filters = params.get("Filters") or []
        narrowed = bool(params.get("SubnetId")) if verb in BY_SUBNET else bool(filters)
        assert narrowed, f"{verb} {params}"
        assert all(each["Values"] for each in filters), f"{verb}: an empty filter lets everything pass"
        if verb not in UNPAGED:
            assert 5 <= params["MaxResults"] <= 1000, f"{verb} {params}"
        ids = [key for key in params if key.endswith("Ids")]
        assert not ids, f"{verb}: ids and pages exclude each other, and one that is gone fails all"
