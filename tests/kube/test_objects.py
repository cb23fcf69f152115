"""One object: what the server sets, refuses, keeps and counts."""

import asyncio

import pytest
from support.kube_contract import WIDGET, decoded, version, widget

from enitide_api.errors import KubeConflict, KubeError, KubeExists, KubeInvalid, KubeNotFound
from enitide_kube.port import LEASE

pytestmark = pytest.mark.kube


@pytest.fixture
async def made(kube, name, cleanup):
    cleanup(WIDGET, name)
    return decoded(await kube.create(WIDGET, widget(name, size=5)))


async def test_a_new_object_gets_identity_version_and_generation_from_the_server(made):
    metadata = made["metadata"]
    assert metadata["uid"]
    assert metadata["resourceVersion"].isdecimal()
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["generation"] == 1


async def test_defaults_are_put_in_where_the_schema_has_them(made):
    assert made["spec"] == {"size": 5, "mode": "open", "inner": {"depth": 7}}


async def test_a_null_where_there_is_a_default_means_the_default(kube, made, name):
    patched = decoded(await kube.patch(WIDGET, name, [{"op": "replace", "path": "/spec/size", "value": None}]))
    assert patched["spec"]["size"] == 4


async def test_a_taken_name_is_refused_as_existing(kube, made, name):
    with pytest.raises(KubeExists):
        await kube.create(WIDGET, widget(name))


async def test_what_is_not_there_is_not_found_by_any_verb(kube, name):
    with pytest.raises(KubeNotFound):
        await kube.get(WIDGET, name)
    with pytest.raises(KubeNotFound):
        await kube.patch(WIDGET, name, {"spec": {"size": 1}})
    with pytest.raises(KubeNotFound):
        await kube.delete(WIDGET, name)


async def test_an_object_cannot_be_made_in_a_namespace_that_is_not_there(kube, name):
    with pytest.raises(KubeNotFound):
        await kube.create(LEASE, {"metadata": {"name": name}, "spec": {}}, namespace=name)


async def test_an_object_that_claims_a_version_cannot_be_created(kube, name):
    body = widget(name)
    body["metadata"]["resourceVersion"] = "7"
    with pytest.raises(KubeError, match="resourceVersion should not be set"):
        await kube.create(WIDGET, body)


async def test_generated_names_begin_as_asked_and_differ(kube, cleanup):
    body = widget("")
    body["metadata"] = {"generateName": "made-"}
    names = {decoded(await kube.create(WIDGET, body))["metadata"]["name"] for _ in range(3)}
    for generated in names:
        cleanup(WIDGET, generated)
    assert len(names) == 3
    assert all(generated.startswith("made-") for generated in names)


@pytest.mark.parametrize("bad", ["Upper", "under_score", "-dash", "a" * 254])
async def test_a_name_that_is_no_subdomain_is_refused(kube, bad):
    with pytest.raises(KubeInvalid, match=r"metadata\.name"):
        await kube.create(WIDGET, widget(bad))


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"colour": "red"}, "spec.colour"),
        ({"inner": {"width": 1}}, "spec.inner.width"),
        ({"parts": [{"id": "a"}, {"id": "b", "wieght": 1}]}, r"spec.parts\[1\].wieght"),
    ],
)
async def test_unknown_keys_are_refused_by_name_on_create_and_on_patch(kube, made, name, spec, path):
    with pytest.raises(KubeInvalid, match=f'unknown field "{path}"'):
        await kube.create(WIDGET, widget(f"{name}x", **spec))
    # a patch is quoted by a real server, so the quotes in its sentence may be escaped
    with pytest.raises(KubeInvalid, match=f'unknown field \\\\*"{path}'):
        await kube.patch(WIDGET, name, {"spec": spec})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"size": "big"}, "spec.size"),
        ({"size": 101}, "spec.size"),
        ({"size": -1}, "spec.size"),
        ({"mode": "ajar"}, "spec.mode"),
        ({"code": "ABC"}, "spec.code"),
        ({"code": "abcdefghi"}, "spec.code"),
        ({"addresses": ["a", "b", "c", "d", "e"]}, "spec.addresses"),
        ({"tags": {"a": "123456789"}}, "spec.tags"),
        ({"parts": [{"weight": 1}]}, "spec.parts"),
        ({"parts": [{"id": "a"}, {"id": "a"}]}, "spec.parts"),
    ],
)
async def test_a_value_outside_its_schema_is_refused_with_its_field(kube, made, name, spec, field):
    with pytest.raises(KubeInvalid, match=field.replace(".", r"\.")):
        await kube.create(WIDGET, widget(f"{name}x", **spec))
    with pytest.raises(KubeInvalid, match=field.replace(".", r"\.")):
        await kube.patch(WIDGET, name, {"spec": spec})


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"size": 9, "limit": 8}, "size is above limit: raise limit"),
        ({"tags": {"aws:x": "y"}}, "no tag may begin with aws:"),
    ],
)
async def test_a_contradiction_is_refused_with_the_rules_own_sentence(kube, made, name, spec, sentence):
    with pytest.raises(KubeInvalid, match=sentence):
        await kube.create(WIDGET, widget(f"{name}x", **spec))
    with pytest.raises(KubeInvalid, match=sentence):
        await kube.patch(WIDGET, name, {"spec": spec})


