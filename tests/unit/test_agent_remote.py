"""What an agent keeps of batches: the newest record wins, whatever the order in which batches are heard."""

from ipaddress import ip_address
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enitide_api.resources import BatchEndpoint, EndpointBatch, EndpointBatchSpec, Metadata, SecurityIdentity
from enitide_enidp.policy.own import Identities, OwnPods, decode_identity
from enitide_enidp.policy.remote import Packer, Remote, address_of, key_of
from enitide_policy.identities import spec_of
from enitide_policy.labels import IdentityLabels, PodFacts, Relevance

pytestmark = pytest.mark.unit


def batch(packer, name, *records):
    found = EndpointBatch(metadata=Metadata(name=name), spec=EndpointBatchSpec(endpoints=records))
    return packer.decode(msgspec.json.encode(found))


def record(address, identity, revision, *, uid="u", node="n", **more):
    return BatchEndpoint(addresses=(address,), pod_uid=uid, identity=identity, node=node, revision=revision, **more)


@pytest.mark.parametrize("text", ["10.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "2600:1f00::ffff"])
def test_an_address_is_a_number_and_back(text):
    assert address_of(key_of(ip_address(text))) == ip_address(text)


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_stale_record_loses_against_the_address_s_new_pod_in_whichever_order_they_come(order):
    packer, remote = Packer("me"), Remote()
    batches = {
        "a": batch(packer, "a", record("10.0.0.1", 300, 5, uid="old")),
        "b": batch(packer, "b", record("10.0.0.1", 400, 9, uid="new")),
    }
    for name in order:
        remote.on_batch(name, None, batches[name])
    assert remote.identity_of(ip_address("10.0.0.1")) == 400
    remote.on_batch("a", batches["a"], None)
    assert remote.identity_of(ip_address("10.0.0.1")) == 400
    assert remote.take() == {key_of(ip_address("10.0.0.1")): 400}


def test_a_record_that_moves_to_another_batch_is_never_missing():
    packer, remote = Packer("n"), Remote()
    a = batch(packer, "a", record("10.0.0.1", 300, 5))
    remote.on_batch("a", None, a)
    remote.take()
    remote.on_batch("b", None, batch(packer, "b", record("10.0.0.1", 300, 5)))
    remote.on_batch("a", a, None)
    assert remote.take() == {}
    assert remote.identity_of_pod("u") == 300


def test_a_removal_leaves_nobody_at_the_address():
    packer, remote = Packer("me"), Remote()
    a, b = batch(packer, "a", record("10.0.0.1", 300, 5)), batch(packer, "b", record("10.0.0.1", 0, 6, uid=""))
    remote.on_batch("a", None, a)
    remote.on_batch("b", None, b)
    assert remote.take() == {key_of(ip_address("10.0.0.1")): 0}
    remote.on_batch("a", a, None)
    remote.on_batch("b", b, None)
    assert not remote.take()
    assert len(remote) == 0


def test_this_node_s_own_addresses_are_the_host_and_its_pods_are_known_by_uid():
    packer, remote = Packer("me"), Remote()
    node = record("10.0.0.1", 6, 1, uid="", node="me", subnets=("10.0.0.0/24",))
    other = record("10.0.0.2", 6, 2, uid="", node="other", subnets=("10.0.0.0/24",))
    first = batch(packer, "a", node, other, record("10.0.0.3", 300, 3, uid="pod", node="me"))
    remote.on_batch("a", None, first)
    assert dict(remote.everything()) == {
        key_of(ip_address(address)): number for address, number in (("10.0.0.1", 1), ("10.0.0.2", 6), ("10.0.0.3", 300))
    }
    assert remote.identity_of_pod("pod") == 300
    assert set(remote.subnets) == {"10.0.0.0/24"}
    remote.on_batch("a", first, None)
    assert not remote.subnets
    assert remote.identity_of_pod("pod") == 0


def test_an_address_that_is_none_is_counted_and_stops_no_other():
    found = batch(Packer("me"), "a", record("nonsense", 300, 1), record("10.0.0.3", 300, 3))
    assert found.unreadable == 1
    assert [entry.identity for entry in found.entries()] == [300]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_is_heard_in_whatever_batches_equals_a_fresh_reading_of_what_stands(seed):
    rng, packer, remote, standing = Random(seed), Packer("me"), Remote(), {}
    revision, shown = 0, {}
    for _ in range(60):
        name = rng.choice("abcde")
        old = standing.get(name)
        records = []
        for _ in range(rng.randrange(4)):
            revision += 1
            records.append(
                record(f"10.0.0.{rng.randrange(5)}", rng.choice([0, 300, 400]), revision, uid=f"u{revision}")
            )
        # what a batch no longer says was overtaken elsewhere or is a removal's: an older record never comes back
        kept = [each for each in (old[1] if old else ()) if rng.random() < 0.8 or is_top(each, standing)]
        new = batch(packer, name, *kept, *records)
        remote.on_batch(name, old[0] if old else None, new)
        standing[name] = new, (*kept, *records)
        for key, number in remote.take().items():
            shown[key] = number
            if not number:
                del shown[key]
        fresh = Remote()
        for each, (packed, _) in standing.items():
            fresh.on_batch(each, None, packed)
        assert dict(remote.everything()) == dict(fresh.everything()) == shown


def is_top(record, standing):
    rivals = (each for _, records in standing.values() for each in records)
    return all(each.revision <= record.revision for each in rivals if set(each.addresses) & set(record.addresses))


# --- own pods ------------------------------------------------------------------------------------------------------


class Scene:
    def __init__(self, **told):
        self.heard = []
        self.identities = Identities(
            lambda number, labels: self.heard.append(number), lambda number: self.heard.append(-number)
        )
        self.own = OwnPods(self.identities, lambda uid: told.get(uid, 0))
        self.own.relevance = Relevance(pod_keys=frozenset({"app"}))
        self.own.namespaces["d"] = {"team": "x"}

    def identity(self, number, name="", retired="", **labels):
        wanted = IdentityLabels("d", pod=tuple(sorted(labels.items())))
        name = name or wanted.object_name()
        made = SecurityIdentity(metadata=Metadata(name=name), spec=spec_of(wanted, number))
        raw = msgspec.to_builtins(made) | {"status": {"retired": retired}}
        self.identities.on_object(name, None, decode_identity(msgspec.json.encode(raw)))
        return name


def test_a_pod_s_identity_is_found_by_its_labels_before_any_record_tells_of_it():
    scene = Scene()
    scene.own.put("u", PodFacts("d", labels=(("app", "web"), ("hash", "1"))))
    assert scene.own.identity_of("u") == 0
    assert "SecurityIdentity" in scene.own.why_not("u")
    scene.identity(300, app="web")
    assert scene.own.identity_of("u") == 300


def test_what_the_operator_tells_of_a_pod_counts_more_than_its_labels_but_only_if_that_identity_is_known():
    scene = Scene(u=400)
    scene.own.put("u", PodFacts("d", labels=(("app", "web"),)))
    scene.identity(300, app="web")
    assert scene.own.identity_of("u") == 300
    scene.identity(400, app="other")
    assert scene.own.identity_of("u") == 400


def test_a_pod_without_its_namespace_has_no_identity_and_the_reason_says_so():
    scene = Scene()
    scene.own.put("u", PodFacts("elsewhere"))
    assert scene.own.identity_of("u") == 0
    assert "namespace elsewhere" in scene.own.why_not("u")
    assert "told this node of the pod" in scene.own.why_not("v")


def test_an_identity_whose_name_is_not_that_of_its_labels_is_refused():
    scene = Scene()
    scene.identity(300, name="forged", app="admin")
    assert scene.heard == []
    assert scene.identities.refused == 1


def test_a_second_object_cannot_take_a_number_that_another_has():
    scene = Scene()
    scene.identity(300, app="web")
    scene.identity(300, app="admin")
    assert scene.identities.labels[300].pod_labels == {"app": "web"}
    assert scene.identities.refused == 1


def test_a_retired_identity_is_forgotten_and_a_revived_one_is_learned_again():
    scene = Scene()
    scene.identity(300, app="web")
    scene.identity(300, app="web", retired="2026-01-01T00:00:00Z")
    scene.identity(300, app="web")
    assert scene.heard == [300, -300, 300]
