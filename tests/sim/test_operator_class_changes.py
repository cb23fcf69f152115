"""A class that changes under running pods: what contradicts what is allocated converges without hurting one."""

from __future__ import annotations

import asyncio

import pytest
from support.class_stage import QUICK, Stage
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_kube.port import ENICLASS, NODE
from enitide_lab.ec2model import Fault
from enitide_lab.ec2model.limits import make_type

pytestmark = pytest.mark.sim


def test_an_eni_that_excluded_tags_now_match_serves_its_pods_and_is_then_left_alone_for_good() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(14)  # 9 on the first, 5 on the second ENI
        pods = set(stage.agent.held())
        second = stage.eni(1)
        assert second is not None
        stage.scene.model.create_tags((second.id,), {"hands": "off"})
        await asyncio.sleep(660)  # the tag is read
        calls = stage.scene.mutations()
        await stage.change(interfaces={"excludeTags": {"hands": "off"}})
        await stage.unhurt(600, pods)
        assert await stage.draining() == {1}
        assert stage.scene.mutations() == calls
        await stage.agent.use(9)

        async def left() -> bool:
            return set(await stage.published()) == {0}

        await stage.scene.until(left, "it is not published any more", 300)
        await asyncio.sleep(1800)
        after = stage.eni(1)
        assert after is not None
        assert after.addresses == second.addresses, "an excluded ENI is not touched"
        assert stage.scene.mutations() == calls
        assert stage.agent.lost == []

    run_virtual(scenario())


def test_an_eni_that_becomes_another_clusters_serves_its_pods_and_is_then_left_alone_for_good() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(14)  # 9 on the first, 5 on the second ENI
        pods = set(stage.agent.held())
        second = stage.eni(1)
        assert second is not None
        calls = stage.scene.mutations()
        stage.scene.model.create_tags((second.id,), {"enitide.io/cluster": "other"})
        await stage.unhurt(700, pods)  # the tag is read
        assert await stage.draining() == {1}
        conditions = (await stage.scene.eninode("n")).status.conditions
        said = next(each for each in conditions if each.type == "ForeignInterface")
        assert (said.status, said.reason) == ("True", "ForeignInterface")
        assert f"{second.id} (enitide.io/cluster=other)" in said.message
        await stage.agent.use(9)

        async def left() -> bool:
            return set(await stage.published()) == {0}

        await stage.scene.until(left, "it is not published any more", 300)
        await asyncio.sleep(1800)
        after = stage.eni(1)
        assert after is not None
        assert after.addresses == second.addresses
        assert stage.scene.mutations() == calls
        assert stage.agent.lost == []
        stage.scene.model.create_tags((second.id,), {"enitide.io/cluster": "sim"})  # it was a mistake

        async def back() -> bool:
            return set(await stage.published()) == {0, 1} and not await stage.draining()

        await stage.scene.until(back, "it serves again", 700)
        assert not [c for c in (await stage.scene.eninode("n")).status.conditions if c.type == "ForeignInterface"]

    run_virtual(scenario())


def test_a_raised_first_index_drains_the_enis_below_it_and_moves_the_pool_above() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(5, pool={"preAllocate": 4, "maxAboveWatermark": 0})
        pods = set(stage.agent.held())
        await stage.change(interfaces={"firstIndex": 1})

        async def moved() -> bool:
            return await stage.published() == {0: 5, 1: 4}

        await stage.scene.until(moved, "free addresses stand on another ENI", 60)
        await stage.unhurt(900, pods)
        assert await stage.draining() == {0}
        await stage.agent.use(9)
        await stage.scene.until(stage.holding(9), "new pods come to the other ENI", 60)
        await stage.unhurt(5, pods)
        await stage.agent.use(0)

        async def gone() -> bool:
            first = stage.eni(0)
            assert first is not None, "the node's own ENI is never detached"
            return not first.addresses[1:] and set(await stage.published()) == {1}

        await stage.scene.until(gone, "nothing of the first ENI is left for pods", 300)
        assert stage.agent.lost == []

    run_virtual(scenario())


