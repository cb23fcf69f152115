"""Endpoint batches: who is believed, what wins, what a restart or a lost answer changes (nothing)."""

import asyncio

import pytest
from support.directory_sim import API, Operator, World, until
from support.virtual_loop import run_virtual

from enitide_kube.port import ENDPOINTBATCH, ENINODE, POD
from enitide_lab.apistore.faults import Fault
from enitide_operator.batches.publisher import writes_per_s
from enitide_policy.numbers import Reserved

pytestmark = pytest.mark.sim


def simulate(scene):
    async def main():
        world = World()
        await world.install()
        await world.namespace("d")
        for name, third in (("one", 1), ("two", 2)):
            addresses = tuple(f"10.0.{third}.{i}" for i in range(10, 20))
            await world.node(name, own=f"10.0.{third}.1", addresses=addresses, prefixes=(f"10.0.{third}.32/28",))
        operator = Operator(world, identity_labels=["app"])
        await operator.lead()
        await scene(world, operator)
        operator.stop()

    run_virtual(main())


def test_from_a_report_to_the_batch_it_takes_less_than_half_a_second():
    async def scene(world, operator):
        uid = await world.pod("a", "one", labels={"app": "web"})
        await asyncio.sleep(5)
        await world.claim("one", {uid: ("10.0.1.10",)})
        assert await until(lambda: "10.0.1.10" in world.view(), 1) < 0.5
        (number,) = world.identities()
        assert world.view()["10.0.1.10"] == (number, uid)

    simulate(scene)


def test_every_node_s_own_addresses_are_those_of_a_remote_node():
    async def scene(world, operator):
        await until(lambda: world.view() == {"10.0.1.1": (6, "one"), "10.0.2.1": (6, "two")}, 2)
        assert Reserved.REMOTE_NODE == 6
        await world.kube.delete(ENINODE, "two")
        await until(lambda: world.view() == {"10.0.1.1": (6, "one")}, 2)

    simulate(scene)


@pytest.mark.parametrize(
    ("address", "words"),
    [("10.0.2.10", "is on no ENI of one"), ("10.0.2.33", "is on no ENI of one"), ("nonsense", "is on no ENI of one")],
)
def test_an_agent_that_claims_another_node_s_address_is_not_believed_and_it_is_told(address, words):
    async def scene(world, operator):
        victim = await world.pod("victim", "two", labels={"app": "db"})
        thief = await world.pod("thief", "one", labels={"app": "evil"})
        await world.claim("two", {victim: ("10.0.2.10",)})
        await until(lambda: "10.0.2.10" in world.view())
        await world.claim("one", {thief: (address, "10.0.1.11")})
        await until(lambda: "10.0.1.11" in world.view())
        await asyncio.sleep(10)
        assert world.view()["10.0.2.10"][1] == victim
        assert address == "10.0.2.10" or address not in world.view()
        assert operator.metrics.endpoints_doubted._value.get() == 1
        notes = [series.note for series in operator.events._series.values()]
        assert any(words in note for note in notes), notes

    simulate(scene)


def test_an_agent_that_claims_another_node_s_pod_is_not_believed():
    async def scene(world, operator):
        victim = await world.pod("victim", "two", labels={"app": "db"})
        await world.claim("two", {victim: ("10.0.2.10",)})
        await until(lambda: "10.0.2.10" in world.view())
        await world.claim("one", {victim: ("10.0.1.10",)})
        await asyncio.sleep(5)
        assert world.view()["10.0.2.10"][1] == victim
        assert "10.0.1.10" not in world.view()
        assert operator.metrics.endpoints_doubted._value.get() == 1

    simulate(scene)


