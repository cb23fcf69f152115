"""The reflector under a virtual clock: it converges from any weather and tells each difference once."""

import asyncio
from random import Random

import msgspec
import pytest
from support.virtual_loop import run_virtual, virtual_loop

from enitide_api.crds import definitions
from enitide_api.reasons import Reason
from enitide_kube.objects import Meta, Slim
from enitide_kube.port import CRD, ENDPOINTBATCH, LEASE, WatchEvent
from enitide_kube.reflector import Reflector
from enitide_lab.apistore import Fault, Store, StoreKube
from enitide_lab.apistore.faults import READS

pytestmark = pytest.mark.unit


class LeaseSpec(Slim, frozen=True, kw_only=True):
    lease_transitions: int = 0


class SlimLease(Slim, frozen=True, kw_only=True):
    metadata: Meta = Meta()
    spec: LeaseSpec = LeaseSpec()


decode = msgspec.json.Decoder(SlimLease).decode


class Scene:
    """A store, its port, a reflector of Leases, and what it told."""

    def __init__(self, kube=None, **kwargs):
        loop = virtual_loop()
        self.store = Store(clock=loop.wall, monotonic=loop.time, rng=Random(0))
        self.kube = StoreKube(self.store, "writer")
        self.told, self.states = [], []
        self.reflector = Reflector(
            kube or StoreKube(self.store, "reader"),
            LEASE,
            decode,
            rng=Random(0),
            on_change=lambda key, old, new: self.told.append((key, old and old.spec, new and new.spec)),
            on_state=lambda reason, detail: self.states.append((reason, detail)),
            **kwargs,
        )
        self.task = asyncio.create_task(self.reflector.run())

    async def make(self, name, transitions=0):
        await self.kube.create(
            LEASE, {"metadata": {"name": name}, "spec": {"leaseTransitions": transitions}}, namespace="default"
        )

    async def change(self, name, transitions):
        await self.kube.patch(LEASE, name, {"spec": {"leaseTransitions": transitions}}, namespace="default")

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def agrees(self):
        table = self.store.catalog.tables[LEASE.group, LEASE.plural]
        return {k: v.obj["spec"].get("leaseTransitions", 0) for k, v in table.objects.items()} == {
            k: v.spec.lease_transitions for k, v in self.reflector.store.items()
        }


def test_a_quiet_day_costs_one_list_and_a_watch_every_few_minutes():
    async def main():
        scene = Scene()
        await scene.make("a")
        await asyncio.sleep(86_400)
        await scene.end()
        return scene.store.requests

    requests = run_virtual(main())
    assert requests["reader", "list", "Lease", "ok"] == 1
    assert 86_400 / 600 <= requests["reader", "watch", "Lease", "ok"] <= 86_400 / 300 + 1


@pytest.mark.parametrize("seed", range(6))
def test_after_any_weather_the_mirror_equals_the_store_and_no_difference_was_told_twice(seed):
    async def main():
        scene, rng = Scene(page=3), Random(seed)
        for number in range(10):
            await scene.make(f"l{number}")
        alive = set(range(10))
        for step in range(400):
            number = rng.randrange(20)
            if number not in alive:
                await scene.make(f"l{number}", step)
                alive.add(number)
            elif rng.random() < 0.2:
                await scene.kube.delete(LEASE, f"l{number}", namespace="default")
                alive.discard(number)
            else:
                await scene.change(f"l{number}", step + 1)
            weather = rng.random()
            if weather < 0.03:
                scene.store.expire_watches("Lease")
            elif weather < 0.06:
                scene.store.drop_watches("Lease")
            elif weather < 0.1 and not scene.store.faults.active:
                code = rng.choice([410, 429, 500, 503])
                fault = Fault(kind="Lease", verbs=READS, code=code, times=rng.randrange(1, 4), client="reader")
                scene.store.faults.add(fault)
            await asyncio.sleep(rng.random() * 3)
        scene.store.faults.clear()
        await asyncio.sleep(60)
        assert scene.agrees()
        last = {}
        for key, old, new in scene.told:
            assert last.get(key) == old, "each difference begins where the last one ended"
            assert old != new or old is None
            last[key] = new
        await scene.end()
        return scene.reflector.relists

    assert run_virtual(main()) > 1


