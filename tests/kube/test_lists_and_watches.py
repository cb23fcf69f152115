"""Many objects: pages, selectors, and following what happens to them."""

import asyncio
import contextlib
from random import Random

import msgspec
import pytest
from support.kube_contract import (
    GADGET,
    WIDGET,
    collect,
    create_crd,
    create_node,
    create_pod,
    decoded,
    until_gone,
    version,
    widget,
    widget_crd,
)

from enitide_api.errors import KubeGone, KubeInvalid, KubeNotFound
from enitide_kube.objects import MetaOnly
from enitide_kube.port import CRD, LEASE, NODE, POD
from enitide_kube.reflector import Reflector

pytestmark = pytest.mark.kube

CROWD = 1200

decode = msgspec.json.Decoder(MetaOnly).decode


@pytest.fixture
async def crowd(kube, name):
    """1,200 objects with the label `crowd=NAME`, made by 32 hands; Leases, because nothing else cares for those."""

    def body(one):
        labels = {"crowd": name, "parity": "odd" if one[-1] in "13579" else "even"}
        return {"metadata": {"name": one, "labels": labels}, "spec": {"holderIdentity": "first"}}

    async def hand(names):
        for one in names:
            await kube.create(LEASE, body(one), namespace="default")

    async def unmake(names):
        for one in names:
            await kube.delete(LEASE, one, namespace="default")

    for work in (hand, unmake):
        names = iter([f"{name}-{number:04}" for number in range(CROWD)])
        await asyncio.gather(*(work(names) for _ in range(32)))
        if work is hand:
            yield name


async def pages(kube, **selectors):
    found, token = [], ""
    while True:
        page = await kube.list(LEASE, namespace="default", limit=500, continue_token=token, **selectors)
        found.append(page)
        token = page.continue_token
        if not token:
            return found


async def test_a_crowd_is_listed_in_pages_of_one_snapshot_and_by_selectors(kube, crowd):
    selection = {"namespace": "default", "label_selector": f"crowd={crowd}"}
    first = await kube.list(LEASE, limit=500, **selection)
    patched = f"{crowd}-{CROWD - 1:04}"
    await kube.patch(LEASE, patched, {"spec": {"holderIdentity": "second"}}, namespace="default")
    assert len(first.items) == 500
    rest, token = [], first.continue_token
    while token:
        page = await kube.list(LEASE, limit=500, continue_token=token, **selection)
        assert page.resource_version == first.resource_version
        rest.extend(page.items)
        token = page.continue_token
    objects = [decoded(raw) for raw in (*first.items, *rest)]
    names = [obj["metadata"]["name"] for obj in objects]
    assert names == sorted(names)
    assert len(set(names)) == CROWD
    assert objects[-1]["spec"]["holderIdentity"] == "first", "the write between two pages is not in the snapshot"

    odd = await pages(kube, label_selector=f"crowd={crowd},parity in (odd,strange)")
    assert sum(len(page.items) for page in odd) == CROWD // 2
    none = await pages(kube, label_selector=f"crowd={crowd},!parity")
    assert sum(len(page.items) for page in none) == 0
    one = await kube.list(LEASE, namespace="default", field_selector=f"metadata.name={crowd}-0007")
    assert [decoded(raw)["metadata"]["name"] for raw in one.items] == [f"{crowd}-0007"]

    reflector = Reflector(kube, LEASE, decode, namespace="default", page=500, rng=Random(0))
    task = asyncio.create_task(reflector.run())
    await asyncio.wait_for(reflector.synced.wait(), 30)
    task.cancel()
    assert {f"default/{one}" for one in names} <= set(reflector.store)


async def test_a_selector_that_cannot_be_read_or_served_is_refused(kube):
    with pytest.raises(KubeInvalid):
        await kube.list(WIDGET, field_selector="spec.size=4")
    with pytest.raises(KubeInvalid):
        await kube.list(WIDGET, label_selector="a in b")


async def test_a_watch_tells_each_change_after_its_version_in_order(kube, name, cleanup):
    cleanup(WIDGET, name)
    since = version(await kube.create(WIDGET, widget(name, {"w": name})))
    await kube.patch(WIDGET, name, {"spec": {"size": 6}})
    watch = kube.watch(WIDGET, resource_version=since, label_selector=f"w={name}", timeout_s=20)
    await kube.patch(WIDGET, name, {"spec": {"size": 6}})  # changes nothing: no event
    await kube.patch(WIDGET, name, {"status": {"phase": "x"}}, subresource="status")
    last = version(await kube.get(WIDGET, name))
    await kube.delete(WIDGET, name)
    events = await collect(watch, 3)
    assert [(kind, obj["spec"]["size"], obj.get("status")) for kind, _, obj in events] == [
        ("MODIFIED", 6, None),
        ("MODIFIED", 6, {"phase": "x"}),
        ("DELETED", 6, {"phase": "x"}),
    ]
    versions = [int(obj["metadata"]["resourceVersion"]) for _, _, obj in events]
    assert versions == sorted(versions)
    assert versions[-1] > int(last), "a deletion has a version of its own"


