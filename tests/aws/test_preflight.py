"""`enitide preflight` over the wire: the strict EC2 behind moto's server, the API store behind the Kubernetes port."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pytest
from support.ec2 import REGION, Endpoint, Ground

from enitide_api.crds import definitions
from enitide_api.errors import KubeNotFound
from enitide_lab.ec2model import Fault
from enitide_operator.cli.aws import gateway
from enitide_operator.cli.checks import FAILING, OK, UNCHECKED, Check
from enitide_operator.cli.survey import Wish, of_aws, of_cluster

pytestmark = pytest.mark.aws


class Kube:
    """An API server that has the definitions, one node, and grants all but one verb."""

    def __init__(self, ground: Ground, denied: str = "", installed: bool = True) -> None:
        self.ground, self.denied, self.installed = ground, denied, installed

    async def get(self, _kind: Any, name: str, **_options: Any) -> bytes:
        body = {each["metadata"]["name"]: each for each in definitions().values()}.get(name)
        if body is None or not self.installed:
            raise KubeNotFound(name)
        return json.dumps(body).encode()

    async def list(self, kind: Any, **_options: Any) -> Any:
        from enitide_kube.port import Page

        spec = {"providerID": f"aws:///us-west-2a/{self.ground.instance}"}
        info = {"nodeInfo": {"kernelVersion": "6.1.0-13-cloud-amd64"}}
        node = {"metadata": {"name": "n", "labels": {}}, "spec": spec, "status": info}
        items = (json.dumps(node).encode(),) if kind.kind == "Node" else ()
        return Page(items, "1", "")

    async def create(self, _kind: Any, body: Any, **_options: Any) -> bytes:
        asked = body["spec"]["resourceAttributes"]
        return json.dumps({"status": {"allowed": asked["verb"] != self.denied}}).encode()


async def run(endpoint: Endpoint, kube: Kube, cluster: str = "prod") -> dict[str, list[Check]]:
    wish = Wish(cluster, REGION, endpoint.url, ("kube-system", "enitide-operator"))
    found, classes, nodes = await of_cluster(kube, wish)  # type: ignore[arg-type]
    async with gateway(REGION, endpoint.url) as ec2:
        found += await of_aws(ec2, wish, nodes, classes)
    by_area: dict[str, list[Check]] = defaultdict(list)
    for each in found:
        by_area[each.area].append(each)
    return by_area


def make_own(ground: Ground, endpoint: Endpoint) -> None:
    """An ENI of the cluster, to be asked about."""
    with endpoint.server.locked:
        made = endpoint.model.create_network_interface(ground.subnet, tags={"enitide.io/cluster": "prod"})
        endpoint.model.attach_network_interface(made.id, ground.instance, 1)


async def test_where_all_is_well_nothing_fails(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    make_own(ec2_ground, ec2_endpoint)
    found = await run(ec2_endpoint, Kube(ec2_ground))
    assert not [each for checks in found.values() for each in checks if each.state == FAILING]
    assert [each.state for each in found["crds"]] == [OK] * len(definitions())
    assert found["rights"][0].state == OK
    allowed, *unknown = found["iam"]
    assert allowed.state == OK
    assert int(allowed.check.split()[0]) >= 12
    # moto knows no policy simulation: what has no dry run is not checked, and said so
    assert {each.state for each in unknown} == {UNCHECKED}
    assert {"AssignPrivateIpAddresses", "UnassignPrivateIpAddresses"} <= {each.check for each in unknown}
    assert "free in" in found["subnets"][0].detail
    assert found["limits"][0].detail.endswith("m5.large")


async def test_a_dry_run_changes_nothing(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    make_own(ec2_ground, ec2_endpoint)
    before = ec2_endpoint.model.describe_network_interfaces().items
    await run(ec2_endpoint, Kube(ec2_ground))
    assert ec2_endpoint.model.describe_network_interfaces().items == before


async def test_a_verb_that_the_role_lacks_fails_by_name(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    make_own(ec2_ground, ec2_endpoint)
    with ec2_endpoint.server.locked:
        code = "UnauthorizedOperation"
        ec2_endpoint.physics.add(Fault("CreateNetworkInterface", code=code, http_status=403))
    found = await run(ec2_endpoint, Kube(ec2_ground))
    failing = {each.check for each in found["iam"] if each.state == FAILING}
    assert failing == {"CreateNetworkInterface", "CreateTags"}


async def test_missing_definitions_and_rights_fail(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    found = await run(ec2_endpoint, Kube(ec2_ground, denied="patch", installed=False))
    assert {each.state for each in found["crds"]} == {FAILING}
    denied = {each.check for each in found["rights"] if each.state == FAILING}
    assert {"eninodes/status", "events", "leases"} <= denied


async def test_a_full_subnet_and_a_missing_name_fail(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    with ec2_endpoint.server.locked:
        while ec2_endpoint.model.describe_subnets(filters={"subnet-id": (ec2_ground.subnet,)}).items[0].free:
            left = ec2_endpoint.model.describe_subnets(filters={"subnet-id": (ec2_ground.subnet,)}).items[0].free
            ec2_endpoint.model.create_network_interface(ec2_ground.subnet, secondary_count=min(40, left - 1))
        for _ in range(2):
            left = ec2_endpoint.model.describe_subnets(filters={"subnet-id": (ec2_ground.tiny,)}).items[0].free
            if left:
                ec2_endpoint.model.create_network_interface(ec2_ground.tiny, secondary_count=left - 1)
    found = await run(ec2_endpoint, Kube(ec2_ground), cluster="")
    assert found["subnets"][0].detail.startswith("SubnetExhausted")
    assert [each.check for each in found["aws"] if each.state == FAILING] == ["cluster name"]


async def test_a_node_of_another_account_is_named(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    from dataclasses import replace

    found = await run(ec2_endpoint, Kube(replace(ec2_ground, instance="i-0000000000000dead")))
    (bad,) = [each for each in found["aws"] if each.state == FAILING]
    assert "names no instance" in bad.detail
    assert found["subnets"][0].state == UNCHECKED


async def test_without_credentials_that_alone_is_said(
    ec2_endpoint: Endpoint, ec2_ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    found = await run(ec2_endpoint, Kube(ec2_ground))
    assert [(each.check, each.state) for each in found["aws"]] == [("credentials", FAILING)]
    assert not found["iam"]
