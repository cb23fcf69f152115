"""Create -> attach -> modify as pure steps from an intent: whatever crashed or got lost, the next step is decided anew.

The intent stands in status.pending before the first call. Its token is EC2's client token (repeating Create gives the
same ENI) and a tag on the ENI (finding it needs no memory). After an ambiguous outcome nothing is sent before a read
that was asked for one call time-out later. An attached ENI is published at once and its intent goes with that write;
the third step, delete-on-termination, is level-triggered from then on (`plan` orders it for every ENI of ours that
lacks it), so that no pod waits for it and no crash can lose it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from enitide_api.reasons import Reason
from enitide_api.resources import PendingInterface
from enitide_ipam.model import (
    TAG_INSTANCE,
    Action,
    AttachInterface,
    Attachment,
    CreateInterface,
    DeleteInterface,
    EniView,
    NodeSnapshot,
    PlanSettings,
)
from enitide_ipam.stamps import unix

# EC2's reads lag behind its writes: an ENI that no read shows this long after its Create could last have run is taken
# as never made. Together with the call time-out it stays within the minute that a restart has for every intent.
SETTLE_S = 15.0
POLL_S = 1.0


class StepKind(StrEnum):
    """What a step asks for.

    CALL: send `action`. REREAD: read first, not before `not_before`. PUBLISHABLE: attached or attaching, the intent
    goes with the write that publishes it. FINISHED: nothing of ours is left in EC2 (undone or never made), drop the
    intent.
    """

    CALL = "call"
    REREAD = "reread"
    PUBLISHABLE = "publishable"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of one saga; `reason` is a sentence."""

    kind: StepKind
    action: Action | None = None
    not_before: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SagaState:
    """What the actor holds of one saga; after a restart all but the intent is as in the defaults.

    `create`: the order as planned, None after a restart. `eni`: the ENI that carries the token, if seen or returned.
    `ambiguous_since`: when the last call ended with unknown outcome; reset it once a later read has come.
    `refused`: the reason for which EC2 refused a call for good (Create: then there is no ENI; Attach: then it is
    undone); an occupied index is no refusal but an entry of `bad_indexes`. `looked_at`: when the last read of this
    token was sent.
    """

    intent: PendingInterface
    create: CreateInterface | None = None
    eni: EniView | None = None
    ambiguous_since: float | None = None
    refused: Reason | None = None
    bad_indexes: frozenset[int] = frozenset()
    looked_at: float | None = None


def intent_of(action: CreateInterface, since: str) -> PendingInterface:
    """The intent to write into status.pending before the action is sent; `since` is a stamp."""
    return PendingInterface(
        token=action.token,
        since=since,
        subnet_id=action.subnet_id,
        card=action.card,
        index=action.index,
        count=action.prefixes or action.addresses,
        prefixes=action.prefixes > 0,
    )


def next_step(state: SagaState, node: NodeSnapshot, settings: PlanSettings, now: float) -> Step:
    """What to do next for this intent: go on, read first, undo, or be done."""
    if state.ambiguous_since is not None:
        sure_at = state.ambiguous_since + settings.call_timeout_s
        if state.looked_at is None or state.looked_at < sure_at:
            return _reread(max(now, sure_at), "the outcome of the last call is unknown")
    eni = state.eni or next((each for each in node.enis if each.token == state.intent.token), None)
    if eni is None:
        return _without_eni(state, node, settings, now)
    if eni.attachment is Attachment.DETACHED:
        return _detached(state, eni, node)
    if eni.instance_id != node.instance.id:
        return Step(StepKind.FINISHED, reason=f"{eni.id} is attached to {eni.instance_id}")
    if eni.is_on_instance:
        return Step(StepKind.PUBLISHABLE, reason=f"{eni.id} is attached")
    return _reread(now + POLL_S, f"{eni.id} is {eni.attachment}")


def _without_eni(state: SagaState, node: NodeSnapshot, settings: PlanSettings, now: float) -> Step:
    """No ENI with the token: make it, or be sure that there is none."""
    if state.create is not None:
        if state.refused is not None:
            return Step(StepKind.FINISHED, reason=f"not made: {state.refused}")
        if not node.instance_missing:
            return Step(StepKind.CALL, state.create, reason=state.create.reason)
    # An earlier process may have sent Create later than it wrote the intent (it waits for its budget). What this bound
    # misses is an ENI with our tags and without an intent: the sweep's to find, never a doubled one on the node.
    settled_at = unix(state.intent.since) + settings.call_timeout_s + SETTLE_S
    if state.looked_at is None or state.looked_at < settled_at:
        return _reread(now if state.looked_at is None else max(now, settled_at), "is there an ENI with this token?")
    return Step(StepKind.FINISHED, reason="EC2 has no ENI with this token")


def _detached(state: SagaState, eni: EniView, node: NodeSnapshot) -> Step:
    """Made but not attached: attach it, or undo where that makes no sense any more."""
    unwanted = _unwanted(state, eni, node)
    index = None if unwanted else _index(state, node)
    if index is None:
        why = unwanted or f"card {state.intent.card} has no free device index"
        return Step(StepKind.CALL, DeleteInterface(eni.id, state.intent.token, why), reason=why)
    action = AttachInterface(
        eni_id=eni.id,
        instance_id=node.instance.id,
        card=state.intent.card,
        index=index,
        token=state.intent.token,
        reason=f"card {state.intent.card}, index {index}",
    )
    return Step(StepKind.CALL, action, reason=action.reason)


def _unwanted(state: SagaState, eni: EniView, node: NodeSnapshot) -> str:
    if node.instance_missing:
        return f"instance {node.instance.id} is gone"
    if eni.tags.get(TAG_INSTANCE, node.instance.id) != node.instance.id:
        return f"made for instance {eni.tags[TAG_INSTANCE]}, the node is {node.instance.id}"
    return f"attach refused: {state.refused}" if state.refused is not None else ""


def _index(state: SagaState, node: NodeSnapshot) -> int | None:
    intent = state.intent
    taken = _taken(node, intent.card, intent.token)
    if intent.index not in taken and intent.index not in state.bad_indexes:
        return intent.index
    return next_index(node, intent.card, state.bad_indexes, intent.token)


def next_index(node: NodeSnapshot, card: int, bad: Collection[int], token: str) -> int | None:
    """Lowest free device index of a card, by what EC2 shows and other intents hold; None when the card is full."""
    if node.limits is None or card >= len(node.limits.cards):
        return None
    taken = _taken(node, card, token)
    indexes = range(node.class_.interfaces.first_index, node.limits.cards[card])
    return next((index for index in indexes if index not in taken and index not in bad), None)


def _taken(node: NodeSnapshot, card: int, token: str) -> set[int]:
    shown = {eni.index for eni in node.enis if eni.card == card and eni.attachment is not Attachment.DETACHED}
    return shown | {each.index for each in node.pending if each.card == card and each.token != token}


def _reread(not_before: float, reason: str) -> Step:
    return Step(StepKind.REREAD, not_before=not_before, reason=reason)
