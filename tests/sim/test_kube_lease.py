"""Leader election under a virtual clock: terms of mutation never overlap, whatever stops, is lost or comes late."""

import asyncio
from random import Random

import pytest
from support.virtual_loop import run_virtual, virtual_loop

from enitide_api.errors import KubeUnavailable, NotLeading
from enitide_api.reasons import Reason
from enitide_kube.lease import CALL_MAX_S, LeaderElection
from enitide_kube.port import LEASE
from enitide_lab.apistore import Fault, Store, StoreKube
from enitide_lab.apistore.faults import WRITES

pytestmark = pytest.mark.sim


class Stoppable:
    """A process that SIGSTOP can hit: its requests are neither sent nor answered while it is stopped."""

    def __init__(self, kube):
        self._kube = kube
        self.going = asyncio.Event()
        self.going.set()

    def __getattr__(self, verb):
        async def call(*args, **kwargs):
            await self.going.wait()
            try:
                return await getattr(self._kube, verb)(*args, **kwargs)
            finally:
                await self.going.wait()

        return call


class World:
    def __init__(self, seed=0, electors=2):
        loop = virtual_loop()
        self.store = Store(clock=loop.wall, monotonic=loop.time, rng=Random(seed))
        self.processes = [Stoppable(StoreKube(self.store, f"p{i}", latency_s=0.05)) for i in range(electors)]
        self.states = [[] for _ in range(electors)]
        self.electors = [
            LeaderElection(
                process,
                "default",
                "enitide-operator",
                f"p{i}",
                rng=Random(seed * 100 + i),
                clock=loop.time,
                now=loop.wall,
                on_state=lambda reason, _detail, i=i: self.states[i].append(reason),
            )
            for i, process in enumerate(self.processes)
        ]
        self.tasks = [asyncio.create_task(self.run(i)) for i in range(electors)]

    async def run(self, i):
        await asyncio.sleep(float(i))  # so that the first leads first
        await self.electors[i].run()

    def leaders(self):
        return [i for i, elector in enumerate(self.electors) if elector.may_mutate()]

    async def until_leads(self, i, within_s=60.0):
        async with asyncio.timeout(within_s):
            # a lapsing term has no event: it is a fact of the clock
            while not self.electors[i].may_mutate():  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def end(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def test_one_leads_from_the_start_and_its_term_has_no_gap_in_a_quiet_hour():
    async def main():
        world = World()
        await world.until_leads(0, 5)
        for _ in range(36_000):
            await asyncio.sleep(0.1)
            assert world.leaders() == [0]
        renewals = world.store.requests["p0", "patch", "Lease", "ok"]
        await world.end()
        return renewals

    assert 3600 / 20 <= run_virtual(main()) <= 3600 / 7


def test_a_cancelled_leader_releases_and_the_next_leads_within_seconds():
    async def main():
        world = World()
        await world.until_leads(0, 5)
        await asyncio.sleep(30)
        world.tasks[0].cancel()
        began_s = virtual_loop().time()
        await world.until_leads(1)
        assert world.leaders() == [1]
        taken_s = virtual_loop().time() - began_s
        term = world.electors[1].term
        await world.end()
        return taken_s, term

    taken_s, term = run_virtual(main())
    assert taken_s < 5
    assert term == 1


def test_a_stopped_leader_finds_itself_outside_its_term_before_another_may_act():
    async def main():
        loop = virtual_loop()
        world = World()
        await world.until_leads(0, 5)
        await asyncio.sleep(100)
        world.processes[0].going.clear()
        last_call_end_s = 0.0
        while not world.electors[1].may_mutate():
            if world.electors[0].may_mutate():
                last_call_end_s = loop.time() + CALL_MAX_S
            await asyncio.sleep(0.05)
        taken_s = loop.time()
        world.processes[0].going.set()
        assert world.leaders() == [1]
        with pytest.raises(NotLeading):
            world.electors[0].require()
        await asyncio.sleep(120)
        assert world.leaders() == [1]
        await world.end()
        return last_call_end_s, taken_s

    last_call_end_s, taken_s = run_virtual(main())
    assert last_call_end_s < taken_s


@pytest.mark.parametrize("seed", range(8))
def test_in_an_hour_of_stops_and_lost_answers_no_two_calls_of_different_leaders_overlap(seed):
    async def main():
        loop = virtual_loop()
        rng = Random(seed)
        world = World(seed, electors=3)
        busy_until = [0.0, 0.0, 0.0]
        led = set()
        for _ in range(3600):
            await asyncio.sleep(1.0)
            for i in world.leaders():
                # a call is sent now and may take 15 s: nobody else's may be under way
                assert all(busy_until[j] <= loop.time() for j in range(3) if j != i)
                busy_until[i] = loop.time() + CALL_MAX_S
                led.add(i)
            chance = rng.random()
            if chance < 0.01:
                process = rng.choice(world.processes)
                process.going.clear()
                loop.call_later(rng.uniform(1, 90), process.going.set)
            elif chance < 0.02:
                fault = Fault(kind="Lease", verbs=WRITES, code=500, times=rng.randrange(1, 6), lost=rng.random() < 0.5)
                world.store.faults.add(fault)
            elif chance < 0.025:
                world.store.faults.add(Fault(kind="Lease", verbs=WRITES, delay_s=rng.uniform(1, 20), times=2))
        for process in world.processes:
            process.going.set()
        world.store.faults.clear()
        await asyncio.sleep(120)
        assert len(world.leaders()) == 1, "in the end one leads"
        await world.end()
        return led

    assert run_virtual(main())


def test_a_deleted_lease_ends_nobodys_term_early():
    async def main():
        loop = virtual_loop()
        world = World()
        await world.until_leads(0, 5)
        await asyncio.sleep(60)
        world.processes[0].going.clear()
        world.store.delete(world.store.type_of(LEASE), "default", "enitide-operator")
        while not world.electors[1].may_mutate():
            assert loop.time() < 300
            held = world.electors[0].may_mutate()
            await asyncio.sleep(0.05)
        assert not held
        world.processes[0].going.set()
        await asyncio.sleep(30)
        assert world.leaders() == [1]
        await world.end()

    run_virtual(main())


def test_while_the_api_is_away_the_term_runs_out_the_reason_is_told_and_it_leads_again_after():
    async def main():
        world = World(electors=1)
        await world.until_leads(0, 5)
        world.store.faults.begin_outage("refuse")
        await asyncio.sleep(24)
        assert world.leaders() == [0], "a short outage costs nothing"
        await asyncio.sleep(20)
        assert world.leaders() == []
        assert world.states[0][-1] is Reason.API_UNAVAILABLE
        world.store.faults.end_outage()
        await world.until_leads(0, 10)
        assert world.states[0][-1] is None
        await world.end()

    run_virtual(main())


def test_a_renewal_whose_answer_is_lost_is_known_again_after_a_look():
    async def main():
        world = World(electors=2)
        await world.until_leads(0, 5)
        world.store.faults.add(
            Fault(kind="Lease", verbs=frozenset({"patch"}), code=503, times=1, lost=True, client="p0")
        )
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert world.leaders() == [0]
        await world.end()

    run_virtual(main())


def test_settings_under_which_terms_could_overlap_are_refused():
    for wrong in ({"duration_s": 30.0}, {"renew_s": 30.0}):
        with pytest.raises(ValueError, match="does not keep terms apart"):
            LeaderElection(None, "default", "x", "me", rng=Random(0), **wrong)


def test_the_port_error_of_an_outage_is_unavailable():
    async def main():
        store = Store()
        store.faults.begin_outage("refuse")
        with pytest.raises(KubeUnavailable):
            await StoreKube(store).get(LEASE, "x", namespace="default")

    run_virtual(main())
