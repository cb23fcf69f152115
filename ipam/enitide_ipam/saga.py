"""Create -> attach -> modify as pure steps from an intent: whatever crashed or got lost, the next step is decided anew.

The intent stands in status.pending before the first call. Its token is EC2's client token (repeating Create gives the
same ENI) and a tag on the ENI (finding it needs no memory). After an ambiguous outcome nothing is sent before a read
that was asked for one call time-out later.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from enitide_api.resources import PendingInterface
from enitide_ipam.model import Action, CreateInterface, EniView, NodeSnapshot, PlanSettings


class StepKind(StrEnum):
    """CALL: send `action`. REREAD: read first, not before `not_before`. PUBLISHABLE: attached, the intent goes with
    the write that publishes it. FINISHED: nothing left in EC2 (undone or never made), drop the intent.
    """

    CALL = "call"
    REREAD = "reread"
    PUBLISHABLE = "publishable"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of one saga."""

    kind: StepKind
    action: Action | None = None
    not_before: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SagaState:
    """What the actor holds of one saga; after a restart all but the intent is as in the defaults.

    `create`: the order as planned, None after a restart (the ENI's tag and the intent must do). `eni`: the ENI that
    carries the token, if seen. `ambiguous_since`: when the last call of this saga ended with unknown outcome.
    `refused_at`: when EC2 last refused one of its calls for good. `refused`: that refusal's reason word.
    `bad_indexes`: device indexes that EC2 called occupied. `looked_at`: when the last read of this token was sent.
    """

    intent: PendingInterface
    create: CreateInterface | None = None
    eni: EniView | None = None
    ambiguous_since: float | None = None
    refused: str = ""
    bad_indexes: frozenset[int] = frozenset()
    looked_at: float | None = None


def intent_of(action: CreateInterface, now: float) -> PendingInterface:
    """The intent to write into status.pending before the action is sent."""
    raise NotImplementedError


def next_step(state: SagaState, node: NodeSnapshot, settings: PlanSettings, now: float) -> Step:
    """What to do next for this intent: go on, read first, undo, or be done."""
    raise NotImplementedError


def next_index(node: NodeSnapshot, card: int, bad: Collection[int], token: str) -> int | None:
    """Lowest free device index of a card, by what EC2 shows and other intents hold; None when the card is full."""
    raise NotImplementedError
