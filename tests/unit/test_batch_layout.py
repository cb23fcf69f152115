"""The log of endpoint records: newest wins at every instant, few writes, nothing lost whatever the answers."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enitide_api.resources import BATCH_SIZE, BatchEndpoint
from enitide_operator.batches.layout import Layout, Verb, Wanted

pytestmark = pytest.mark.unit


class Server:
    """What the API server holds, and what an agent makes of it, event by event."""

    def __init__(self):
        self.batches = {}
        self.used = Counter()
        self.layout = Layout(self._use)
        self.writes = Counter()

    def _use(self, identity, change):
        self.used[identity] += change
        assert self.used[identity] >= 0

    def take(self, write):
        self.writes[write.verb] += 1
        assert len(write.records) <= BATCH_SIZE
        if write.verb is Verb.DELETE:
            del self.batches[write.batch]
        else:
            assert (write.verb is Verb.CREATE) == (write.batch not in self.batches)
            self.batches[write.batch] = write.records

    def agents_view(self):
        """Address -> (identity, pod): the highest revision holds."""
        best = {}
        for records in self.batches.values():
            for each in records:
                for address in each.addresses:
                    if address not in best or best[address].revision < each.revision:
                        best[address] = each
        return {a: (r.identity, r.pod_uid) for a, r in best.items() if r.identity}

    def revisions(self):
        """Address -> the highest revision that stands, removals included."""
        best = {}
        for records in self.batches.values():
            for each in records:
                for address in each.addresses:
                    best[address] = max(best.get(address, 0), each.revision)
        return best

    def settle(self, *, clean=True):
        while True:
            write = self.layout.append_write() or (self.layout.clean_write() if clean else None)
            if write is None:
                return
            self.take(write)
            self.layout.accepted(write)


def wanted(address, identity=300, node="n"):
    return Wanted((address,), identity, node)


def test_fifty_changes_anywhere_are_one_write():
    server = Server()
    for i in range(50):
        server.layout.put(f"u{i}", wanted(f"10.0.0.{i}"))
    server.settle()
    assert server.writes == {Verb.CREATE: 1}


def test_removals_all_over_the_cluster_are_one_write():
    server = Server()
    for i in range(2000):
        server.layout.put(f"u{i}", wanted(f"10.0.{i // 200}.{i % 200}"))
    server.settle()
    server.writes.clear()
    for i in range(0, 2000, 50):
        server.layout.put(f"u{i}", None)
    server.settle(clean=False)
    assert sum(server.writes.values()) == 1
    assert len(server.agents_view()) == 2000 - 40


def test_an_address_that_another_pod_got_belongs_to_that_pod_whatever_stands_in_older_batches():
    server = Server()
    server.layout.put("old", wanted("10.0.0.1", 300))
    server.settle()
    server.layout.put("new", wanted("10.0.0.1", 400))
    server.settle(clean=False)
    assert server.agents_view() == {"10.0.0.1": (400, "new")}
    server.layout.put("old", None)  # heard late: it must not take the address from the new pod
    server.settle()
    assert server.agents_view() == {"10.0.0.1": (400, "new")}


def test_a_pod_that_went_before_its_record_was_written_leaves_no_trace():
    server = Server()
    server.layout.put("u", wanted("10.0.0.1"))
    server.layout.put("u", None)
    server.settle()
    assert not server.writes
    assert not server.used[300]


def test_what_stands_already_costs_no_write_after_a_restart():
    server = Server()
    for i in range(333):
        server.layout.put(f"u{i}", wanted(f"10.0.{i // 200}.{i % 200}", 300 + i % 7))
    for i in range(0, 333, 3):
        server.layout.put(f"u{i}", None)
    server.settle()
    again = Server()
    again.batches = dict(server.batches)
    again.layout.load(again.batches)
    for i in range(333):
        if i % 3:
            assert not again.layout.put(f"u{i}", wanted(f"10.0.{i // 200}.{i % 200}", 300 + i % 7))
    assert set(again.layout.want) == {f"u{i}" for i in range(333) if i % 3}
    again.settle()
    assert not again.writes
    assert +again.used == +server.used


def test_a_store_under_churn_stays_within_twice_its_live_records():
    server, rng = Server(), Random(1)
    alive = {}
    for step in range(6000):
        if len(alive) > 1000:
            gone = rng.choice(list(alive))
            del alive[gone]
            server.layout.put(gone, None)
        owner, address = f"u{step}", f"10.{step % 3}.{step % 200}.{step // 200}"
        alive[owner] = address
        server.layout.put(owner, wanted(address))
        if step % 25 == 0:
            server.settle()
    server.settle()
    total = sum(len(records) for records in server.batches.values())
    assert total <= 2 * len(alive) + 2 * BATCH_SIZE
    assert server.agents_view() == {address: (300, owner) for owner, address in alive.items()}


def test_a_record_that_somebody_else_wrote_is_overtaken():
    server = Server()
    server.layout.put("u", wanted("10.0.0.1", 300))
    server.settle()
    forged = (
        BatchEndpoint(addresses=("10.0.0.1",), pod_uid="evil", identity=999, node="n", revision=10**6),
        BatchEndpoint(addresses=("10.0.0.9",), pod_uid="evil", identity=999, node="n", revision=10**6),
    )
    server.batches["forged"] = forged
    assert server.layout.found("forged", forged)
    server.settle()
    assert server.agents_view() == {"10.0.0.1": (300, "u")}
    assert "forged" not in server.batches


def test_a_batch_that_somebody_deleted_is_said_again():
    server = Server()
    for i in range(120):
        server.layout.put(f"u{i}", wanted(f"10.0.0.{i}"))
    server.settle()
    before = server.agents_view()
    name = next(iter(server.batches))
    del server.batches[name]
    assert server.layout.found(name, None)
    server.settle()
    assert server.agents_view() == before


OWNERS = [f"u{i}" for i in range(12)] + ["node/a"]
STEP = st.tuples(
    st.sampled_from(["put", "put", "put", "gone", "append", "clean", "answer", "lose", "drop"]),
    st.sampled_from(OWNERS),
    st.integers(0, 8),
    st.integers(300, 303),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=120), st.integers(0, 2**32))
def test_at_every_instant_agents_know_no_address_wrongly_and_at_rest_they_know_all(steps, seed):
    """Writes overlap, answers come in any order, some are lost after or before taking effect."""
    server, rng = Server(), Random(seed)
    layout, truth, ever, flying, seen = server.layout, {}, {}, [], {}
    for what, owner, number, identity in steps:
        if what == "put":
            address = f"10.0.0.{number}"
            if any(a == address and o != owner for o, (a, _) in truth.items()):
                continue  # the operator believes one owner at a time: the former one goes first
            truth[owner] = (address, identity)
            ever.setdefault(address, set()).add((identity, "" if owner.startswith("node/") else owner))
            layout.put(owner, Wanted((address,), identity, "a"))
        elif what == "gone":
            truth.pop(owner, None)
            layout.put(owner, None)
        elif what in ("append", "clean"):
            write = layout.append_write() if what == "append" else layout.clean_write()
            if write is not None:
                flying.append(write)
        elif flying:
            write = flying.pop(rng.randrange(len(flying)))
            if what != "drop":
                server.take(write)
            if what == "answer":
                layout.accepted(write)
            else:
                layout.found(write.batch, server.batches.get(write.batch))
        for address, said in server.agents_view().items():
            assert said in ever[address]
        for address, revision in server.revisions().items():
            assert revision >= seen.get(address, 0), f"an older record of {address} shines through"
            seen[address] = revision
    for write in flying:
        server.take(write)
        layout.accepted(write)
    server.settle()
    assert server.agents_view() == {
        address: (identity, "" if owner.startswith("node/") else owner) for owner, (address, identity) in truth.items()
    }
    assert +server.used == Counter(identity for _, identity in truth.values())


def test_a_removal_stays_while_a_write_that_it_may_have_to_overtake_is_under_way():
    """Its answer is late: the records of that write come to stand after the removals, and must not hold then."""
    server = Server()
    layout = server.layout
    for i in range(BATCH_SIZE):
        layout.put(f"u{i}", Wanted((f"10.0.0.{i}",), 300, "n"))
    late = layout.append_write()
    for i in range(BATCH_SIZE):
        layout.put(f"u{i}", None)
    removals = layout.append_write()
    server.take(removals)
    layout.accepted(removals)
    for i in range(BATCH_SIZE):
        layout.put(f"v{i}", Wanted((f"10.0.1.{i}",), 301, "n"))
    after = layout.append_write()
    server.take(after)
    layout.accepted(after)
    server.take(late)
    assert not any(address.startswith("10.0.0.") for address in server.agents_view())
    layout.accepted(late)
    server.settle()
    assert not any(address.startswith("10.0.0.") for address in server.agents_view())
