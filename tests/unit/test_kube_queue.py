"""The work queue: never one key twice at once, nothing lost, failures spaced out."""

import asyncio
from random import Random

import pytest
from support.virtual_loop import run_virtual

from enitide_kube.backoff import Backoff
from enitide_kube.queue import WorkQueue

pytestmark = pytest.mark.unit


def queue(**backoff):
    return WorkQueue(Random(0), Backoff(**backoff) if backoff else None)


def test_keys_come_in_the_order_of_their_adding_and_repeats_are_one():
    async def main():
        work = queue()
        for key in "abacb":
            work.add(key)
        return [await work.get() for _ in range(len(work))]

    assert run_virtual(main()) == ["a", "b", "c"]


def test_a_key_added_while_it_is_worked_on_gets_one_more_turn_afterwards():
    async def main():
        work = queue()
        work.add("a")
        await work.get()
        work.add("a")
        work.add("a")
        assert len(work) == 0, "it would be worked on twice at once"
        work.done("a")
        assert await work.get() == "a"
        work.done("a")
        return len(work)

    assert run_virtual(main()) == 0


def test_many_workers_never_hold_one_key_twice_and_lose_none():
    async def main():
        work, rng, held, worked = queue(), Random(1), set(), dict.fromkeys(range(5), 0)
        added = dict.fromkeys(range(5), 0)

        async def worker():
            while True:
                key = await work.get()
                assert key not in held
                held.add(key)
                seen = added[key]
                await asyncio.sleep(rng.random())
                worked[key] = max(worked[key], seen)
                held.discard(key)
                if rng.random() < 0.2:
                    work.failed(key)
                else:
                    work.done(key)
                    work.forget(key)

        workers = [asyncio.create_task(worker()) for _ in range(3)]
        for _ in range(300):
            key = rng.randrange(5)
            added[key] += 1
            work.add(key)
            await asyncio.sleep(rng.random() / 10)
        await asyncio.sleep(600)
        for task in workers:
            task.cancel()
        return worked == added

    assert run_virtual(main())


def test_failures_in_a_row_wait_longer_each_up_to_the_cap_and_forget_begins_anew():
    async def main():
        work = queue(base_s=1.0, cap_s=8.0)
        work.add("a")
        delays = []
        for _ in range(6):
            await work.get()
            delays.append(work.failed("a"))
        await work.get()
        work.forget("a")
        delays.append(work.failed("a"))
        return delays

    delays = run_virtual(main())
    for delay_s, whole_s in zip(delays, [1, 2, 4, 8, 8, 8, 1], strict=True):
        assert whole_s / 2 <= delay_s <= whole_s


def test_a_failed_key_comes_when_its_delay_is_over_and_not_before():
    async def main():
        loop = asyncio.get_running_loop()
        work = queue(base_s=4.0, cap_s=4.0)
        work.add("a")
        await work.get()
        delay_s = work.failed("a", at_least_s=3.9)
        await work.get()
        return delay_s, loop.time()

    delay_s, when_s = run_virtual(main())
    assert delay_s >= 3.9
    assert when_s == pytest.approx(delay_s)


def test_of_two_delays_the_earlier_stands():
    async def main():
        loop = asyncio.get_running_loop()
        work = queue()
        for delay_s in (5, 2, 9):
            work.add_after("a", delay_s)
        await work.get()
        work.done("a")
        first_s = loop.time()
        await asyncio.sleep(20)
        return first_s, len(work)

    assert run_virtual(main()) == (pytest.approx(2), 0)


def test_a_cancelled_timer_brings_no_turn():
    async def main():
        work = queue()
        work.add_after("a", 1)
        work.cancel_timer("a")
        await asyncio.sleep(5)
        return len(work)

    assert run_virtual(main()) == 0


def test_a_cancelled_worker_passes_its_wake_up_on():
    async def main():
        work = queue()
        first, second = asyncio.create_task(work.get()), asyncio.create_task(work.get())
        await asyncio.sleep(0)
        work.add("a")
        first.cancel()
        return await asyncio.wait_for(second, 1)

    assert run_virtual(main()) == "a"
