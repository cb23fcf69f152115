"""The API store's own rules: pure parts and what only it can be asked (compaction, clocks, shared names)."""

import asyncio
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.virtual_loop import run_virtual, virtual_loop

from enitide_api.errors import KubeGone, KubeInvalid, KubeNotFound
from enitide_kube.port import ENDPOINTSLICE, EVENT, LEASE, NAMESPACE, NODE, POD, Kind
from enitide_lab.apistore import Store, StoreKube, patches, selectors
from enitide_lab.apistore.builtin import CORE_EVENT
from enitide_lab.apistore.jsonpath import find
from enitide_lab.apistore.refusal import Refusal
from enitide_lab.apistore.schema import MISSING, Schema, SchemaError

pytestmark = pytest.mark.unit

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def without_nulls(value):
    return {k: without_nulls(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value


@given(JSON, JSON)
@settings(max_examples=100, deadline=None)
def test_a_merge_patch_applied_twice_is_the_same_as_once_and_changes_nothing_in_place(target, patch):
    before = repr((target, patch))
    once = patches.merge(target, patch)
    assert patches.merge(once, patch) == once
    assert repr((target, patch)) == before


@given(JSON)
@settings(max_examples=50, deadline=None)
def test_a_merge_patch_onto_nothing_is_the_patch_without_its_nulls(patch):
    assert patches.merge(None, patch) == without_nulls(patch)


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "copy", "from": "/a", "path": "/c"}], {"a": [1, 2], "b": {"x": 1}, "c": [1, 2]}),
        ([{"op": "move", "from": "/b/x", "path": "/b/y"}], {"a": [1, 2], "b": {"y": 1}}),
        ([{"op": "move", "from": "/a/0", "path": "/a/-"}], {"a": [2, 1], "b": {"x": 1}}),
        ([{"op": "test", "path": "/b", "value": {"x": 1}}], {"a": [1, 2], "b": {"x": 1}}),
    ],
)
def test_json_patch_operations(operations, result):
    assert patches.json_patch({"a": [1, 2], "b": {"x": 1}}, operations) == result


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/none", "value": 1},
        {"op": "remove", "path": "/a/7"},
        {"op": "add", "path": "/none/deep", "value": 1},
        {"op": "add", "path": "/a/-1", "value": 1},
        {"op": "test", "path": "/a/0", "value": 2},
        {"op": "replace", "path": "/a/0"},
        {"op": "grow", "path": "/a"},
        {"op": "remove", "path": "a"},
    ],
)
def test_a_json_patch_that_does_not_fit_is_refused(operation):
    with pytest.raises(Refusal):
        patches.json_patch({"a": [1, 2]}, [operation])


def test_the_strategic_merge_knows_lists_by_key_atomic_lists_and_directives():
    old = {"conditions": [{"type": "A", "s": 1}, {"type": "B", "s": 1}], "taints": [{"key": "x"}], "finalizers": ["a"]}
    patch = {
        "conditions": [{"type": "B", "s": 2}, {"$patch": "delete", "type": "A"}, {"type": "C"}],
        "$setElementOrder/conditions": [{"type": "C"}, {"type": "B"}],
        "taints": [{"key": "y"}],
        "finalizers": ["b"],
        "$deleteFromPrimitiveList/finalizers": ["a"],
    }
    assert patches.strategic(old, patch) == {
        "conditions": [{"type": "C"}, {"type": "B", "s": 2}],
        "taints": [{"key": "y"}],
        "finalizers": ["b"],
    }
    with pytest.raises(Refusal):
        patches.strategic({}, {"$unheardOf/x": 1})


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("a=1", {"x", "y"}),
        ("a==1,b", {"y"}),
        ("a!=1", {"z", "none"}),
        ("!a", {"none"}),
        ("a in (1, 2),!b", {"x", "z"}),
        ("a notin (1)", {"z", "none"}),
        ("a>1", {"z"}),
        ("a<2", {"x", "y"}),
    ],
)
def test_label_selectors_choose_as_kubernetes_does(selector, chosen):
    labels = {"x": {"a": "1"}, "y": {"a": "1", "b": ""}, "z": {"a": "2"}, "none": {}}
    terms = selectors.parse("", selector, "", {})
    assert {name for name, have in labels.items() if terms.matches({"metadata": {"labels": have}})} == chosen


@pytest.mark.parametrize("wrong", ["a in 1", "a=1=", "(a)", "a,,b", "a > b"])
def test_a_label_selector_that_cannot_be_read_is_refused(wrong):
    with pytest.raises(Refusal):
        selectors.parse("", wrong, "", {})