async def test_an_object_enters_and_leaves_a_selection_as_added_and_deleted(kube, name, cleanup):
    cleanup(WIDGET, name)
    since = version(await kube.create(WIDGET, widget(name, size=3)))
    watch = kube.watch(WIDGET, resource_version=since, label_selector=f"in={name}", timeout_s=20)
    await kube.patch(WIDGET, name, {"metadata": {"labels": {"in": name}}})
    await kube.patch(WIDGET, name, {"spec": {"size": 8}})
    await kube.patch(WIDGET, name, {"spec": {"size": 9}, "metadata": {"labels": {"in": "no"}}})
    events = await collect(watch, 3)
    assert [(kind, obj["spec"]["size"]) for kind, _, obj in events] == [("ADDED", 3), ("MODIFIED", 8), ("DELETED", 8)]


async def test_a_watch_of_one_node_sees_a_pod_come_when_it_is_bound(kube, name, cleanup):
    await create_node(kube, name, cleanup)
    since = version(await create_pod(kube, name, cleanup))
    watch = kube.watch(POD, resource_version=since, field_selector=f"spec.nodeName={name}", timeout_s=20)
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"name": name}}
    await kube.create(POD, binding, namespace="default", name=name, subresource="binding")
    kind, _, obj = (await collect(watch, 1))[0]
    assert (kind, obj["spec"]["nodeName"]) == ("ADDED", name)


async def test_a_watch_ends_by_itself_and_says_how_far_it_saw(kube, name, cleanup):
    cleanup(WIDGET, name)
    since = version(await kube.create(WIDGET, widget(name)))
    bookmarks, opened = [], asyncio.Event()

    async def follow():
        selector = "metadata.name=nobody"
        async for event in kube.watch(
            WIDGET, resource_version=since, field_selector=selector, timeout_s=4, on_open=opened.set
        ):
            assert event.type == "BOOKMARK"
            bookmarks.append(int(version(event.object)))

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        await opened.wait()
        changed = int(version(await kube.patch(WIDGET, name, {"spec": {"size": 6}})))
    assert bookmarks
    assert bookmarks[-1] >= changed


async def test_a_version_from_before_all_history_is_gone(kube):
    with pytest.raises(KubeGone):
        async for _ in kube.watch(WIDGET, resource_version="1", timeout_s=5):
            pass


async def test_two_watchers_are_told_the_same_in_the_same_order(kube, name, cleanup):
    cleanup(WIDGET, name)
    since = version(await kube.create(WIDGET, widget(name, size=0)))
    watches = [
        kube.watch(WIDGET, resource_version=since, field_selector=f"metadata.name={name}", timeout_s=20)
        for _ in range(2)
    ]
    readers = [asyncio.create_task(collect(watch, 20)) for watch in watches]
    for size in range(1, 21):
        await kube.patch(WIDGET, name, {"spec": {"size": size}})
    seen = [[obj["spec"]["size"] for _, _, obj in await reader] for reader in readers]
    assert seen == [list(range(1, 21))] * 2


async def test_a_definition_takes_its_objects_with_it_and_its_path_is_no_more(kube):
    definition = widget_crd(GADGET)
    crd_name = definition["metadata"]["name"]
    try:
        await create_crd(kube, definition)
        await kube.create(GADGET, widget("one") | {"apiVersion": GADGET.api_version, "kind": GADGET.kind})
    finally:
        with contextlib.suppress(KubeNotFound):
            await kube.delete(CRD, crd_name)
    await until_gone(kube, CRD, crd_name)
    await until_gone(kube, GADGET, "one")


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "object", "properties": {"size": {"type": "intx"}}},
        {
            "type": "object",
            "properties": {"size": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.size <", "message": "broken"}],
        },
        {"type": "object", "properties": {"size": {"type": "integer", "default": "many"}}},
    ],
)
async def test_a_definition_whose_schema_is_wrong_is_refused(kube, spec):
    with pytest.raises(KubeInvalid):
        await kube.create(CRD, widget_crd(GADGET, spec))


async def test_nodes_and_pods_keep_what_may_not_change(kube, name, cleanup):
    await create_node(kube, name, cleanup)
    await kube.patch(NODE, name, {"spec": {"providerID": "aws:///us-west-2a/i-1"}})
    with pytest.raises(KubeInvalid, match="providerID"):
        await kube.patch(NODE, name, {"spec": {"providerID": "aws:///us-west-2a/i-2"}})
    await create_pod(kube, name, cleanup)
    with pytest.raises(KubeInvalid, match="spec"):
        await kube.patch(POD, name, {"spec": {"nodeName": name}}, namespace="default")
