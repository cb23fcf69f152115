"""One identity per distinct set of relevant labels, however pods race, namespaces change and operators die."""

import asyncio

import msgspec
import pytest
from support.directory_sim import API, Operator, World, until
from support.virtual_loop import run_virtual

from enitide_kube.port import EVENT, NAMESPACE, NETWORKPOLICY, POD, SECURITYIDENTITY
from enitide_lab.apistore.faults import Fault
from enitide_operator.identities import ledger
from enitide_operator.identities.decide import QUARANTINE_S, UNUSED_S
from enitide_operator.identities.numbers import Numbers
from enitide_policy.labels import IdentityLabels

pytestmark = pytest.mark.sim


def simulate(scene, **settings):
    async def main():
        world = World()
        await world.install()
        await world.namespace("d")
        operator = Operator(world, **settings)
        await operator.lead()
        await scene(world, operator)
        operator.stop()

    run_virtual(main())


def test_a_pod_has_its_identity_before_it_is_scheduled():
    async def scene(world, operator):
        await world.pod("a", labels={"app": "web"})
        await until(lambda: world.identities(), 1.0)
        (identity,) = world.identities().values()
        assert identity.spec.pod_labels == {"app": "web"}
        assert identity.spec.id >= 256

    simulate(scene, identity_labels=["app"])


def test_pods_that_race_share_one_identity_for_each_set_of_relevant_labels():
    async def scene(world, operator):
        many = (world.pod(f"p{i}", labels={"app": f"a{i % 7}", "unique": str(i)}) for i in range(700))
        await asyncio.gather(*many)
        await until(lambda: len(world.identities()) == 7)
        await asyncio.sleep(10)
        assert len(world.identities()) == 7
        assert operator.directory.writer.acts == {"create": 7}

    simulate(scene, identity_labels=["app"])


def test_fifty_allocators_that_race_for_the_same_labels_make_no_duplicate():
    """No lease holds them apart here: names that follow from labels do."""

    async def main():
        world = World()
        await world.install()
        await world.namespace("d")
        operators = [Operator(world, f"op-{i}", identity_labels=["app"]) for i in range(50)]
        for each in operators:
            await each.lead()
        for i in range(40):
            await world.pod(f"p{i}", labels={"app": f"a{i}"})
        labels = lambda: [each.spec.pod_labels["app"] for each in world.identities().values()]
        await until(lambda: len(labels()) == 40, 60)
        await asyncio.sleep(30)
        assert sorted(labels()) == sorted(f"a{i}" for i in range(40))
        for each in operators:
            each.stop()

    run_virtual(main())


def test_a_namespace_relabelled_under_five_thousand_pods_makes_exactly_one_new_identity():
    async def scene(world, operator):
        for i in range(5000):
            await world.pod(f"p{i}", labels={"app": "web"})
        await until(lambda: len(world.identities()) == 1)
        await world.kube.patch(NAMESPACE, "d", {"metadata": {"labels": {"team": "blue"}}})
        await until(lambda: len(world.identities()) == 2, 5)
        await asyncio.sleep(60)
        assert len(world.identities()) == 2
        assert operator.directory.writer.acts["create"] == 2

    simulate(scene, identity_labels=["app", "namespace:team"])


def test_a_policy_that_names_a_new_key_makes_new_identities_before_anything_moves_to_them():
    async def scene(world, operator):
        await world.node("n", own="10.0.0.1", addresses=("10.0.0.2", "10.0.0.3"))
        a = await world.pod("a", "n", labels={"app": "web", "tier": "front"})
        b = await world.pod("b", "n", labels={"app": "web", "tier": "back"})
        await world.claim("n", {a: ("10.0.0.2",), b: ("10.0.0.3",)})
        await until(lambda: len(world.view()) == 3)
        before = world.view()["10.0.0.2"][0]
        assert world.view()["10.0.0.3"][0] == before
        # identities are slow to be made: whatever moves early would be caught
        slow = Fault(kind="SecurityIdentity", verbs=frozenset({"create"}), delay_s=1.0, times=None)
        world.store.faults.add(slow)
        await world.policy("p", "tier")
        seen = set()

        def moved():
            view = world.view()
            numbers = {view["10.0.0.2"][0], view["10.0.0.3"][0]}
            seen.update(numbers)
            assert numbers <= set(world.identities()), "a record speaks of an identity that does not exist"
            return before not in numbers

        await until(moved, 5)
        tiers = {
            address: world.identities()[n].spec.pod_labels["tier"]
            for address, (n, _) in world.view().items()
            if n > 255
        }
        assert tiers == {"10.0.0.2": "front", "10.0.0.3": "back"}
        assert before in seen
        await until(lambda: world.identities()[before].status.retired, UNUSED_S + 10, 1)

    simulate(scene, identity_labels=["app"])