@pytest.mark.parametrize(
    ("path", "values"),
    [
        (".a.b", [1]),
        (".list[0].n", ["x"]),
        (".list[*].n", ["x", "y"]),
        ('.list[?(@.n=="y")].v', [2]),
        (".a.missing", []),
        (r".a.dotted\.key", [3]),
        ("['a']['b']", [1]),
    ],
)
def test_json_paths_of_columns(path, values):
    obj = {"a": {"b": 1, "dotted.key": 3}, "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}]}
    assert find(obj, path) == values


def test_a_schema_keyword_that_is_not_served_is_refused_not_passed_over():
    with pytest.raises(SchemaError, match="patternProperties"):
        Schema({"type": "object", "patternProperties": {}})


def test_what_did_not_change_is_not_judged_again_but_what_changed_is():
    schema = Schema(
        {"type": "object", "properties": {"a": {"type": "integer", "maximum": 5}, "b": {"type": "integer"}}}
    )
    old, causes = {"a": 9, "b": 1}, []
    schema.validate({"a": 9, "b": 2}, old, "", causes)
    assert causes == []
    schema.validate({"a": 8, "b": 1}, old, "", causes)
    assert [cause.field for cause in causes] == ["a"]
    causes.clear()
    schema.validate({"a": 9, "b": 2}, MISSING, "", causes)
    assert [cause.field for cause in causes] == ["a"]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "format": "ipv4"}, "10.0.0.1", "10.0.0.256"),
        ({"type": "string", "format": "cidr"}, "10.0.0.0/8", "10/64"),
        ({"type": "string", "format": "date-time"}, "2030-01-01T00:00:00Z", "soon"),
        ({"type": "string", "format": "duration"}, "1m30s", "90"),
        ({"x-kubernetes-int-or-string": True}, "80%", True),
        ({"type": "integer"}, 3, True),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": True}, 0.1, 0),
        ({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"}, ["a"], ["a", "a"]),
        ({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "minProperties": 1}, {"a": 1}, {}),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, {"c": 1}),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}, {"a": 1, "b": 1}),
        ({"not": {"required": ["a"]}}, {"b": 1}, {"a": 1}),
    ],
)
def test_schemas_accept_and_refuse(schema, good, bad):
    compiled = Schema(schema)
    for value, wanted in ((good, 0), (bad, 1)):
        causes = []
        compiled.validate(value, MISSING, "x", causes)
        assert min(1, len(causes)) == wanted, causes


async def drain(watch):
    return [event async for event in watch]


def store():
    loop = virtual_loop()
    return Store(clock=loop.wall, monotonic=loop.time, rng=Random(0), uid_source=iter(map(str, range(10**6))).__next__)


def test_after_a_compaction_older_versions_and_tokens_are_gone():
    async def main():
        kube = StoreKube(store())
        for number in range(4):
            await kube.create(NODE, {"metadata": {"name": f"n{number}"}})
        page = await kube.list(NODE, limit=2)
        kube.store.compact("Node")
        with pytest.raises(KubeGone):
            await kube.list(NODE, limit=2, continue_token=page.continue_token)
        await kube.create(NODE, {"metadata": {"name": "late"}})
        assert len(await drain(kube.watch(NODE, resource_version=page.resource_version, timeout_s=1))) == 2
        kube.store.compact("Node")
        with pytest.raises(KubeGone):
            await drain(kube.watch(NODE, resource_version=page.resource_version, timeout_s=1))

    run_virtual(main())


def test_a_list_token_expires_after_five_minutes():
    async def main():
        kube = StoreKube(store())
        for number in range(3):
            await kube.create(NODE, {"metadata": {"name": f"n{number}"}})
        page = await kube.list(NODE, limit=2)
        await asyncio.sleep(299)
        await kube.list(NODE, limit=2, continue_token=page.continue_token)
        await asyncio.sleep(2)
        with pytest.raises(KubeGone):
            await kube.list(NODE, limit=2, continue_token=page.continue_token)

    run_virtual(main())


def test_history_is_bounded_and_who_falls_behind_it_is_told():
    async def main():
        loop = virtual_loop()
        kube = StoreKube(Store(clock=loop.wall, monotonic=loop.time, ring=10))
        since = (await kube.list(NODE)).resource_version
        for number in range(11):
            await kube.create(NODE, {"metadata": {"name": f"n{number}"}})
        with pytest.raises(KubeGone):
            await drain(kube.watch(NODE, resource_version=since, timeout_s=1))

    run_virtual(main())


