"""Pods and nodes as the kubelet stand-in, the operator and the agents use them."""

import pytest
from support.kube_contract import create_node, create_pod, decoded, until, until_gone

from enitide_api.errors import KubeConflict, KubeNotFound
from enitide_kube.objects import decode_node, decode_pod
from enitide_kube.port import NODE, POD

pytestmark = pytest.mark.kube


def binding(pod, node):
    target = {"kind": "Node", "name": node}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": target}


async def bind(kube, pod, node):
    await kube.create(POD, binding(pod, node), namespace="default", name=pod, subresource="binding")


@pytest.fixture
async def bound(kube, name, cleanup):
    """A pod on a node, both called `name`."""
    await create_node(kube, name, cleanup)
    await create_pod(kube, name, cleanup)
    await bind(kube, name, name)
    return name


async def test_a_new_pod_is_pending_and_its_binding_gives_it_a_node_once(kube, bound):
    pod = decode_pod(await kube.get(POD, bound, namespace="default"))
    assert (pod.spec.node_name, pod.status.phase, pod.needs_address) == (bound, "Pending", True)
    with pytest.raises(KubeConflict):
        await bind(kube, bound, "another")


async def test_pods_are_listed_by_their_node(kube, bound):
    page = await kube.list(POD, field_selector=f"spec.nodeName={bound}")
    assert [decoded(raw)["metadata"]["name"] for raw in page.items] == [bound]
    page = await kube.list(POD, namespace="default", field_selector=f"spec.nodeName={bound},status.phase!=Pending")
    assert page.items == ()


async def test_a_pods_addresses_are_written_through_its_status(kube, bound):
    status = {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}, {"ip": "2001:db8::9"}]}
    await kube.patch(POD, bound, {"status": status}, namespace="default", subresource="status")
    pod = decode_pod(await kube.get(POD, bound, namespace="default"))
    assert [entry.ip for entry in pod.status.pod_ips] == ["10.0.0.9", "2001:db8::9"]
    assert pod.status.phase == "Running"


async def test_a_deleted_pod_waits_for_its_kubelet(kube, bound):
    await kube.delete(POD, bound, namespace="default")
    metadata = decoded(await kube.get(POD, bound, namespace="default"))["metadata"]
    assert metadata["deletionTimestamp"]
    assert metadata["deletionGracePeriodSeconds"] == 30
    await kube.delete(POD, bound, namespace="default", grace_period_s=0)
    await until_gone(kube, POD, bound, "default")


async def test_a_pod_without_a_node_goes_at_once(kube, name, cleanup):
    await create_pod(kube, name, cleanup)
    await kube.delete(POD, name, namespace="default")
    with pytest.raises(KubeNotFound):
        await kube.get(POD, name, namespace="default")


async def test_a_taint_is_taken_away_by_a_patch_that_tests_the_list_it_read(kube, name, cleanup):
    ours = {"key": "enitide.io/agent-not-ready", "effect": "NoSchedule"}
    await create_node(kube, name, cleanup, taints=[ours])

    async def untaint():
        # others (on a real cluster the node controller) edit the same list, so this is retried on fresh state
        taints = decoded(await kube.get(NODE, name))["spec"].get("taints", [])
        kept = [taint for taint in taints if taint["key"] != ours["key"]]
        operations = [
            {"op": "test", "path": "/spec/taints", "value": taints},
            {"op": "replace", "path": "/spec/taints", "value": kept},
        ]
        try:
            await kube.patch(NODE, name, operations)
        except KubeConflict:
            return False
        return True

    await until(untaint, "the taint stays")
    node = decode_node(await kube.get(NODE, name))
    assert ours["key"] not in {taint.key for taint in node.spec.taints or ()}
    with pytest.raises(KubeConflict):
        await kube.patch(NODE, name, [{"op": "test", "path": "/spec/taints", "value": [ours]}])


async def test_an_eviction_deletes_the_pod(kube, name, cleanup):
    await create_pod(kube, name, cleanup)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}}
    await kube.create(POD, eviction, namespace="default", name=name, subresource="eviction")
    await until_gone(kube, POD, name, "default")
