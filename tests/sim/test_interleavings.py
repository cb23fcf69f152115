"""Random interleavings of pods, hand-overs, crashes, leaders and weather: nothing is lost, doubled or taken away.

`make bench ONLY=interleavings_ok` runs 10,000. Here are enough to see a rule that is broken; the mutants show that one
is seen.
"""

from __future__ import annotations

from collections import Counter

import pytest
from support.interleaving.ground import Setup
from support.interleaving.machine import Interleaving
from support.interleaving.mutants import MUTANTS
from support.interleaving.run import interleave
from support.interleaving.tally import KINDS, missing

pytestmark = [pytest.mark.sim, pytest.mark.timeout(900)]

EXAMPLES = 120
ENOUGH = (
    1000  # within which a broken rule is seen: most after a few, two that need a certain order of five events after 270
)


def test_no_interleaving_takes_an_address_from_a_pod_doubles_one_or_loses_anything() -> None:
    before = Interleaving.finished
    Interleaving.tally.clear()
    interleave(EXAMPLES)
    assert Interleaving.finished - before >= EXAMPLES
    assert not missing(Interleaving.tally), "what never happened was not tried"


def test_a_kind_of_event_that_never_happened_is_named() -> None:
    assert missing(Counter()) == list(KINDS)
    assert "leak swept" not in missing(Counter({"leak swept": 1}))


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_rule_that_is_taken_out_is_missed(mutant: str) -> None:
    with pytest.raises(AssertionError):
        interleave(ENOUGH, mutant=mutant)


def test_the_next_leader_is_not_let_in_before_reads_show_what_the_last_one_did() -> None:
    """Found as an interleaving: it took what the last leader had just taken, which its first read did not show."""
    machine = Interleaving()
    machine.begin(
        setup=Setup(
            prefixes=False,
            pre=2,
            above=0,
            maximum=5,
            visible_after_s=5.0,
            attach_delay_s=1.0,
            scattered=False,
            pods=2,
            stay=1,
            began=("yielded", "PATCH before"),
            rush=5,
        )
    )
    machine.a_while_passes(then=0.0)
    machine.the_operator_is_replaced(then=0.0)
    machine.until(moment="yielded")
    machine.teardown()


def test_an_address_that_ec2_gives_again_before_it_answers_the_unassign_is_not_forgotten() -> None:
    """Found as an interleaving: the answer to the Unassign came last, and one more was taken, beyond maxAllocate."""
    machine = Interleaving()
    machine.begin(
        setup=Setup(
            prefixes=False,
            pre=0,
            above=0,
            maximum=5,
            visible_after_s=5.0,
            attach_delay_s=1.0,
            scattered=False,
            pods=5,
            stay=3,
            began=("yielded",),
            rush=5,
        )
    )
    machine.the_leader_dies_and_its_write_comes_late(burst=3, delay_s=60.0, moment="reclaimed", then=6.0)
    machine.teardown()
