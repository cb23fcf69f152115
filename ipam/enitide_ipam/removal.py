"""When an idle ENI goes, and the steps by which it does: detach, wait, delete. Pure; `retiring` says which ENIs may.

What is removed stands in status.removing before the first call, and leaves it when EC2 does not have it any more. An
ENI that someone else changed meanwhile (its tag, its instance) is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.durations import seconds
from enitide_ipam.capacity import NODE_PLACE, primary_serves
from enitide_ipam.model import Attachment, DeleteInterface, DetachInterface, EniView, NodeSnapshot, PlanSettings
from enitide_ipam.plan import Tide
from enitide_ipam.retiring import is_ours
from enitide_ipam.saga import Step, StepKind

POLL_S = 3.0  # EC2 takes seconds to detach
POLL_MOST_S = 30.0
EMPTY_AGAIN_S = 3.0
EMPTY_READS = 2  # one empty answer is no proof that an ENI is gone


def idle_due(snapshot: NodeSnapshot, state: Tide | None, now: float) -> frozenset[str]:
    """Idle ENIs whose time has come: only while the node is not short, so that removing one makes it need none.

    One whose own address serves pods goes only if the node then still stands at its high tide.
    """
    policy = snapshot.class_.release
    if state is None or state.short or snapshot.pending or not policy.enabled:
        return frozenset()
    delay_s = seconds(policy.idle_interface_delay)
    spare = state.provisioned - state.marks.high
    found: set[str] = set()
    for eni in snapshot.enis:
        since = snapshot.idle_since.get(eni.id)
        if since is None or now - since < delay_s:
            continue
        serves = primary_serves((eni.card, eni.index), snapshot.class_.interfaces)
        if not serves or spare > 0:
            found.add(eni.id)
            spare -= serves
    return frozenset(found)


def next_idle_at(snapshot: NodeSnapshot, now: float) -> float | None:
    """When the next idle ENI's time comes; None where none waits for that."""
    if not snapshot.class_.release.enabled:
        return None
    delay_s = seconds(snapshot.class_.release.idle_interface_delay)
    return min((since + delay_s for since in snapshot.idle_since.values() if since + delay_s > now), default=None)


# --- detach, wait, delete ---


@dataclass(frozen=True, slots=True)
class Removal:
    """One ENI in status.removing, and what is known of it now.

    `eni`: as the world shows it, None if it does not. `ambiguous_since`: the last call ended with unknown outcome.
    `looked_at`: when the last read of this ENI was sent. `empty`: reads in a row that did not show it. `polls`: reads
    since it began to detach.
    """

    eni_id: str
    eni: EniView | None = None
    ambiguous_since: float | None = None
    looked_at: float | None = None
    empty: int = 0
    polls: int = 0


def next_removal(state: Removal, instance_id: str, settings: PlanSettings, now: float) -> Step:
    """The next step: read it, detach it, delete it, or be done. Whatever crashed before, it is decided anew."""
    if state.ambiguous_since is not None:
        sure_at = state.ambiguous_since + settings.call_timeout_s
        if state.looked_at is None or state.looked_at < sure_at:
            return _reread(max(now, sure_at), "the outcome of the last call is unknown")
    eni = state.eni
    if eni is None:
        if state.empty >= EMPTY_READS:
            return Step(StepKind.FINISHED, reason=f"{state.eni_id} is gone")
        return _reread(now + EMPTY_AGAIN_S * min(state.empty, 1), f"is {state.eni_id} still there?")
    hands_off = _not_ours_to_remove(eni, instance_id, settings)
    if hands_off:
        return Step(StepKind.FINISHED, reason=hands_off)
    why = "idle, and no longer published"
    if eni.attachment is Attachment.DETACHED:
        return Step(StepKind.CALL, DeleteInterface(eni.id, eni.token, why), reason=why)
    if eni.attachment is Attachment.ATTACHED:
        return Step(StepKind.CALL, DetachInterface(eni.id, eni.attachment_id, eni.token, why), reason=why)
    return _reread(now + min(POLL_MOST_S, POLL_S * 2.0**state.polls), f"{eni.id} is {eni.attachment}")


def _not_ours_to_remove(eni: EniView, instance_id: str, settings: PlanSettings) -> str:
    """Why hands are kept off after all: someone changed it meanwhile."""
    if not is_ours(eni, settings.cluster_name):
        return f"{eni.id} does not carry this cluster's tag any more"
    if eni.attachment is Attachment.DETACHED:
        return ""
    if eni.instance_id != instance_id:
        return f"{eni.id} is attached to {eni.instance_id}"
    return f"{eni.id} is the first ENI of its instance" if (eni.card, eni.index) == NODE_PLACE else ""


def _reread(not_before: float, reason: str) -> Step:
    return Step(StepKind.REREAD, not_before=not_before, reason=reason)