async def test_a_transition_rule_lets_a_value_be_set_but_not_changed(kube, made, name):
    await kube.patch(WIDGET, name, {"spec": {"owner": "me"}})
    await kube.patch(WIDGET, name, {"spec": {"size": 6}})
    with pytest.raises(KubeInvalid, match="owner never changes: make another widget"):
        await kube.patch(WIDGET, name, {"spec": {"owner": "you"}})


async def test_a_merge_patch_merges_maps_replaces_lists_and_deletes_by_null(kube, made, name):
    await kube.patch(WIDGET, name, {"spec": {"tags": {"a": "1", "b": "2"}, "addresses": ["x", "y"]}})
    patch = {"spec": {"tags": {"a": None, "c": "3"}, "addresses": ["z"]}}
    spec = decoded(await kube.patch(WIDGET, name, patch))["spec"]
    assert spec["tags"] == {"b": "2", "c": "3"}
    assert spec["addresses"] == ["z"]


async def test_generation_counts_changes_of_the_spec_alone(kube, made, name):
    async def generation(patch, subresource=""):
        return decoded(await kube.patch(WIDGET, name, patch, subresource=subresource))["metadata"]["generation"]

    assert await generation({"metadata": {"labels": {"a": "b"}}}) == 1
    assert await generation({"status": {"phase": "x"}}, "status") == 1
    assert await generation({"spec": {"size": 6}}) == 2
    assert await generation({"spec": {"size": 6}}) == 2


async def test_the_main_resource_and_the_status_each_ignore_the_other_half(kube, name, cleanup):
    cleanup(WIDGET, name)
    created = decoded(await kube.create(WIDGET, widget(name) | {"status": {"phase": "claimed"}}))
    assert "status" not in created
    both = {"spec": {"size": 9}, "status": {"phase": "x"}}
    main = decoded(await kube.patch(WIDGET, name, both))
    assert (main["spec"]["size"], main.get("status")) == (9, None)
    both["spec"]["size"] = 10
    status = decoded(await kube.patch(WIDGET, name, both, subresource="status"))
    assert (status["spec"]["size"], status["status"]) == (9, {"phase": "x"})


async def test_a_write_that_changes_nothing_makes_no_new_version(kube, made, name):
    again = decoded(await kube.patch(WIDGET, name, {"spec": {"size": 5}}))
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_a_patch_that_carries_a_stale_version_is_a_conflict_and_changes_nothing(kube, made, name):
    old = made["metadata"]["resourceVersion"]
    fresh = version(await kube.patch(WIDGET, name, {"metadata": {"resourceVersion": old}, "spec": {"size": 6}}))
    assert int(fresh) > int(old)
    with pytest.raises(KubeConflict):
        await kube.patch(WIDGET, name, {"metadata": {"resourceVersion": old}, "spec": {"size": 7}})
    stale = {"metadata": {"resourceVersion": old}, "status": {"phase": "x"}}
    with pytest.raises(KubeConflict):
        await kube.patch(WIDGET, name, stale, subresource="status")
    assert decoded(await kube.get(WIDGET, name))["spec"]["size"] == 6


async def test_a_patch_for_another_incarnation_is_refused_and_a_stale_version_in_it_speaks_first(kube, made, name):
    with pytest.raises(KubeInvalid, match=r"metadata\.uid"):
        await kube.patch(WIDGET, name, {"metadata": {"uid": "another"}, "spec": {"size": 7}})
    with pytest.raises(KubeConflict):
        await kube.patch(WIDGET, name, {"metadata": {"uid": "another", "resourceVersion": "1"}, "spec": {"size": 7}})


