"""What of the agent's pool survives a crash: its journal alone gives it back."""

from __future__ import annotations

import timeit

import msgspec
import pytest
from support.pool_facts import POD, asked, give, interface, pod, pool_with, states, status

from enitide_ipam.pool import Grant, Pool
from enitide_ipam.records import Released, decode, encode

pytestmark = pytest.mark.unit


# --- the journal ---


def image(pool: Pool) -> tuple[object, ...]:
    """What a pool is, without the order of things that have none."""
    ledger = pool.ledger
    return (
        dict(ledger.held), dict(ledger.cooling), dict(ledger.tombstones), dict(ledger.by_owner), pool.out_of_use(),
        pool.interfaces(), states(pool), pool.demand(10.0).in_use, pool.endpoints(),
    )  # fmt: skip


def test_replaying_any_prefix_of_the_journal_gives_the_pool_as_it_was_then():
    shown = (interface(0, singles=3), interface(1, prefixes=1))
    pool = Pool("i-1")
    journal: list[bytes] = []
    images = [(0, image(pool))]

    def step(records: object) -> None:
        assert isinstance(records, tuple)
        journal.extend(encode(each) for each in records)
        images.append((len(journal), image(pool)))

    def records_of(answer: object) -> tuple[object, ...]:
        assert isinstance(answer, Grant)
        return answer.records

    pool.set_ready(["eni-0", "eni-1"])
    step(pool.apply_status(status(*shown), "1", 0.0))
    step(records_of(pool.reserve(POD, 1.0)))
    step(records_of(pool.allocate("c1/eth0", POD, 2.0)))
    step(pool.confirm("c1/eth0", 3.0))
    step(records_of(pool.allocate("c2/eth0", pod(2), 4.0)))
    step(pool.release("c2/eth0", 5.0))
    step(pool.release("ghost/eth0", 5.0))
    step(records_of(pool.allocate("c3/eth0", pod(3), 6.0)))
    step(pool.abort("c3/eth0", 7.0))
    step(pool.apply_status(asked(17, *shown), "2", 8.0))
    step(pool.answer_reclaim())
    step(pool.yielded_written((), asked(0, *shown), "4", 9.0))
    step(pool.unreserve("uid-3", 10.0))
    for length, expected in images:
        again = Pool("i-1")
        again.restore([decode(line) for line in journal[:length]], 10.0)
        again.set_ready(["eni-0", "eni-1"])
        assert image(again) == expected, length
    compact = Pool("i-1")
    compact.restore(pool.records(10.0), 10.0)
    compact.set_ready(["eni-0", "eni-1"])
    assert image(compact) == images[-1][1]


def test_after_a_restart_without_the_api_server_the_journal_alone_serves():
    pool = Pool("i-1")
    journal = [*pool.apply_status(status(interface(singles=2)), "5", 0.0)]
    again = Pool("i-1")
    again.restore(journal, 1.0)
    again.set_ready(["eni-0"])
    assert isinstance(again.allocate("c1/eth0", POD, 1.0), Grant)
    assert again.apply_status(status(), "4", 2.0) == ()
    assert again.interfaces()


def test_a_torn_line_is_refused_by_the_decoder():
    line = encode(Released("c1/eth0", "10.0.0.5", 1.0, True, True))
    for cut in range(1, len(line)):
        with pytest.raises(msgspec.DecodeError):
            decode(line[:cut])


def test_an_add_costs_less_than_50_microseconds_with_250_addresses():
    pool = pool_with(interface(0, singles=9), *(interface(each, prefixes=5) for each in (1, 2, 3)))
    for number in range(150):
        give(pool, f"fill{number}/eth0", pod(1000 + number))

    def add_and_undo() -> None:
        pool.allocate("c/eth0", POD, 0.0)
        pool.abort("c/eth0", 0.0)
        pool.unreserve("uid-0", 0.0)

    best = min(timeit.repeat(add_and_undo, number=200, repeat=5)) / 200
    assert best < 500e-6  # ten times the figure: a wrong order of growth is found, a slow machine is not


def test_a_journal_of_another_instance_publishes_nothing():
    journal = pool_with(interface(singles=2)).records(0.0)
    pool = Pool("i-2")
    pool.restore(journal, 0.0)
    assert pool.interfaces() == ()