def test_an_address_that_another_pod_gets_is_that_pod_s_at_once():
    async def scene(world, operator):
        old = await world.pod("old", "one", labels={"app": "web"})
        await world.claim("one", {old: ("10.0.1.10",)})
        await until(lambda: world.view().get("10.0.1.10", (0, ""))[1] == old)
        new = await world.pod("new", "one", labels={"app": "db"})
        await world.claim("one", {new: ("10.0.1.10",)})  # the old pod's object is still there
        await until(lambda: world.view()["10.0.1.10"][1] == new, 1)
        await world.kube.delete(POD, "old", namespace="d", grace_period_s=0)
        await asyncio.sleep(5)
        assert world.view()["10.0.1.10"][1] == new

    simulate(scene)


def test_a_pod_that_went_is_nobody_within_half_a_second():
    async def scene(world, operator):
        uid = await world.pod("a", "one")
        await world.claim("one", {uid: ("10.0.1.10",)})
        await until(lambda: "10.0.1.10" in world.view())
        await world.kube.delete(POD, "a", namespace="d", grace_period_s=0)
        assert await until(lambda: "10.0.1.10" not in world.view(), 1) < 0.5

    simulate(scene)


@pytest.mark.parametrize("lost", [True, False])
def test_writes_that_fail_or_whose_answer_is_lost_leave_no_hole_and_no_ghost(lost):
    async def scene(world, operator):
        uids = [await world.pod(f"p{i}", "one", labels={"app": f"a{i % 3}"}) for i in range(10)]
        world.store.faults.add(Fault(kind="EndpointBatch", code=500, times=6, lost=lost))
        for i in range(len(uids)):
            await world.claim("one", {each: (f"10.0.1.{10 + n}",) for n, each in enumerate(uids[: i + 1])})
            await asyncio.sleep(0.3)
        await world.kube.delete(POD, "p0", namespace="d", grace_period_s=0)
        expected = {f"10.0.1.{10 + n}": uid for n, uid in enumerate(uids) if n}
        shown = lambda: {a: who for a, (n, who) in world.view().items() if n != 6}
        await until(lambda: shown() == expected, 60)

    simulate(scene)


def test_a_new_leader_goes_on_where_the_old_one_died_in_the_middle_of_a_write():
    async def scene(world, operator):
        uids = [await world.pod(f"p{i}", "one", labels={"app": "web"}) for i in range(10)]
        second = Operator(world, "second", identity_labels=["app"])
        world.store.faults.add(Fault(kind="EndpointBatch", code=504, times=1, lost=True, client="op"))
        await world.claim("one", {uid: (f"10.0.1.{10 + n}",) for n, uid in enumerate(uids)})
        await asyncio.sleep(0.2)
        operator.stop()
        await second.lead()
        expected = {f"10.0.1.{10 + n}": uid for n, uid in enumerate(uids)}
        shown = lambda: {a: who for a, (n, who) in world.view().items() if n != 6}
        await until(lambda: shown() == expected, 10)
        second.stop()

    simulate(scene)


def test_a_batch_that_somebody_else_made_changes_nobody_s_identity_for_long():
    async def scene(world, operator):
        uid = await world.pod("a", "one", labels={"app": "web"})
        await world.claim("one", {uid: ("10.0.1.10",)})
        await until(lambda: "10.0.1.10" in world.view())
        before = world.view()
        record = {"addresses": ["10.0.1.10"], "podUID": "x", "identity": 999, "node": "one", "revision": 10**9}
        body = {
            "apiVersion": API,
            "kind": "EndpointBatch",
            "metadata": {"name": "forged"},
            "spec": {"endpoints": [record]},
        }
        await world.kube.create(ENDPOINTBATCH, body)
        await until(lambda: world.view() == before, 1)
        await until(lambda: "forged" not in {each.metadata.name for each in world.batches()}, 30)
        assert world.view() == before
        assert operator.metrics.foreign_writes.labels("EndpointBatch")._value.get() == 1

    simulate(scene)


def test_the_rate_of_writes_falls_with_the_number_of_nodes_and_has_a_floor():
    assert writes_per_s(3) == 100
    assert writes_per_s(5_000) == 20
    assert writes_per_s(50_000) == 10
    assert writes_per_s(5_000) * 5_000 <= 100_000
