"""The budget: who may call EC2 next, and when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.virtual_loop import run_virtual, virtual_loop

from enitide_api.errors import SettingsInvalid
from enitide_operator.ec2.budget import (
    DOCUMENTED,
    MUTATION_SIZE,
    READ_SIZE,
    RELEASE,
    SWEEP,
    Budget,
    Order,
    Size,
    new_work,
)
from enitide_operator.ec2.port import MUTATIONS, Verb

pytestmark = pytest.mark.unit

ONE_A_SECOND = {Verb.ASSIGN: Size(1.0, 1.0)}


def test_a_full_bucket_lets_its_burst_through_at_once_and_then_its_rate() -> None:
    async def scenario() -> None:
        budget = Budget({Verb.CREATE: Size(2.0, 5.0)})
        for _ in range(5):
            await budget.take(Verb.CREATE, Order(1))
        assert virtual_loop().time() == 0
        for _ in range(10):
            await budget.take(Verb.CREATE, Order(1))
        assert virtual_loop().time() == pytest.approx(5.0, abs=0.05)

    run_virtual(scenario())


def test_started_work_goes_before_new_work_the_biggest_gain_first_and_releases_last() -> None:
    async def scenario() -> None:
        budget = Budget(ONE_A_SECOND)
        await budget.take(Verb.ASSIGN, Order(1))
        served: list[str] = []

        async def caller(name: str, order: Order) -> None:
            await budget.take(Verb.ASSIGN, order)
            served.append(name)

        async with asyncio.TaskGroup() as group:
            for name, order in (
                ("release", RELEASE),
                ("small", Order(1, 1)),
                ("big", Order(1, 14)),
                ("attach", Order(0, 3)),
            ):
                group.create_task(caller(name, order))
        assert served == ["attach", "big", "small", "release"]

    run_virtual(scenario())


def test_the_biggest_deficit_per_call_goes_first_and_what_a_call_brings_beyond_counts_last() -> None:
    urgent = new_work(4, 4)
    calm = new_work(9, 1)  # brings more, but the node lacks one
    making = new_work(9, 9, calls=2)  # an ENI takes two calls
    filling = new_work(9, 9)
    ahead, further = new_work(4, 0), new_work(9, 0)
    order = sorted([urgent, calm, making, filling, ahead, further], key=lambda each: (each.rank, -each.gain))
    assert order == [filling, making, urgent, calm, further, ahead]
    assert max(each.rank for each in order) < RELEASE.rank < SWEEP.rank
    assert new_work(784, 784) > new_work(14, 14)


def test_a_cancelled_caller_leaves_its_token_to_the_next() -> None:
    async def scenario() -> None:
        budget = Budget(ONE_A_SECOND)
        await budget.take(Verb.ASSIGN, Order(1))
        first = asyncio.create_task(budget.take(Verb.ASSIGN, Order(1, 9)))
        second = asyncio.create_task(budget.take(Verb.ASSIGN, Order(1, 1)))
        await asyncio.sleep(0.5)
        first.cancel()
        await second
        assert virtual_loop().time() == pytest.approx(1.0, abs=0.01)

    run_virtual(scenario())


def test_verbs_do_not_wait_for_each_other_unless_one_bucket_holds_all() -> None:
    async def scenario(sizes: dict[str, Size]) -> float:
        budget = Budget(sizes)
        began = virtual_loop().time()
        for verb in (Verb.ASSIGN, Verb.CREATE, Verb.ATTACH):
            await budget.take(verb, Order(1))
        return virtual_loop().time() - began

    slow = Size(1.0, 1.0)
    assert run_virtual(scenario({Verb.ASSIGN: slow, Verb.CREATE: slow, Verb.ATTACH: slow})) == 0
    assert run_virtual(scenario({"all": slow})) == pytest.approx(2.0, abs=0.01)


def test_throttling_cuts_the_rate_at_once_and_success_lets_it_grow_back() -> None:
    async def scenario() -> None:
        budget = Budget({Verb.ASSIGN: Size(10.0, 10.0)})
        await budget.take(Verb.ASSIGN, Order(1))
        for _ in range(5):
            budget.throttled(Verb.ASSIGN)  # replies to calls that were under way together
        state = budget.states()[Verb.ASSIGN]
        assert state.rate == pytest.approx(7.0)
        assert state.tokens == 0
        for _ in range(60):
            await asyncio.sleep(2)
            budget.throttled(Verb.ASSIGN)
        assert budget.states()[Verb.ASSIGN].rate == pytest.approx(1.0)  # never below a tenth
        began = virtual_loop().time()
        while budget.states()[Verb.ASSIGN].rate < 10.0:
            await budget.take(Verb.ASSIGN, Order(1))
            budget.succeeded(Verb.ASSIGN)
        assert 20 < virtual_loop().time() - began < 120

    run_virtual(scenario())


def test_the_page_on_the_budget_tells_every_verb_and_its_documented_bucket() -> None:
    page = (Path(__file__).parents[2] / "docs" / "budget.md").read_text()
    for verb in Verb:
        size = DOCUMENTED.get(verb, MUTATION_SIZE if verb in MUTATIONS else READ_SIZE)
        assert f"| {verb} | {size.burst:g} | {size.rate:g} |" in page


def test_defaults_are_the_documented_sizes() -> None:
    assert DOCUMENTED[Verb.CREATE] == (5.0, 100.0)
    assert DOCUMENTED[Verb.ASSIGN] == (5.0, 100.0)
    assert Verb.ATTACH not in DOCUMENTED  # the mutating default: 50 and 5


def test_an_unknown_verb_in_the_settings_is_refused_with_what_to_write() -> None:
    with pytest.raises(SettingsInvalid, match="CreateNetworkInterface"):
        Budget({"CreateInterface": Size(1.0, 1.0)})


def test_every_call_that_changes_something_is_gated() -> None:
    assert {verb for verb in Verb if not verb.startswith(("Describe", "Get"))} == MUTATIONS