def test_a_restarted_operator_writes_nothing():
    async def main():
        world = World()
        await world.install()
        await world.namespace("d", team="blue")
        await world.policy("p", "app")
        await world.node("n", own="10.0.0.1", prefixes=("10.0.1.0/28",))
        uids = [await world.pod(f"p{i}", "n", labels={"app": f"a{i % 3}"}) for i in range(9)]
        await world.claim("n", {uid: (f"10.0.1.{i}",) for i, uid in enumerate(uids)})
        first = Operator(world, "first")
        await first.lead()
        await until(lambda: len(world.view()) == 10 and world.keys() is not None)
        before = world.view()
        assert world.keys().pod_labels == ("app",)
        first.stop()
        # what policies say is heard last: until then no identity fits, and yet nothing may be written
        slow = Fault(kind="NetworkPolicy", verbs=frozenset({"list"}), delay_s=3.0, times=None, client="second")
        world.store.faults.add(slow)
        second = Operator(world, "second")
        await second.lead()
        await asyncio.sleep(120)
        assert world.writes("second") == 0
        assert world.view() == before
        second.stop()

    run_virtual(main())


def test_an_operator_that_starts_writes_nothing_before_it_has_looked_at_every_pod(monkeypatch):
    """With an API server that answers at once and keys that it takes long to follow."""
    monkeypatch.setattr(ledger, "SLICE", 1)

    async def main():
        world = World()
        await world.install()
        await world.namespace("d")
        await world.policy("p", "app")
        await world.node("n", own="10.0.0.1", prefixes=("10.0.1.0/24",))
        labels = [{"app": f"a{i % 3}", "unique": str(i)} for i in range(200)]
        uids = [await world.pod(f"p{i}", "n", labels=each) for i, each in enumerate(labels)]
        await world.claim("n", {uid: (f"10.0.1.{i}",) for i, uid in enumerate(uids)})
        first = Operator(world, "first")
        await first.lead()
        await until(lambda: len(world.view()) == 201 and world.keys() is not None)
        first.stop()
        slow = Fault(kind="NetworkPolicy", verbs=frozenset({"list"}), delay_s=3.0, times=None, client="second")
        world.store.faults.add(slow)
        second = Operator(world, "second", latency_s=0.0)
        await second.lead()
        await asyncio.sleep(30)
        assert world.writes("second") == 0
        second.stop()

    run_virtual(main())


def test_a_new_leader_whose_mirror_lags_gives_no_number_twice():
    async def main():
        world = World()
        await world.install()
        await world.namespace("d")
        first, second = (Operator(world, name, identity_labels=["app"]) for name in ("first", "second"))
        await first.lead()
        for mirror in second.directory.mirrors:
            await mirror.synced.wait()
        blind = Fault(kind="SecurityIdentity", verbs=frozenset({"watch"}), code=503, times=None, client="second")
        world.store.faults.add(blind)
        world.store.drop_watches("SecurityIdentity")
        await world.pod("a", labels={"app": "a"})
        await until(lambda: world.identities(), 1)
        first.stop()
        await world.kube.delete(POD, "a", namespace="d", grace_period_s=0)
        await world.pod("b", labels={"app": "b"})
        await second.lead()
        await until(lambda: len(world.identities()) == 2, 1)  # which asserts that numbers are unique
        second.stop()

    run_virtual(main())


def test_an_identity_that_nobody_uses_is_retired_then_deleted_and_only_then_may_its_number_be_another_s():
    async def scene(world, operator):
        await world.pod("a", labels={"app": "web"})
        await until(lambda: world.identities())
        (number,) = world.identities()
        await world.kube.delete(POD, "a", namespace="d", grace_period_s=0)
        await until(lambda: world.identities()[number].status.retired, UNUSED_S + 10, 1)
        await world.pod("b", labels={"app": "other"})
        await until(lambda: len(world.identities()) == 2)
        assert number in world.identities()
        gone_s = await until(lambda: number not in world.identities(), QUARANTINE_S + 60, 1)
        assert gone_s > QUARANTINE_S - 10

    simulate(scene, identity_labels=["app"])


def test_labels_that_come_back_get_their_old_identity():
    async def scene(world, operator):
        await world.pod("a", labels={"app": "web"})
        await until(lambda: world.identities())
        (number,) = world.identities()
        await world.kube.delete(POD, "a", namespace="d", grace_period_s=0)
        await until(lambda: world.identities()[number].status.retired, UNUSED_S + 10, 1)
        await world.pod("b", labels={"app": "web"})
        await until(lambda: not world.identities()[number].status.retired, 2)
        await asyncio.sleep(2 * QUARANTINE_S)
        assert list(world.identities()) == [number]

    simulate(scene, identity_labels=["app"])