def test_a_relist_tells_deletions_of_what_vanished_and_nothing_of_what_stayed():
    async def main():
        scene = Scene()
        await scene.make("stays")
        await scene.make("goes")
        await asyncio.sleep(1)
        scene.told.clear()
        scene.store.faults.add(Fault(kind="Lease", verbs=READS, code=503, times=3, client="reader"))
        scene.store.drop_watches()
        await scene.kube.delete(LEASE, "goes", namespace="default")
        scene.store.compact()
        await asyncio.sleep(60)
        await scene.end()
        return scene.told

    told = run_virtual(main())
    assert [(key, new) for key, _, new in told] == [("default/goes", None)]


def test_a_repeated_event_changes_nothing_and_is_not_told():
    class Stutter(StoreKube):
        async def watch(self, kind, **kwargs):
            async for event in super().watch(kind, **kwargs):
                yield event
                yield event

    async def main():
        loop = virtual_loop()
        store = Store(clock=loop.wall, monotonic=loop.time)
        scene = Scene(Stutter(store, "reader"))
        scene.store, scene.kube = store, StoreKube(store, "writer")
        await scene.reflector.synced.wait()
        await scene.make("a")
        await scene.change("a", 1)
        await scene.kube.delete(LEASE, "a", namespace="default")
        await asyncio.sleep(1)
        await scene.end()
        return [(old is None, new is None) for _, old, new in scene.told]

    assert run_virtual(main()) == [(True, False), (False, False), (False, True)]


def test_an_object_that_cannot_be_read_is_told_with_its_reason_and_stops_no_other():
    async def main():
        scene = Scene()
        await scene.reflector.synced.wait()
        good = decode
        scene.reflector._decode = lambda raw: good(raw.replace(b'"leaseTransitions":13', b'"leaseTransitions":"x"'))
        await scene.make("bad", 13)
        await scene.make("good", 1)
        await asyncio.sleep(1)
        await scene.end()
        return set(scene.reflector.store), scene.states, scene.reflector.refused

    keys, states, refused = run_virtual(main())
    assert keys == {"default/good"}
    assert states[0][0] is Reason.API_INVALID
    assert "default/bad" in states[0][1]
    assert refused == 1


def test_an_outage_is_told_with_its_reason_and_its_end_too():
    async def main():
        scene = Scene()
        await scene.reflector.synced.wait()
        scene.store.faults.begin_outage("refuse")
        scene.store.drop_watches()
        await asyncio.sleep(60)
        told = [reason for reason, _ in scene.states]
        assert set(told) == {Reason.API_UNAVAILABLE}
        assert len(told) < 20, "it backs off"
        scene.store.faults.end_outage()
        await asyncio.sleep(60)
        await scene.end()
        return scene.states[-1][0], scene.reflector.relists

    assert run_virtual(main()) == (None, 1)


def test_a_throttling_server_is_obeyed():
    async def main():
        loop = virtual_loop()
        scene = Scene()
        scene.store.faults.add(Fault(kind="Lease", verbs=READS, code=429, times=1, retry_after_s=17, client="reader"))
        await scene.reflector.synced.wait()
        await scene.end()
        return loop.time()

    assert run_virtual(main()) >= 17


def test_a_server_that_refuses_to_watch_from_our_version_gets_a_fresh_list():
    async def main():
        scene = Scene()
        await scene.reflector.synced.wait()
        fault = Fault(kind="Lease", verbs=frozenset({"watch"}), code=504, times=8, client="reader")
        scene.store.faults.add(fault)
        scene.store.drop_watches()
        await asyncio.sleep(300)
        await scene.end()
        return scene.reflector.relists

    assert run_virtual(main()) >= 2


