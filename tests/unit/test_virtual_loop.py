"""Virtual time: it jumps when nothing can run, and never past what is under way."""

import asyncio
import socket
import threading
import time

import pytest
from support.virtual_loop import Deadlock, run_virtual, virtual_loop

pytestmark = pytest.mark.unit


def test_a_long_sleep_takes_its_virtual_time_and_no_real_time():
    async def main():
        await asyncio.sleep(7 * 86400)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert run_virtual(main()) == pytest.approx(7 * 86400)
    assert time.monotonic() - began < 2


def test_timers_fire_in_the_order_of_their_time():
    order = []

    async def main():
        async def wait(delay_s):
            await asyncio.sleep(delay_s)
            order.append((delay_s, round(asyncio.get_running_loop().time(), 6)))

        await asyncio.gather(*(wait(delay_s) for delay_s in (3, 0.5, 2, 0.25)))

    run_virtual(main())
    assert order == [(0.25, 0.25), (0.5, 0.5), (2, 2), (3, 3)]


def test_time_stands_still_while_anything_can_run():
    async def main():
        loop = asyncio.get_running_loop()
        timer = loop.call_later(1e-3, lambda: None)
        for _ in range(10_000):
            await asyncio.sleep(0)
        timer.cancel()
        return loop.time()

    assert run_virtual(main()) == 0


def test_time_stands_still_while_a_thread_works():
    async def main():
        loop = asyncio.get_running_loop()
        sleeper = asyncio.create_task(asyncio.sleep(1))
        gate = threading.Event()
        threading.Timer(0.05, gate.set).start()
        await asyncio.to_thread(gate.wait)
        worked_s = loop.time()
        await sleeper
        return worked_s, loop.time()

    assert run_virtual(main()) == (0, pytest.approx(1))


def test_what_a_socket_has_to_say_comes_before_the_next_timer():
    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.send(b"now")
            async with asyncio.timeout(1):
                data = await loop.sock_recv(ours, 10)
        return data, loop.time()

    assert run_virtual(main()) == (b"now", 0)


def test_where_nothing_can_ever_happen_again_it_says_so():
    async def main():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match="no timer is set"):
        run_virtual(main())


def test_a_timeout_is_virtual_too():
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(3600)


def test_a_jump_lets_timers_fire_late_as_after_a_stop():
    async def main():
        loop = virtual_loop()
        fired = []
        loop.call_later(1, lambda: fired.append(loop.time()))
        await asyncio.sleep(0)
        loop.jump(100)
        await asyncio.sleep(0.5)
        return fired

    assert run_virtual(main()) == [100]


def test_who_waits_for_the_rest_of_a_deadline_gets_there():
    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.1)
        deadline, turns = loop.time() + 1e-9, 0
        while (left_s := deadline - loop.time()) > 0:
            turns += 1
            assert turns < 10, "time stands still"
            await asyncio.wait([loop.create_future()], timeout=left_s)

    run_virtual(main())
