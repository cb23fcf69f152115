"""A change of class reaches its nodes in turn, never faster than the API server is to be written to."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from support.virtual_loop import run_virtual

from enitide_operator.fleet import CLASS_WRITES_PER_S, Fleet

pytestmark = pytest.mark.unit


def test_however_often_classes_change_each_second_at_most_twenty_nodes_look_again() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        looks: list[tuple[float, str]] = []
        fleet = Fleet(SimpleNamespace(), SimpleNamespace())
        for number in range(100):
            name = f"n-{number:03}"
            look = SimpleNamespace(class_changed=lambda name=name: looks.append((loop.time(), name)))
            fleet._actors[name] = look
        began = loop.time()
        for _ in range(6):
            fleet.on_classes()
            await asyncio.sleep(0.5)
        last = loop.time()
        await asyncio.sleep(60)
        fleet.stop()
        times = [at for at, _ in looks]
        assert times[0] == began, "the first needs not wait"
        for at in times:
            assert sum(at <= other < at + 0.999 for other in times) <= CLASS_WRITES_PER_S
        seen_last = {name for at, name in looks if at > last - 0.5}
        assert seen_last == set(fleet._actors), "each saw the last change"

    run_virtual(scenario())
