"""Why a pod gets no address now: the one place that turns the state of a node into a reason and a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_api.resources import ENINodeStatus
from enitide_ipam.stock import Stock


@dataclass(frozen=True, slots=True)
class Refusal:
    """No address: why, in a sentence; `retry`: waiting can help."""

    reason: Reason
    message: str
    retry: bool


def why_no_address(status: ENINodeStatus, stock: Stock) -> Refusal:
    """The reason of the node's own state first, then that of the operator's conditions."""
    waiting = sorted(
        eni_id for eni_id, eni in stock.enis.items() if not eni.ready and any(unit.free for unit in eni.units())
    )
    if waiting:
        message = f"addresses are free on {', '.join(waiting)}, whose device is not configured yet"
        return Refusal(Reason.NOT_RECONCILED, message, retry=True)
    known = {reason.value: reason for reason in Reason}
    for condition in status.conditions:
        if condition.status == "False" and condition.reason in known:
            return Refusal(known[condition.reason], condition.message, retry=True)
    for condition in status.conditions:
        if condition.reason == Reason.AT_CAPACITY:
            return Refusal(Reason.AT_CAPACITY, condition.message, retry=True)
    if not stock.enis:
        return Refusal(Reason.ADDRESS_PENDING, "the operator has published no addresses for this node", retry=True)
    return Refusal(Reason.ADDRESS_PENDING, "every published address is held or cooling", retry=True)