def test_events_are_one_thing_under_two_names():
    async def main():
        kube = StoreKube(store())
        body = {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Node", "name": "n"},
            "message": "hello",
            "reason": "Why",
            "type": "Normal",
        }
        await kube.create(CORE_EVENT, body, namespace="default")
        new = await kube.list(EVENT, field_selector="regarding.name=n")
        old = await kube.list(CORE_EVENT, field_selector="involvedObject.name=n")
        assert b'"note":"hello"' in new.items[0]
        assert b'"message":"hello"' in old.items[0]
        await kube.patch(CORE_EVENT, "e", {"message": "bye"}, namespace="default")
        assert b'"note":"bye"' in await kube.get(EVENT, "e", namespace="default")

    run_virtual(main())


def test_a_deleted_namespace_goes_when_the_last_thing_in_it_has_gone():
    async def main():
        kube = StoreKube(store())
        await kube.create(NAMESPACE, {"metadata": {"name": "team"}})
        await kube.create(NODE, {"metadata": {"name": "n"}})
        await kube.create(LEASE, {"metadata": {"name": "l"}, "spec": {}}, namespace="team")
        spec = {"nodeName": "n", "containers": [{"name": "c"}]}
        await kube.create(POD, {"metadata": {"name": "p"}, "spec": spec}, namespace="team")
        await kube.delete(NAMESPACE, "team")
        with pytest.raises(KubeNotFound):
            await kube.get(LEASE, "l", namespace="team")
        assert b"Terminating" in await kube.get(NAMESPACE, "team")
        await kube.delete(POD, "p", namespace="team", grace_period_s=0)
        with pytest.raises(KubeNotFound):
            await kube.get(NAMESPACE, "team")

    run_virtual(main())


def test_what_an_object_owned_goes_with_it_unless_another_owner_is_left():
    async def main():
        kube = StoreKube(store())

        async def make(name, *owners):
            references = [
                {"apiVersion": "v1", "kind": "Node", "name": owner["name"], "uid": owner["uid"]} for owner in owners
            ]
            body = {"metadata": {"name": name, "ownerReferences": references}}
            return msgspec.json.decode(await kube.create(NODE, body))["metadata"]

        first, second = await make("first"), await make("second")
        await make("of-one", first)
        await make("of-both", first, second)
        await kube.delete(NODE, "first")
        left = [raw for raw in (await kube.list(NODE)).items if b'"of-' in raw]
        assert len(left) == 1
        assert b'"of-both"' in left[0]

    run_virtual(main())


def test_a_kind_that_nobody_serves_is_not_found_and_an_unknown_top_level_key_is_refused():
    async def main():
        kube = StoreKube(store())
        with pytest.raises(KubeNotFound):
            await kube.list(Kind("nobody.io", "v1", "None", "nones", namespaced=False))
        body = {"metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [], "porst": []}
        with pytest.raises(KubeInvalid, match="porst"):
            await kube.create(ENDPOINTSLICE, body, namespace="default")

    run_virtual(main())


def test_the_same_calls_give_the_same_bytes():
    async def main():
        kube = StoreKube(store())
        await kube.create(NODE, {"metadata": {"generateName": "n-"}})
        await asyncio.sleep(5)
        await kube.create(LEASE, {"metadata": {"name": "l"}, "spec": {}}, namespace="default")
        return (await kube.list(NODE)).items, (await kube.list(LEASE)).items

    assert run_virtual(main()) == run_virtual(main())


def test_a_watch_of_one_node_costs_nothing_for_another():
    async def main():
        kube = StoreKube(store())
        table = kube.store.catalog.tables["", "pods"]
        watches = [
            asyncio.create_task(
                drain(kube.watch(POD, resource_version="", field_selector=f"spec.nodeName=n{i}", timeout_s=9))
            )
            for i in range(50)
        ]
        await asyncio.sleep(1)
        offered = []
        for watcher in table.watchers:
            plain = watcher.offer
            watcher.offer = lambda change, plain=plain: (offered.append(1), plain(change))
        spec = {"nodeName": "n7", "containers": [{"name": "c"}]}
        await kube.create(POD, {"metadata": {"name": "p"}, "spec": spec}, namespace="default")
        seen = [[event.type for event in events] for events in await asyncio.gather(*watches)]
        return len(offered), seen[7], seen[8]

    assert run_virtual(main()) == (1, ["ADDED", "BOOKMARK"], ["BOOKMARK"])
