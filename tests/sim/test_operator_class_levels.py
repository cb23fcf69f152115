"""Changes of a class that contradict nothing: levels, groups, tags, prefixes, flags and release (docs/classes.md)."""

from __future__ import annotations

import asyncio

import pytest
from support.class_stage import EXACT, Stage
from support.virtual_loop import run_virtual

from enitide_lab.ec2model import Fault

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("selector", ["ids", "tags"])
def test_other_security_groups_and_tags_are_for_enis_made_from_now_on(selector: str) -> None:
    async def scenario() -> None:
        stage = Stage()
        scene = stage.scene
        await stage.begin(14)  # 9 on the first, 5 on the second ENI
        pods, before = set(stage.agent.held()), {each.id: each for each in scene.attached("n")}
        group = scene.model.create_security_group(scene.vpc, "pods", tags={"for": "pods"}).id
        calls = scene.mutations()
        chosen = {"ids": [group]} if selector == "ids" else {"tags": {"for": "pods"}}
        await stage.change(interfaces={"securityGroupSelector": chosen, "tags": {"team": "blue"}})
        await stage.unhurt(900, pods)
        assert scene.mutations() == calls
        await stage.agent.use(20)  # 18 fit on the two
        await scene.until(stage.holding(20), "a third ENI", 60)
        after = {each.id: each for each in scene.attached("n")}
        (made,) = after.keys() - before.keys()
        assert set(after[made].groups) == {group}
        assert after[made].tags["team"] == "blue"
        for eni_id, eni in before.items():
            assert (after[eni_id].groups, after[eni_id].tags) == (eni.groups, eni.tags)

    run_virtual(scenario())


def test_delete_on_termination_is_set_on_every_eni_of_ours_at_once_and_on_no_other() -> None:
    async def scenario() -> None:
        stage = Stage()
        scene = stage.scene
        await scene.install(pool=EXACT, release={"enabled": False})
        instance = await scene.node("n", "m5.xlarge")
        by_hand = scene.model.create_network_interface(scene.subnet, groups=(scene.group,))
        scene.model.attach_network_interface(by_hand.id, instance, 1)
        await stage.go_on(40)  # 14 on each of the three others; the one made by hand serves too
        await scene.until(stage.holding(40), "the pods run", 60)
        await asyncio.sleep(30)

        def flags() -> dict[int, bool]:
            attached = [each.attachment for each in scene.attached("n")]
            return {each.index: each.delete_on_termination for each in attached if each}

        others = {index: flag for index, flag in flags().items() if index < 2}
        assert flags() == others | {2: True}
        for wanted in (False, True):
            before = scene.mutations()
            await stage.change(interfaces={"deleteOnTermination": wanted})
            await asyncio.sleep(5)
            assert flags() == others | {2: wanted}
            assert scene.mutations() - before == 1

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("level", "low", "high"),
    [("preAllocate", 14, 14), ("minAllocate", 14, 14), ("maxAboveWatermark", 6, 6)],
)
def test_a_raised_level_is_met_at_once_and_a_lowered_one_after_the_delay_of_the_release(
    level: str, low: int, high: int
) -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(6, pool=EXACT)
        pods = set(stage.agent.held())
        assert await stage.scene.provisioned("n") == 6
        await stage.change(pool={level: 8 if level == "preAllocate" else 14})
        if level == "maxAboveWatermark":
            await stage.unhurt(60, pods)
            assert await stage.scene.provisioned("n") == low  # nothing is lacking, so nothing is taken
            await stage.agent.use(7)
        changed = stage.scene.loop.time()
        want = 7 + 14 if level == "maxAboveWatermark" else high

        async def has(count: int) -> bool:
            return await stage.scene.provisioned("n") == count

        assert await stage.scene.until(lambda: has(want), "up to the new tide", 30) < 10
        await stage.unhurt(60, pods)
        await stage.change(pool={level: 0})
        changed = stage.scene.loop.time()
        rest = 7 if level == "maxAboveWatermark" else 6
        await stage.scene.until(lambda: has(rest), "down to the new tide", 300)
        assert 30 <= stage.scene.loop.time() - changed <= 60  # release.delay is 30 s here
        await stage.unhurt(60, pods)

    run_virtual(scenario())


def test_prefixes_switched_on_are_taken_from_now_on_and_single_addresses_stay() -> None:
    async def scenario() -> None:
        stage = Stage()
        await stage.begin(6)
        pods = set(stage.agent.held())
        calls = stage.scene.mutations()
        await stage.change(prefixDelegation=True)
        await stage.unhurt(900, pods)
        assert stage.scene.mutations() == calls  # nothing is lacking
        await stage.agent.use(10)
        await stage.scene.until(stage.holding(10), "more pods come", 30)
        status = (await stage.scene.eninode("n")).status
        assert [(len(each.addresses), len(each.prefixes)) for each in status.interfaces] == [(6, 1)]
        await stage.unhurt(900, pods)
        assert await stage.published() == {0: 6}

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("verb", "where"), [("UnassignPrivateIpAddresses", "releasing"), ("DetachNetworkInterface", "removing")]
)
def test_release_switched_off_keeps_what_is_there_and_finishes_what_has_begun(verb: str, where: str) -> None:
    async def scenario() -> None:
        stage = Stage()
        scene = stage.scene
        await stage.begin(20)  # 9, 9 and 2
        scene.physics.add(Fault(verb, code="UnauthorizedOperation", for_s=300))
        await stage.agent.use(16)

        async def stands() -> bool:
            return bool(getattr((await scene.eninode("n")).status, where))

        async def finished() -> bool:
            return not await stands()

        await scene.until(stands, "it has begun", 290)
        calls = scene.calls(verb)
        await stage.change(release={"enabled": False})
        await scene.until(finished, "it is finished all the same", 700)
        assert scene.calls(verb) > calls
        await asyncio.sleep(30)
        calls, left = scene.mutations(), await scene.provisioned("n")
        await stage.agent.use(1)
        await asyncio.sleep(3600)
        assert (scene.mutations(), await scene.provisioned("n")) == (calls, left)
        await stage.change(release={"enabled": True})

        async def alone() -> bool:
            return await scene.provisioned("n") == 1 and len(scene.attached("n")) == 1

        await scene.until(alone, "then the rest goes", 900)

    run_virtual(scenario())
