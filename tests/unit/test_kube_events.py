"""Events: folded, bounded, never in the way, never lost in silence."""

import asyncio
from random import Random

import pytest
from support.virtual_loop import run_virtual, virtual_loop

from enitide_api.reasons import Reason
from enitide_kube.events import MAX_SERIES, EventRecorder, ObjectRef
from enitide_kube.port import ENINODE, EVENT
from enitide_lab.apistore import Fault, Store, StoreKube

pytestmark = pytest.mark.unit


class Scene:
    def __init__(self):
        loop = virtual_loop()
        self.store = Store(clock=loop.wall, monotonic=loop.time, rng=Random(0))
        kube = StoreKube(self.store, "recorder")
        self.recorder = EventRecorder(kube, "enitide.io/operator", "operator-0", rng=Random(0), now=loop.wall)
        self.task = asyncio.create_task(self.recorder.run())

    def events(self):
        return [s.obj for s in self.store.catalog.tables[EVENT.group, EVENT.plural].objects.values()]

    def record(self, name="n", reason="Throttled", note="slow down"):
        self.recorder.record(ObjectRef(ENINODE, name), reason, note, action="Fill", event_type="Warning")

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def test_a_thousand_repeats_within_an_hour_are_one_event_and_a_write_a_minute():
    async def main():
        scene = Scene()
        for _ in range(1000):
            scene.record()
            await asyncio.sleep(3.6)
        await asyncio.sleep(301)
        await scene.end()
        return scene.events(), scene.recorder.written

    events, written = run_virtual(main())
    assert len(events) == 1
    assert events[0]["series"]["count"] == 1000
    assert written <= 15


def test_after_long_silence_the_same_thing_is_news_again():
    async def main():
        scene = Scene()
        scene.record()
        await asyncio.sleep(400)
        scene.record()
        await asyncio.sleep(1)
        await scene.end()
        return scene.events()

    events = run_virtual(main())
    assert [event.get("series") for event in events] == [None, None]


def test_other_objects_and_other_reasons_have_events_of_their_own():
    async def main():
        scene = Scene()
        for name in "ab":
            for reason in ("Throttled", "AtCapacity"):
                scene.record(name, reason)
        await asyncio.sleep(1)
        await scene.end()
        return {(event["regarding"]["name"], event["reason"]) for event in scene.events()}

    assert len(run_virtual(main())) == 4


def test_what_cannot_be_written_is_counted_by_its_reason_and_never_raised():
    async def main():
        scene = Scene()
        scene.store.faults.add(Fault(kind="Event", code=403, times=None))
        for name in "abc":
            scene.record(name)
        await asyncio.sleep(1)
        failed = dict(scene.recorder.failed)
        assert not scene.task.done()
        scene.store.faults.clear()
        scene.record("d")
        await asyncio.sleep(1)
        await scene.end()
        return failed, [event["regarding"]["name"] for event in scene.events()]

    assert run_virtual(main()) == ({Reason.API_FORBIDDEN: 3}, ["d"])


def test_a_series_whose_event_has_expired_goes_on_in_a_new_one():
    async def main():
        scene = Scene()
        scene.record()
        await asyncio.sleep(1)
        name = scene.events()[0]["metadata"]["name"]
        scene.store.delete(scene.store.type_of(EVENT), "default", name)
        scene.record()
        await asyncio.sleep(90)
        await scene.end()
        return scene.events()

    (event,) = run_virtual(main())
    assert event["series"]["count"] == 2


def test_a_flood_of_objects_takes_bounded_memory_and_says_what_it_forgot():
    async def main():
        scene = Scene()
        scene.store.faults.begin_outage("hang")
        await asyncio.sleep(0)
        for number in range(MAX_SERIES + 10):
            scene.record(f"n{number}")
        known, forgotten = len(scene.recorder._series), scene.recorder.forgotten
        await scene.end()
        return known, forgotten

    assert run_virtual(main()) == (MAX_SERIES, 10)


def test_a_long_note_is_cut_to_what_the_api_takes():
    async def main():
        scene = Scene()
        scene.record(note="x" * 5000)
        await asyncio.sleep(1)
        await scene.end()
        return scene.events()

    (event,) = run_virtual(main())
    assert len(event["note"]) == 1024
