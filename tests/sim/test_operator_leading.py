"""Leadership, conflicts and outages under virtual time: one leader mutates, nobody overwrites, nothing is lost."""

from __future__ import annotations

import asyncio

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual, virtual_loop

from enitide_kube.port import ENICLASS, ENINODE
from enitide_lab.apistore.faults import Fault as KubeFault
from enitide_lab.ec2model import Fault

pytestmark = pytest.mark.sim


async def _filled(scene: Scene, node: str = "n", at_least: int = 8) -> bool:
    return await scene.provisioned(node) >= at_least


def test_a_follower_calls_no_ec2_and_takes_over_when_the_leader_stops_cleanly() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        first = scene.operator("first")
        await scene.until(lambda: _filled(scene), "the first pool")
        second = scene.operator("second")
        await asyncio.sleep(60)
        assert not second.metrics.calls
        await first.stop()
        await scene.node("m")
        # a released Lease is free at once: no waiting for 45 s
        assert await scene.until(lambda: _filled(scene, "m"), "the second operator fills", 15) < 15
        assert not [each for each in second.metrics.calls if each[1] == "NotLeading"]
        await scene.check_sound()

    run_virtual(scenario())


def test_stopping_in_the_middle_of_a_saga_awaits_the_call_under_way_and_leaves_the_rest_to_the_next() -> None:
    async def scenario() -> None:
        scene = Scene(latency_s=4.0)
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 20)
        first = scene.operator("first")

        async def creating() -> bool:
            return "CreateNetworkInterface" in first.events

        await scene.until(creating, "a Create is under way", 60)
        before = scene.calls("CreateNetworkInterface")
        await first.stop()
        assert scene.calls("CreateNetworkInterface") > before  # it was awaited, not cut off
        assert scene.calls("AttachNetworkInterface") == 0
        scene.operator("second")
        await scene.until(lambda: _filled(scene, at_least=24), "the next leader finishes", 120)
        await asyncio.sleep(30)
        await scene.check_sound()
        assert len(scene.attached("n")) == 3

    run_virtual(scenario())


def test_an_eni_that_is_still_attaching_is_no_reason_for_the_next_leader_to_take_more_than_maxallocate() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"maxAllocate": 12})
        await scene.node("n")
        scene.model.attach_delay_s = 300.0
        await scene.pods("n", 20)
        first = scene.operator("first")
        await scene.until(lambda: _filled(scene, at_least=12), "the first leader's pool", 60)
        published = (await scene.eninode("n")).status.interfaces
        await first.stop()
        second = scene.operator("second")
        await asyncio.sleep(60)
        assert second.engine.leading
        assert (await scene.eninode("n")).status.interfaces == published
        assert sum(len(each.addresses) - 1 for each in scene.attached("n")) == 12

    run_virtual(scenario())


def test_a_leader_whose_term_runs_out_while_a_call_waits_for_its_turn_does_not_send_it() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("mutations", code="RequestLimitExceeded", http_status=503))
        operator = scene.operator()

        async def refused() -> bool:
            return operator.metrics.calls["AssignPrivateIpAddresses", "RequestLimitExceeded"] >= 1

        await scene.until(refused, "the call waits to be sent again", 20)
        sent = [each for each in operator.events if each != "PATCH"]
        virtual_loop().jump(60)  # as under SIGSTOP: the term is over before anything runs again
        scene.store.faults.outage = "refuse"
        await asyncio.sleep(30)
        assert [each for each in operator.events if each != "PATCH"] == sent
        scene.store.faults.outage = None
        scene.physics.remove()
        await scene.until(lambda: _filled(scene), "it leads again and fills", 60)
        await scene.check_sound()

    run_virtual(scenario())


def test_an_api_server_that_is_gone_for_a_minute_loses_and_doubles_nothing() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 20)
        operator = scene.operator()

        async def creating() -> bool:
            return "CreateNetworkInterface" in operator.events

        await scene.until(creating, "an ENI is being made")
        scene.store.faults.outage = "refuse"
        await asyncio.sleep(60)
        scene.store.faults.outage = None
        await scene.until(lambda: _filled(scene, at_least=24), "the pool is filled afterwards", 120)
        await asyncio.sleep(30)
        await scene.check_sound()
        assert len(scene.attached("n")) == 3

    run_virtual(scenario())


def test_conflicts_are_answered_by_a_fresh_decision_until_one_write_is_accepted() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 20)
        scene.store.faults.add(KubeFault(kind="ENINode", code=409, times=20, client="op"))
        scene.operator("op")
        await scene.until(lambda: _filled(scene, at_least=24), "the pool is filled", 60)
        await asyncio.sleep(30)
        await scene.check_sound()

    run_virtual(scenario())


