"""Random interleavings of pods, hand-overs, crashes, leaders and weather: nothing is lost, doubled or taken away.

`make bench ONLY=interleavings_ok` runs 10,000. Here are enough to see a rule that is broken; the mutants show that one
is seen.
"""

from __future__ import annotations

import pytest
from support.interleaving.machine import Interleaving
from support.interleaving.mutants import MUTANTS
from support.interleaving.run import interleave

pytestmark = [pytest.mark.sim, pytest.mark.timeout(900)]

EXAMPLES = 120
ENOUGH = 400  # within which a broken rule is seen


def test_no_interleaving_takes_an_address_from_a_pod_doubles_one_or_loses_anything() -> None:
    before = Interleaving.finished
    interleave(EXAMPLES)
    assert Interleaving.finished - before >= EXAMPLES


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_rule_that_is_taken_out_is_missed(mutant: str) -> None:
    with pytest.raises(AssertionError):
        interleave(ENOUGH, mutant=mutant)
