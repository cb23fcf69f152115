"""Our resources as the API server enforces them: what people are told, and the hand-over's compare-and-swap."""

import asyncio

import pytest
from support.kube_contract import decoded

from enitide_api.crds import definitions
from enitide_api.errors import KubeConflict, KubeExists, KubeInvalid, KubeNotFound
from enitide_kube.port import CRD, ENDPOINTBATCH, ENICLASS, ENINODE, SECURITYIDENTITY

pytestmark = pytest.mark.kube


@pytest.fixture
async def ours(kube):
    """Our definitions, as `make generate` writes them."""
    for definition in definitions().values():
        try:
            await kube.create(CRD, definition)
        except KubeExists:
            await kube.patch(CRD, definition["metadata"]["name"], {"spec": definition["spec"]})
    async with asyncio.timeout(20):
        for kind in (ENICLASS, ENINODE, SECURITYIDENTITY, ENDPOINTBATCH):
            while True:
                try:
                    await kube.list(kind)
                    break
                except KubeNotFound:
                    await asyncio.sleep(0.05)


def eniclass(name, **spec):
    return {"apiVersion": ENICLASS.api_version, "kind": "ENIClass", "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"pool": {"minAllocate": 9, "maxAllocate": 8}}, "lower minAllocate or raise maxAllocate"),
        ({"interfaces": {"subnetSelector": {"ids": ["subnet-1"], "tags": {"a": "b"}}}}, "write either ids or tags"),
        ({"interfaces": {"securityGroupSelector": {"ids": ["sg-1"], "tags": {"a": "b"}}}}, "write either ids or tags"),
        ({"interfaces": {"cards": []}}, "name at least one card"),
        ({"interfaces": {"tags": {"aws:x": "y"}}}, "choose another key"),
        ({"pool": {"preAllocat": 9}}, "spec.pool.preAllocat"),
        ({"cooldown": "half a minute"}, "spec.cooldown"),
    ],
)
async def test_a_class_that_contradicts_itself_is_told_what_to_write_instead(kube, ours, name, spec, sentence):
    with pytest.raises(KubeInvalid, match=sentence.replace(".", r"\.")):
        await kube.create(ENICLASS, eniclass(name, **spec))


async def test_the_default_class_may_not_select(kube, ours):
    body = eniclass("default", nodeSelector={"matchLabels": {"a": "b"}})
    with pytest.raises(KubeInvalid, match="leave out its nodeSelector"):
        await kube.create(ENICLASS, body)


async def test_a_class_of_nothing_gets_every_default(kube, ours, name, cleanup):
    cleanup(ENICLASS, name)
    spec = decoded(await kube.create(ENICLASS, eniclass(name, pool={}, interfaces={}, release={})))["spec"]
    assert spec["pool"] == {"preAllocate": 4, "minAllocate": 0, "maxAboveWatermark": 4}
    assert (spec["cooldown"], spec["release"]["delay"], spec["interfaces"]["cards"]) == ("30s", "180s", [0])


async def test_a_node_without_an_instance_id_is_never_published(kube, ours, name):
    body = {"apiVersion": ENINODE.api_version, "kind": "ENINode", "metadata": {"name": name}}
    with pytest.raises(KubeInvalid, match="write the id of the EC2 instance"):
        await kube.create(ENINODE, body | {"spec": {"instance": {"id": ""}}})


async def test_unpublishing_is_refused_once_the_agent_has_written_meanwhile(kube, ours, name, cleanup):
    cleanup(ENINODE, name)
    body = {"apiVersion": ENINODE.api_version, "kind": "ENINode", "metadata": {"name": name}}
    read = decoded(await kube.create(ENINODE, body | {"spec": {"instance": {"id": "i-1"}, "yielded": ["10.0.0.1/32"]}}))
    version = read["metadata"]["resourceVersion"]
    await kube.patch(ENINODE, name, {"spec": {"yielded": []}})
    unpublish = {"metadata": {"resourceVersion": version}, "status": {"releasing": ["10.0.0.1/32"]}}
    with pytest.raises(KubeConflict):
        await kube.patch(ENINODE, name, unpublish, subresource="status")
    assert "status" not in decoded(await kube.get(ENINODE, name))


async def test_an_identity_never_changes_what_it_stands_for(kube, ours, name, cleanup):
    head = {"apiVersion": SECURITYIDENTITY.api_version, "kind": SECURITYIDENTITY.kind, "metadata": {"name": name}}
    await kube.create(SECURITYIDENTITY, head | {"spec": {"id": 300, "namespace": "d", "podLabels": {"app": "web"}}})
    cleanup(SECURITYIDENTITY, name)
    for change in ({"id": 301}, {"podLabels": {"app": "db"}}, {"serviceAccount": "root"}):
        with pytest.raises(KubeInvalid, match="the operator makes another SecurityIdentity"):
            await kube.patch(SECURITYIDENTITY, name, {"spec": change})
    retired = await kube.patch(
        SECURITYIDENTITY, name, {"status": {"retired": "2026-01-01T00:00:00Z"}}, subresource="status"
    )
    assert decoded(retired)["status"] == {"retired": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("number", [0, 255, 1 << 31])
async def test_an_identity_number_lies_inside_its_layout(kube, ours, name, number):
    head = {"apiVersion": SECURITYIDENTITY.api_version, "kind": SECURITYIDENTITY.kind, "metadata": {"name": name}}
    with pytest.raises(KubeInvalid, match=r"spec\.id"):
        await kube.create(SECURITYIDENTITY, head | {"spec": {"id": number, "namespace": "d"}})


async def test_a_batch_holds_fifty_endpoints_and_not_one_more(kube, ours, name, cleanup):
    head = {"apiVersion": ENDPOINTBATCH.api_version, "kind": ENDPOINTBATCH.kind, "metadata": {"name": name}}
    records = [{"addresses": [f"10.0.0.{i}"], "identity": 300, "revision": i} for i in range(51)]
    await kube.create(ENDPOINTBATCH, head | {"spec": {"endpoints": records[:50]}})
    cleanup(ENDPOINTBATCH, name)
    with pytest.raises(KubeInvalid, match=r"spec\.endpoints"):
        await kube.patch(ENDPOINTBATCH, name, {"spec": {"endpoints": records}})