def test_a_write_whose_answer_is_lost_orders_nothing_twice() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 20)
        scene.store.faults.add(KubeFault(kind="ENINode", code=504, lost=True, times=1, client="op"))
        scene.operator("op")
        await scene.until(lambda: _filled(scene, at_least=24), "the pool is filled", 120)
        await asyncio.sleep(30)
        await scene.check_sound()
        assert len(scene.attached("n")) == 3

    run_virtual(scenario())


def test_an_eninode_that_names_another_instance_than_its_node_gets_no_call_at_all() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n", provider="aws:///us-west-2a/i-00000000000000000")
        operator = scene.operator(cluster_name="", subnet_reports=False)  # sweep and reports ask for no node

        async def told() -> bool:
            return await scene.ready_reason("n") == "InstanceMismatch"

        await scene.until(told, "the mismatch is told", 10)
        await asyncio.sleep(600)
        assert not operator.metrics.calls
        await scene.replace_node("n", scene.instances["n"])
        await scene.until(lambda: _filled(scene), "it is filled once both agree", 10)

    run_virtual(scenario())


def test_one_empty_answer_is_no_proof_but_a_terminated_instance_is_found_out() -> None:
    async def scenario() -> None:
        from enitide_lab.ec2model import Effect

        scene = Scene()
        await scene.install()
        await scene.node("n")
        scene.physics.add(Fault("DescribeNetworkInterfaces", effect=Effect.EMPTY, times=1))
        scene.operator()
        await scene.until(lambda: _filled(scene), "one empty answer is not believed", 15)
        assert scene.calls("DescribeInstances") == 0  # it was simply asked again
        scene.model.terminate_instances((scene.instances["n"],))

        async def told() -> bool:
            return await scene.ready_reason("n") == "InstanceMissing"

        await scene.until(told, "it is missing", 900)
        before = scene.mutations()
        await scene.pods("n", 20)
        await asyncio.sleep(300)
        assert scene.mutations() == before

    run_virtual(scenario())


def test_a_replaced_instance_under_the_same_name_starts_anew_and_its_predecessors_eni_is_undone() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 12)
        fault = scene.physics.add(Fault("AttachNetworkInterface", code="RequestLimitExceeded", http_status=503))
        scene.operator()

        async def made() -> bool:
            return bool(scene.detached())

        await scene.until(made, "an ENI waits for its attachment")
        scene.model.terminate_instances((scene.instances["n"],))
        fresh = scene.model.run_instances("m5.large", scene.subnet, groups=(scene.group,))[0].id
        scene.instances["n"] = fresh
        await scene.replace_node("n", fresh)
        await scene.spec("n", instance={"id": fresh})
        scene.physics.remove(fault)
        await scene.until(lambda: _filled(scene, at_least=12), "the new instance is filled", 180)
        await asyncio.sleep(90)
        assert (await scene.eninode("n")).status.instance_id == fresh
        await scene.check_sound()

    run_virtual(scenario())


def test_addresses_go_back_by_the_hand_over_and_never_while_published() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"minAllocate": 16}, release={"delay": "60s"})
        await scene.node("n")
        scene.operator()
        await scene.until(lambda: _filled(scene, at_least=16), "a large pool")
        await asyncio.sleep(15)
        await scene.kube.patch(ENICLASS, "default", {"spec": {"pool": {"minAllocate": 0}}})

        async def asked() -> bool:
            reclaim = (await scene.eninode("n")).status.reclaim
            return reclaim is not None and reclaim.count > 0

        assert await scene.until(asked, "it asks", 90) >= 59
        reclaim = (await scene.eninode("n")).status.reclaim
        assert reclaim is not None
        addresses = [a for each in (await scene.eninode("n")).status.interfaces for a in each.addresses]
        given = addresses[-reclaim.count :]
        await scene.spec("n", yielded=given)

        async def gone() -> bool:
            held = {a for each in scene.attached("n") for a in each.addresses}
            published = {a for each in (await scene.eninode("n")).status.interfaces for a in each.addresses}
            assert published <= held, "an address is published that EC2 no longer has"
            return not held & set(given) and not (await scene.eninode("n")).status.releasing

        await scene.until(gone, "they are back with EC2", 60)
        assert (await scene.eninode("n")).status.reclaim is None

    run_virtual(scenario())


def test_a_node_that_goes_away_is_forgotten() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        operator = scene.operator()
        await scene.until(lambda: _filled(scene), "the pool")
        await scene.kube.delete(ENINODE, "n")
        await asyncio.sleep(1)
        assert operator.engine.state().nodes == 0

    run_virtual(scenario())


