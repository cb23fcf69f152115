"""Reflector, leader election and events on a control plane: what operator and agent rest on."""

import asyncio
import contextlib
from random import Random

import msgspec
import pytest
from support.kube_contract import WIDGET, decoded, until, widget

from enitide_api.errors import KubeUnavailable
from enitide_kube.backoff import Backoff
from enitide_kube.events import EventRecorder, ObjectRef
from enitide_kube.lease import LeaderElection
from enitide_kube.objects import MetaOnly
from enitide_kube.port import EVENT, LEASE
from enitide_kube.reflector import Reflector

pytestmark = pytest.mark.kube

decode = msgspec.json.Decoder(MetaOnly).decode


class Weather:
    """The port with bad weather: `away` refuses everything, `forget` makes the next watch begin before all history."""

    def __init__(self, kube):
        self._kube = kube
        self.away = False
        self.forget = False
        self.held = asyncio.Event()
        self.held.set()
        self._streams = set()

    def __getattr__(self, verb):
        method = getattr(self._kube, verb)

        async def call(*args, **kwargs):
            await self.held.wait()
            if self.away:
                raise KubeUnavailable("no answer")
            return await method(*args, **kwargs)

        return call

    async def watch(self, kind, *, resource_version, **kwargs):
        if self.away:
            raise KubeUnavailable("no answer")
        if self.forget:
            self.forget, resource_version = False, "1"
        stream = self._kube.watch(kind, resource_version=resource_version, **kwargs)
        self._streams.add(stream)
        pending = None
        try:
            while True:
                pending = asyncio.ensure_future(anext(stream))
                while not pending.done():
                    await asyncio.wait({pending}, timeout=0.02)
                    if self.away or self.forget:
                        raise KubeUnavailable("the watch was lost")
                try:
                    yield pending.result()
                except StopAsyncIteration:
                    return
        finally:
            if pending is not None and not pending.done():
                pending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await pending


@contextlib.asynccontextmanager
async def running(coroutine):
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_reflector_follows_relists_after_410_and_tells_what_vanished_meanwhile(kube, name, cleanup):
    weather, told, states = Weather(kube), [], []
    reflector = Reflector(
        weather,
        WIDGET,
        decode,
        label_selector=f"r={name}",
        page=2,
        rng=Random(0),
        on_change=lambda key, old, new: told.append((key, old is None, new is None)),
        on_state=lambda reason, _detail: states.append(reason),
        backoff=Backoff(base_s=0.05, cap_s=0.2),
    )
    for number in range(5):
        cleanup(WIDGET, f"{name}-{number}")
        await kube.create(WIDGET, widget(f"{name}-{number}", {"r": name}))

    async def seen(keys):
        return set(reflector.store) == {f"{name}-{number}" for number in keys}

    async with running(reflector.run()):
        await asyncio.wait_for(reflector.synced.wait(), 20)
        assert sorted(told) == [(f"{name}-{number}", True, False) for number in range(5)]
        told.clear()
        await kube.patch(WIDGET, f"{name}-1", {"spec": {"size": 9}})
        await kube.create(WIDGET, widget(f"{name}-5", {"r": name}))
        cleanup(WIDGET, f"{name}-5")
        await until(lambda: seen(range(6)), "the new object is not seen")
        assert told == [(f"{name}-1", False, False), (f"{name}-5", True, False)]

        told.clear()
        weather.away = True
        await until(lambda: asyncio.sleep(0, bool(states and states[-1])), "the outage is not told")
        await kube.delete(WIDGET, f"{name}-0")
        weather.forget, weather.away = True, False
        await until(lambda: seen(range(1, 6)), "the vanished object stays")
        assert told == [(f"{name}-0", False, True)], "what did not change is not told again"
        assert reflector.relists == 2
        await until(lambda: asyncio.sleep(0, states[-1] is None), "the recovery is not told")


async def test_of_two_electors_one_leads_and_the_other_takes_over_when_it_releases(kube, name, cleanup):
    cleanup(LEASE, name, "default")
    electors = [LeaderElection(kube, "default", name, f"{name}-{i}", rng=Random(i)) for i in range(2)]

    async def leaders(wanted):
        return [elector.may_mutate() for elector in electors] == wanted

    async with running(electors[0].run()) as first:
        await until(lambda: leaders([True, False]), "the first does not lead")
        async with running(electors[1].run()):
            await until(lambda: asyncio.sleep(0, electors[1].holder == electors[0].identity), "it does not look")
            assert await leaders([True, False])
            first.cancel()
            await until(lambda: leaders([False, True]), "a released lease is not taken")
            spec = decoded(await kube.get(LEASE, name, namespace="default"))["spec"]
            assert (spec["holderIdentity"], spec["leaseTransitions"]) == (electors[1].identity, 1)
    released = decoded(await kube.get(LEASE, name, namespace="default"))["spec"]
    assert not released.get("holderIdentity")


async def test_a_leader_that_was_stopped_wakes_up_outside_its_term(kube, name, cleanup):
    cleanup(LEASE, name, "default")
    passed = [0.0]
    loop = asyncio.get_running_loop()

    def clock():
        return loop.time() + passed[0]

    stopped = Weather(kube)
    old = LeaderElection(stopped, "default", name, f"{name}-old", rng=Random(0), clock=clock, renew_s=4.0)
    new = LeaderElection(kube, "default", name, f"{name}-new", rng=Random(1), clock=clock, renew_s=4.0)
    async with running(old.run()):
        await until(lambda: asyncio.sleep(0, old.may_mutate()), "nobody leads")
        async with running(new.run()):
            await until(lambda: asyncio.sleep(0, new.holder == old.identity), "the follower does not look")
            stopped.held.clear()  # as SIGSTOP: it sends nothing any more, while the clock runs on
            passed[0] += 26.0
            assert not old.may_mutate()
            assert not new.may_mutate(), "the lease is not yet over for others"
            passed[0] += 26.0
            await until(lambda: asyncio.sleep(0, new.may_mutate()), "nobody takes over")
            assert not old.may_mutate()
            stopped.held.set()
            await until(lambda: asyncio.sleep(0, old.holder == new.identity), "the old leader does not look")
            assert not old.may_mutate()
            assert new.may_mutate()
            assert new.term == old.term == 1


async def test_repeated_events_become_one_event_with_a_series(kube, name, cleanup):
    recorder = EventRecorder(kube, "enitide.io/contract", "contract-0", rng=Random())
    ref = ObjectRef(WIDGET, name)
    async with running(recorder.run()):
        for _ in range(3):
            recorder.record(ref, "AtCapacity", "no free slot", action="Fill", event_type="Warning")
        await until(lambda: asyncio.sleep(0, recorder.written or recorder.failed), "nothing is written")
        assert not recorder.failed
        page = await kube.list(EVENT, namespace="default", field_selector="reason=AtCapacity")
        mine = [e for e in map(decoded, page.items) if e["regarding"]["name"] == name]
        for event in mine:
            cleanup(EVENT, event["metadata"]["name"], "default")
        assert [(e["note"], e["type"], e["series"]["count"]) for e in mine] == [("no free slot", "Warning", 3)]
