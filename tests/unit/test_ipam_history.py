import pytest

from enitide_api.resources import Capacity, ClassStatus, ENINodeStatus, Interface
from enitide_ipam.ledger import PAST
from enitide_ipam.pool import PodRef, Pool
from enitide_ipam.records import decode, encode

pytestmark = pytest.mark.unit


def pool(**options):
    made = Pool("i-1", cooldown_s=30, **options)
    addresses = tuple(f"10.0.0.{n}" for n in range(10, 14))
    interfaces = (Interface(id="eni-1", card=0, index=0, primary="10.0.0.4", addresses=addresses),)
    status = ENINodeStatus(
        instance_id="i-1", class_=ClassStatus(), capacity=Capacity(slots=9, used_slots=4, provisioned=4),
        interfaces=interfaces,
    )  # fmt: skip
    made.apply_status(status, "1", 0.0)
    made.set_ready(["eni-1"])
    return made


def life(made, number, at):
    """One pod from ADD to DEL; every record in order."""
    owner, pod = f"c{number}/eth0", PodRef("shop", f"p{number}", f"u{number}")
    grant = made.allocate(owner, pod, at)
    return [*grant.records, *made.confirm(owner, at + 1), *made.release(owner, at + 50)], grant.allocation.address


def test_who_had_an_address_is_remembered_when_it_is_given_back():
    made = pool()
    _, address = life(made, 1, 100.0)
    (past,) = made.ledger.past
    assert (past.address, past.owner, past.pod.full_name) == (address, "c1/eth0", "shop/p1")
    assert (past.since, past.until) == (101.0, 150.0)


def test_the_past_is_bounded():
    made = pool()
    for number in range(PAST + 10):
        life(made, number, 1000.0 * (number + 1))
    assert len(made.ledger.past) == PAST
    assert made.ledger.past[0].owner == "c10/eth0"
    quiet = pool(remember=0)
    life(quiet, 1, 100.0)
    assert not quiet.ledger.past


def test_the_past_outlives_a_restart_with_and_without_a_rewritten_journal():
    made = pool()
    journal = [record for number in range(3) for record in life(made, number, 1000.0 * (number + 1))[0]]
    for records in (journal, made.records(5000.0)):
        again = Pool("i-1")
        again.restore([decode(encode(record)) for record in records], 5000.0)
        assert list(again.ledger.past) == list(made.ledger.past)


def test_a_reservation_that_nobody_used_is_no_past():
    made = pool()
    made.reserve(PodRef("shop", "p", "u"), 10.0)
    made.unreserve("u", 20.0)
    assert not made.ledger.past