def test_nothing_is_collected_while_the_view_of_pods_is_stale():
    async def scene(world, operator):
        await world.pod("a", labels={"app": "web"})
        await until(lambda: world.identities())
        (number,) = world.identities()
        await world.kube.delete(POD, "a", namespace="d", grace_period_s=0)
        await asyncio.sleep(5)
        world.store.faults.add(Fault(verbs=frozenset({"list", "watch"}), kind="Pod", code=503, client="op", times=None))
        world.store.drop_watches("Pod")
        await asyncio.sleep(4 * UNUSED_S)
        assert not world.identities()[number].status.retired
        world.store.faults.clear()
        await until(lambda: world.identities()[number].status.retired, 2 * UNUSED_S, 1)

    simulate(scene, identity_labels=["app"])


def test_two_hundred_unused_identities_are_collected_each_second_and_no_live_one():
    async def scene(world, operator):
        await world.pod("alive", labels={"app": "alive"})
        for i in range(1200):
            await world.pod(f"p{i}", labels={"app": f"a{i}"})
        acts = operator.directory.writer.acts
        await until(lambda: acts["create"] == 1201, 60)
        for i in range(1200):
            await world.kube.delete(POD, f"p{i}", namespace="d", grace_period_s=0)
        for act, within_s in (("retire", UNUSED_S), ("delete", QUARANTINE_S)):
            await until(lambda act=act: acts[act], within_s + 10, 0.05)
            took_s = await until(lambda act=act: acts[act] == 1200, 60, 0.05)
            assert 1200 / took_s >= 400  # half of what is asked: the other half is the other phase's
        (left,) = world.identities().values()
        assert left.spec.pod_labels == {"app": "alive"}

    simulate(scene, identity_labels=["app"])


def test_what_somebody_else_wrote_is_undone_and_counted():
    async def scene(world, operator):
        await world.pod("a", labels={"app": "web"})
        await until(lambda: world.identities())
        (number,) = world.identities()
        real = world.identities()[number]
        forged = {"id": 999, "namespace": "kube-system", "podLabels": {"app": "admin"}}
        names = ("forged", IdentityLabels("kube-system", pod=(("app", "admin"),)).object_name())
        for spec, name in zip((forged, forged | {"id": number}), names, strict=True):
            body = {"apiVersion": API, "kind": "SecurityIdentity", "metadata": {"name": name}, "spec": spec}
            await world.kube.create(SECURITYIDENTITY, body)
        await until(lambda: "forged" not in {each.metadata.name for each in world.store_objects(SECURITYIDENTITY)})
        await world.kube.delete(SECURITYIDENTITY, real.metadata.name)
        await until(
            lambda: [each.metadata.uid for each in world.identities().values()] not in ([], [real.metadata.uid]), 5
        )
        await asyncio.sleep(5)
        (again,) = (each for each in world.identities().values() if each.metadata.name == real.metadata.name)
        assert again.spec == real.spec
        assert operator.metrics.foreign_writes.labels("SecurityIdentity")._value.get() >= 2

    simulate(scene, identity_labels=["app"])


def test_a_cluster_has_room_for_more_than_a_million_identities_and_says_when_it_is_full():
    numbers = Numbers(0)
    taken = {numbers.take() for _ in range(1_000_000)}
    assert len(taken) == 1_000_000
    assert None not in taken
    numbers._taken[:] = b"\1" * len(numbers._taken)
    assert numbers.take() is None


def test_a_number_that_came_free_is_the_last_to_be_given_again():
    numbers = Numbers(3)
    first = numbers.take()
    numbers.free(first)
    assert [numbers.take() for _ in range(3)] == [first + 1, first + 2, first + 3]


def test_what_is_wrong_with_a_policy_stands_as_an_event_on_that_policy_once():
    async def scene(world, operator):
        spec = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]}
        body = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "bad"},
            "spec": spec,
        }
        await world.kube.create(NETWORKPOLICY, body, namespace="d")
        await world.kube.patch(NETWORKPOLICY, "bad", {"metadata": {"labels": {"a": "b"}}}, namespace="d")
        await asyncio.sleep(5)
        events = [msgspec.json.decode(raw) for raw in (await world.kube.list(EVENT)).items]
        (event,) = (each for each in events if each["regarding"]["kind"] == "NetworkPolicy")
        assert event["regarding"]["name"] == "bad"
        assert "spec.ingress[0].from[0].ipBlock.cidr" in event["note"]
        assert event.get("series") is None

    simulate(scene)