def test_a_node_that_comes_to_name_another_instance_is_neither_read_nor_given_nor_taken_anything() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        operator = scene.operator(cluster_name="", subnet_reports=False)  # sweep and reports ask for no node
        await scene.until(lambda: _filled(scene), "the pool")
        address = (await scene.eninode("n")).status.interfaces[0].addresses[0]
        await scene.replace_node("n", "i-00000000000000000")

        async def told() -> bool:
            return await scene.ready_reason("n") == "InstanceMismatch"

        await scene.until(told, "the mismatch is told", 60)
        before = dict(operator.metrics.calls)
        await scene.kube.patch(ENINODE, "n", {"status": {"releasing": [address]}}, subresource="status")
        await scene.pods("n", 20)
        await asyncio.sleep(1500)
        assert dict(operator.metrics.calls) == before
        await scene.replace_node("n", scene.instances["n"])

        async def gone() -> bool:
            return not (await scene.eninode("n")).status.releasing

        await scene.until(gone, "what stood in releasing is finished by whoever leads", 60)
        await scene.until(lambda: _filled(scene, at_least=20), "and the pods are served", 60)
        await scene.check_sound()

    run_virtual(scenario())


def test_what_the_agent_takes_back_in_time_is_not_released_by_a_write_decided_before() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(pool={"minAllocate": 16}, release={"delay": "1s"})
        await scene.node("n")
        scene.operator("op")
        await scene.until(lambda: _filled(scene, at_least=16), "a large pool")
        await asyncio.sleep(15)
        await scene.kube.patch(ENICLASS, "default", {"spec": {"pool": {"minAllocate": 8}}})

        async def asked() -> bool:
            return (await scene.eninode("n")).status.reclaim is not None

        await scene.until(asked, "it asks")
        taken_back = (await scene.eninode("n")).status.interfaces[0].addresses[:3]
        # the operator's next write is on its way for 5 s, and rests on what it read before
        scene.store.faults.add(KubeFault(kind="ENINode", delay_s=5.0, times=1, client="op"))
        await scene.spec("n", yielded=taken_back)
        await asyncio.sleep(2)
        await scene.spec("n", yielded=[], demand={"inUse": 19, "cooling": 0, "waiting": 0})
        await asyncio.sleep(60)
        status = (await scene.eninode("n")).status
        assert not status.releasing
        assert set(taken_back) <= set(status.interfaces[0].addresses)
        assert scene.calls("UnassignPrivateIpAddresses") == 0
        await scene.check_sound()

    run_virtual(scenario())


def test_an_unassign_of_unknown_outcome_is_read_before_it_is_sent_again() -> None:
    async def scenario() -> None:
        from enitide_lab.ec2model import Effect

        scene = Scene()
        await scene.install(pool={"minAllocate": 16}, release={"delay": "1s"})
        await scene.node("n")
        scene.operator()
        await scene.until(lambda: _filled(scene, at_least=16), "a large pool")
        await asyncio.sleep(15)
        await scene.kube.patch(ENICLASS, "default", {"spec": {"pool": {"minAllocate": 8}}})

        async def asked() -> bool:
            return (await scene.eninode("n")).status.reclaim is not None

        await scene.until(asked, "it asks")
        scene.physics.add(Fault("UnassignPrivateIpAddresses", effect=Effect.LOST, times=1))
        addresses = [a for each in (await scene.eninode("n")).status.interfaces for a in each.addresses]
        await scene.spec("n", yielded=addresses[-4:])

        async def gone() -> bool:
            held = {a for each in scene.attached("n") for a in each.addresses}
            return not held & set(addresses[-4:]) and not (await scene.eninode("n")).status.releasing

        assert await scene.until(gone, "they are gone", 60) > 14  # a call time-out, then the reading
        # EC2 refuses to unassign what is not assigned: nothing was sent twice
        outcomes = {outcome for verb, outcome in scene.physics.counts if verb == "UnassignPrivateIpAddresses"}
        assert outcomes <= {"ok", "lost"}

    run_virtual(scenario())


def test_an_eninode_that_goes_away_in_the_middle_of_a_saga_leaves_no_eni_behind() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 20)
        scene.physics.add(Fault("AttachNetworkInterface", code="RequestLimitExceeded", http_status=503, for_s=20))
        scene.operator()

        async def made() -> bool:
            return bool(scene.detached())

        await scene.until(made, "ENIs wait for their attachment")
        await scene.kube.delete(ENINODE, "n")

        async def undone() -> bool:
            return not scene.detached()

        await scene.until(undone, "they are gone or attached", 120)

    run_virtual(scenario())