def test_an_eni_on_a_card_that_is_not_allowed_any_more_is_removed_once_its_pods_have_ended() -> None:
    async def scenario() -> None:
        stage = Stage()
        stage.scene.model.extra_types["two.cards"] = make_type("two.cards", cards=(2, 2), ipv4=10)
        await stage.begin(24, "two.cards", interfaces={"cards": [0, 1]})  # 9 and 9 on card 0, 6 on card 1
        pods = set(stage.agent.held())
        on_card_1 = [each for each in stage.scene.attached("n") if each.attachment and each.attachment.card == 1]
        assert len(on_card_1) == 1
        await stage.change(interfaces={"cards": [0]})
        await stage.unhurt(900, pods)
        await stage.agent.use(12)

        async def gone() -> bool:
            left = {each.id for each in stage.scene.attached("n")}
            status = (await stage.scene.eninode("n")).status
            return on_card_1[0].id not in left and not stage.scene.detached() and not status.removing

        await stage.scene.until(gone, "it is detached and deleted", 600)
        assert stage.agent.lost == []
        await stage.scene.check_sound()

    run_virtual(scenario())


def test_a_subnet_selector_that_leaves_out_used_subnets_changes_nothing_of_what_runs() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(12)
        pods, enis = set(stage.agent.held()), {each.id for each in stage.scene.attached("n")}
        other = stage.scene.model.create_subnet(stage.scene.vpc, "10.0.64.0/24", "us-west-2a").id
        calls = stage.scene.mutations()
        await stage.change(interfaces={"subnetSelector": {"ids": [other]}})
        await stage.unhurt(900, pods)
        assert {each.id for each in stage.scene.attached("n")} == enis
        assert stage.scene.mutations() == calls
        await stage.agent.use(22)
        await stage.scene.until(stage.holding(22), "more pods come", 4000)
        new = [each for each in stage.scene.attached("n") if each.id not in enis]
        assert {each.subnet_id for each in new} == {other}
        assert stage.agent.lost == []

    run_virtual(scenario())


def test_enis_that_drain_while_the_maximum_is_lowered_take_no_address_from_good_ones() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(2, pool={"preAllocate": 12, "maxAboveWatermark": 0})  # 9 on the first ENI, 5 on the second
        assert await stage.published() == {0: 9, 1: 5}
        pods = set(stage.agent.held())
        # what the first one gives up is on the node for as long as EC2 refuses to take it back
        stage.scene.physics.add(Fault("UnassignPrivateIpAddresses", code="UnauthorizedOperation", for_s=600))
        await stage.change(interfaces={"firstIndex": 1}, pool={"maxAllocate": 7})
        for _ in range(120):
            await stage.unhurt(5, pods)
            assert (await stage.published())[1] == 5
        await asyncio.sleep(600)
        assert await stage.published() == {0: 2, 1: 5}
        first = stage.eni(0)
        assert first is not None
        assert len(first.addresses) == 1 + 2

    run_virtual(scenario())


@pytest.mark.parametrize("lowered", [4, 9, 11])
def test_a_lowered_maximum_takes_back_free_addresses_only(lowered: int) -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(8, pool={"preAllocate": 8, "maxAboveWatermark": 0})
        pods = set(stage.agent.held())
        assert await stage.scene.provisioned("n") == 16
        await stage.change(pool={"maxAllocate": lowered, "preAllocate": 4})

        async def lower() -> bool:
            return await stage.scene.provisioned("n") == max(lowered, 8)

        await stage.scene.until(lower, "free addresses are back", 600)
        await stage.unhurt(1800, pods)
        assert await lower()

    run_virtual(scenario())


def test_prefixes_that_hold_pods_stay_when_prefixes_are_switched_off_and_what_comes_then_is_single() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(20, prefixDelegation=True)
        pods = set(stage.agent.held())
        await stage.change(prefixDelegation=False)
        await stage.unhurt(600, pods)
        status = (await stage.scene.eninode("n")).status
        assert sum(len(each.prefixes) for each in status.interfaces) == 2
        await stage.agent.use(34)
        await stage.scene.until(stage.holding(34), "more pods come", 60)
        status = (await stage.scene.eninode("n")).status
        assert sum(len(each.prefixes) for each in status.interfaces) == 2
        assert sum(len(each.addresses) for each in status.interfaces) == 2
        await stage.agent.use(0)

        async def back() -> bool:
            return await stage.scene.provisioned("n") == 0

        await stage.scene.until(back, "all is back", 900)
        assert stage.agent.lost == []

    run_virtual(scenario())


