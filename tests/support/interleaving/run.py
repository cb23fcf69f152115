"""Runs interleavings: so many from a seed, or the same ones each time, with a rule taken out or with all in place."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS
from hypothesis.stateful import run_state_machine_as_test

from support.interleaving.machine import Interleaving
from support.interleaving.mutants import MUTANTS
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

STEPS = 12

# Hypothesis' own draws, by another name: under its own it makes five of six examples by copying parts of one before,
# and the first ones small, which finds less here than as many that have nothing to do with each other.
AVAILABLE_PROVIDERS["independent"] = "hypothesis.internal.conjecture.providers.HypothesisProvider"


def interleave(count: int, *, mutant: str = "", from_seed: int | None = None) -> None:
    """`AssertionError` at the first that breaks something; without a seed the same ones each time."""
    run_virtual(_compile())
    profile = settings(
        max_examples=count,
        stateful_step_count=STEPS,
        derandomize=from_seed is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,) if mutant or from_seed is not None else (Phase.generate, Phase.shrink),
        print_blob=False,
        backend="independent",
    )
    machine = Interleaving if from_seed is None else seed(from_seed)(Interleaving)
    with MUTANTS[mutant]() if mutant else nullcontext():
        run_state_machine_as_test(machine, settings=profile)


async def _compile() -> None:
    """CEL's parser changes the recursion limit when it is first used, which Hypothesis warns of."""
    await Scene().install()


def batch(count: int, *, seed: int) -> dict[str, Any]:
    """How many of `count` ended whole (the first that does not ends the batch), what was wrong with that one.

    And what happened in those that did, by how often.
    """
    before = Interleaving.finished
    Interleaving.tally.clear()
    broken = ""
    gc.collect()
    gc.freeze()  # what is imported is no garbage: a quarter of the time would go into looking at it
    try:
        interleave(count, from_seed=seed)
    except AssertionError as error:
        broken = str(error)
    happened = dict(sorted(Interleaving.tally.items()))
    return {"whole": min(count, Interleaving.finished - before), "broken": broken, "happened": happened}