async def test_a_json_patch_whose_test_fails_is_a_conflict_and_does_nothing_at_all(kube, made, name):
    def operations(believed):
        return [
            {"op": "replace", "path": "/spec/mode", "value": "closed"},
            {"op": "test", "path": "/spec/size", "value": believed},
            {"op": "replace", "path": "/spec/size", "value": 6},
        ]

    await kube.patch(WIDGET, name, operations(5))
    with pytest.raises(KubeConflict):
        await kube.patch(WIDGET, name, [{"op": "replace", "path": "/spec/mode", "value": "open"}, *operations(5)[1:]])
    spec = decoded(await kube.get(WIDGET, name))["spec"]
    assert (spec["mode"], spec["size"]) == ("closed", 6)


async def test_a_json_patch_that_breaks_the_schema_is_invalid_not_a_conflict(kube, made, name):
    with pytest.raises(KubeInvalid, match=r"spec\.size"):
        await kube.patch(WIDGET, name, [{"op": "replace", "path": "/spec/size", "value": 1000}])


async def test_a_json_patch_adds_removes_and_escapes(kube, made, name):
    await kube.patch(WIDGET, name, {"spec": {"tags": {"a/b": "1"}, "addresses": ["x", "y"]}})
    operations = [
        {"op": "replace", "path": "/spec/tags/a~1b", "value": "2"},
        {"op": "remove", "path": "/spec/addresses/0"},
        {"op": "add", "path": "/spec/addresses/-", "value": "z"},
        {"op": "add", "path": "/spec/addresses/0", "value": "w"},
    ]
    spec = decoded(await kube.patch(WIDGET, name, operations))["spec"]
    assert spec["tags"] == {"a/b": "2"}
    assert spec["addresses"] == ["w", "y", "z"]


async def test_of_many_writers_that_compare_and_swap_none_loses_an_increment(kube, made, name):
    async def increment():
        while True:
            obj = decoded(await kube.get(WIDGET, name))
            metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
            status = {"count": obj.get("status", {}).get("count", 0) + 1}
            try:
                await kube.patch(WIDGET, name, {"metadata": metadata, "status": status}, subresource="status")
            except KubeConflict:
                continue
            return

    await asyncio.gather(*(increment() for _ in range(8)))
    assert decoded(await kube.get(WIDGET, name))["status"]["count"] == 8


async def test_a_deletion_with_another_uid_is_a_conflict(kube, made, name):
    with pytest.raises(KubeConflict):
        await kube.delete(WIDGET, name, uid="another")
    await kube.delete(WIDGET, name, uid=made["metadata"]["uid"])
    with pytest.raises(KubeNotFound):
        await kube.get(WIDGET, name)


async def test_a_finalizer_holds_a_deleted_object_until_it_is_taken_away(kube, name, cleanup):
    body = widget(name)
    body["metadata"]["finalizers"] = ["contract.enitide.io/hold"]
    cleanup(WIDGET, name)
    await kube.create(WIDGET, body)
    await kube.delete(WIDGET, name)
    held = decoded(await kube.get(WIDGET, name))
    assert held["metadata"]["deletionTimestamp"]
    more = ["contract.enitide.io/hold", "contract.enitide.io/more"]
    with pytest.raises(KubeInvalid):
        await kube.patch(WIDGET, name, {"metadata": {"finalizers": more}})
    await kube.patch(WIDGET, name, {"metadata": {"finalizers": None}})
    with pytest.raises(KubeNotFound):
        await kube.get(WIDGET, name)


async def test_system_fields_cannot_be_written(kube, made, name):
    patch = {"metadata": {"generation": 99, "creationTimestamp": "2001-01-01T00:00:00Z", "labels": {"a": "b"}}}
    metadata = decoded(await kube.patch(WIDGET, name, patch))["metadata"]
    assert (metadata["generation"], metadata["creationTimestamp"]) == (1, made["metadata"]["creationTimestamp"])
    assert metadata["labels"] == {"a": "b"}


@pytest.mark.parametrize("labels", [{"a": "not ok"}, {"a": "x" * 64}, {"-a": "b"}, {"UP.io/a": "b"}])
async def test_labels_that_are_none_are_refused(kube, made, name, labels):
    with pytest.raises(KubeInvalid, match=r"metadata\.labels"):
        await kube.create(WIDGET, widget(f"{name}x", labels))
    with pytest.raises(KubeInvalid, match=r"metadata\.labels"):
        await kube.patch(WIDGET, name, {"metadata": {"labels": labels}})