def test_an_own_address_that_a_pod_holds_stays_the_pods_when_own_addresses_are_switched_off() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(19, interfaces={"usePrimaryAddress": True})  # 9 on the first ENI, 10 on the second
        second = stage.eni(1)
        assert second is not None
        pods = set(stage.agent.held())
        assert second.primary in pods
        await stage.change(interfaces={"usePrimaryAddress": False})
        await stage.unhurt(1800, pods)
        assert stage.scene.calls("DetachNetworkInterface") == 0
        await stage.agent.use(9)

        async def alone() -> bool:
            return len(stage.scene.attached("n")) == 1 and not stage.scene.detached()

        await stage.scene.until(alone, "the second ENI has gone", 900)
        assert stage.agent.lost == []
        await asyncio.sleep(60)
        await stage.scene.check_sound()

    run_virtual(scenario())


def test_a_class_that_changes_its_mind_gets_its_draining_eni_back() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(14, pool={"preAllocate": 2, "maxAboveWatermark": 0})
        pods = set(stage.agent.held())
        made = stage.scene.calls("CreateNetworkInterface")
        await stage.change(interfaces={"firstIndex": 1})
        await asyncio.sleep(20)
        assert await stage.draining() == {0}
        await stage.change(interfaces={"firstIndex": 0})

        async def calm() -> bool:
            return not await stage.draining() and await stage.scene.provisioned("n") >= 16

        await stage.scene.until(calm, "it serves as before", 60)
        await stage.agent.use(16)
        await stage.scene.until(stage.holding(16), "also new pods", 60)
        await stage.unhurt(600, pods)
        assert stage.scene.calls("CreateNetworkInterface") - made <= 1

    run_virtual(scenario())


def test_a_node_whose_labels_change_moves_to_the_other_class_at_once_and_drains_by_it() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(5)
        scene = stage.scene
        await scene.eniclass(
            "high", weight=1, nodeSelector={"matchLabels": {"tier": "high"}}, release=QUICK,
            pool={"minAllocate": 8}, interfaces={"firstIndex": 1},
        )  # fmt: skip
        pods = set(stage.agent.held())
        await scene.kube.patch(NODE, "n", {"metadata": {"labels": {"tier": "high"}}})

        async def moved() -> bool:
            class_ = (await scene.eninode("n")).status.class_
            return class_ is not None and class_.name == "high" and sum((await stage.published()).values()) >= 9

        assert await scene.until(moved, "the other class", 60) < 10
        await stage.unhurt(600, pods)
        assert await stage.draining() == {0}

    run_virtual(scenario())


def test_of_two_classes_of_equal_weight_the_first_by_name_governs_and_its_deletion_hands_over() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        for name, least in (("b", 10), ("a", 7)):
            await scene.eniclass(name, weight=5, nodeSelector={"matchLabels": {"x": "y"}}, pool={"minAllocate": least})
        await scene.node("n", labels={"x": "y"})
        scene.operator()

        async def by(name: str) -> bool:
            class_ = (await scene.eninode("n")).status.class_
            return class_ is not None and class_.name == name

        await scene.until(lambda: by("a"), "the first by name", 20)
        await scene.kube.delete(ENICLASS, "a")
        await scene.until(lambda: by("b"), "the next", 20)
        await scene.kube.delete(ENICLASS, "b")
        await scene.until(lambda: by("default"), "the default", 20)

    run_virtual(scenario())


def test_a_missing_default_class_is_stated_and_its_nodes_keep_to_the_built_in_one() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(2, pool={"preAllocate": 6, "maxAboveWatermark": 0})
        assert await stage.scene.provisioned("n") == 8
        await stage.scene.kube.delete(ENICLASS, "default")
        await asyncio.sleep(300)
        told = {each.type: each for each in stage.operator.engine.conditions}
        assert (told["DefaultClass"].status, told["DefaultClass"].reason) == ("False", "ClassMissing")
        assert 6 <= await stage.scene.provisioned("n") <= 10  # 2 + 4, and 4 above
        await stage.scene.eniclass("default", pool={"preAllocate": 9})
        await asyncio.sleep(30)
        told = {each.type: each for each in stage.operator.engine.conditions}
        assert told["DefaultClass"].status == "True"
        assert await stage.scene.provisioned("n") >= 11

    run_virtual(scenario())