@pytest.mark.parametrize("code", [410, 503])
def test_a_server_whose_watches_always_fail_is_not_asked_without_pause(code):
    async def main():
        scene = Scene()
        fault = Fault(kind="Lease", verbs=frozenset({"watch"}), code=code, times=None, client="reader")
        scene.store.faults.add(fault)
        await asyncio.sleep(3600)
        await scene.end()
        return sum(count for (client, *_), count in scene.store.requests.items() if client == "reader")

    assert run_virtual(main()) < 2 * 3600 / 15 + 40


def test_a_server_that_ends_watches_as_they_begin_is_not_asked_without_pause():
    async def main():
        scene = Scene()
        await scene.reflector.synced.wait()
        for _ in range(36_000):
            scene.store.drop_watches("Lease")
            await asyncio.sleep(0.1)
        await scene.end()
        return scene.store.requests["reader", "watch", "Lease", "ok"]

    assert run_virtual(main()) < 3600 / 15 + 20


def test_a_late_listener_is_told_what_is_here():
    async def main():
        scene, late = Scene(), []
        await scene.make("a")
        await scene.reflector.synced.wait()
        scene.reflector.add_callback(lambda key, old, new: late.append((key, old)))
        await scene.end()
        return late

    assert run_virtual(main()) == [("default/a", None)]


def test_a_watch_event_of_a_bookmark_moves_the_version_alone():
    async def main():
        scene = Scene()
        await scene.reflector.synced.wait()
        scene.reflector._apply(WatchEvent("BOOKMARK", b'{"metadata":{"resourceVersion":"777"}}'))
        await scene.end()
        return scene.reflector.resource_version, scene.told

    assert run_virtual(main()) == ("777", [])


def test_a_kind_without_a_definition_has_no_objects_and_is_waited_for_without_a_word():
    """The wait costs two requests every few minutes; once defined, the kind is mirrored within seconds."""
    definition = definitions()["enitide.io_endpointbatches.yaml"]

    async def main():
        loop = virtual_loop()
        store = Store(clock=loop.wall, monotonic=loop.time, rng=Random(0))
        kube, states = StoreKube(store, "writer"), []
        mirror = Reflector(
            StoreKube(store, "reader"),
            ENDPOINTBATCH,
            decode,
            rng=Random(0),
            on_state=lambda reason, detail: states.append(reason),
            optional=True,
        )
        task = asyncio.create_task(mirror.run())
        await mirror.synced.wait()
        await asyncio.sleep(3600)
        assert states == []
        asked = sum(n for (who, *_), n in store.requests.items() if who == "reader")
        assert asked <= 3 * 13
        await kube.create(CRD, definition)
        body = {"apiVersion": "enitide.io/v1alpha1", "kind": "EndpointBatch", "metadata": {"name": "b"}, "spec": {}}
        await kube.create(ENDPOINTBATCH, body)
        await asyncio.sleep(5)
        assert set(mirror.store) == {"b"}
        await kube.delete(CRD, definition["metadata"]["name"])
        await asyncio.sleep(60)
        assert not mirror.store
        assert [each for each in states if each is not None] == []
        task.cancel()

    run_virtual(main())


def test_what_came_is_told_before_what_went_in_a_relist():
    """A thing that moved from one object to another is never missing in between."""

    async def main():
        scene = Scene()
        await scene.make("a")
        await scene.reflector.synced.wait()
        await asyncio.sleep(1)
        scene.store.faults.add(Fault(kind="Lease", verbs=READS, code=503, times=3, client="reader"))
        scene.store.drop_watches("Lease")
        await scene.make("b")
        await scene.kube.delete(LEASE, "a", namespace="default")
        scene.store.compact()
        scene.told.clear()
        await asyncio.sleep(60)
        assert [key for key, _, _ in scene.told] == ["default/b", "default/a"]
        await scene.end()

    run_virtual(main())
