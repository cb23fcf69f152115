"""Why a pod gets no address now: the one place that turns the state of a node into a reason and a sentence."""

from __future__ import annotations

from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_api.resources import ENINodeStatus
from enitide_ipam.status import READY
from enitide_ipam.stock import Stock

_KNOWN = {reason.value: reason for reason in Reason}


@dataclass(frozen=True, slots=True)
class Refusal:
    """No address: why, in a sentence; `retry`: waiting can help."""

    reason: Reason
    message: str
    retry: bool


def why_no_address(status: ENINodeStatus, stock: Stock, *, at_capacity: bool) -> Refusal:
    """The reason of the node's own state first, then why the operator says it is not Ready.

    `at_capacity`: as the agent sees it, who does not report that at once: a status that still calls the pool filled is
    no reason.
    """
    waiting = sorted(
        eni_id for eni_id, eni in stock.enis.items() if not eni.ready and any(unit.free for unit in eni.units())
    )
    if waiting:
        message = f"addresses are free on {', '.join(waiting)}, whose device is not configured yet"
        return Refusal(Reason.NOT_RECONCILED, message, retry=True)
    for condition in status.conditions:
        if condition.type == READY and condition.status == "False" and condition.reason in _KNOWN:
            return Refusal(_KNOWN[condition.reason], condition.message, retry=True)
    for condition in status.conditions:
        if condition.reason == Reason.AT_CAPACITY:
            return Refusal(Reason.AT_CAPACITY, condition.message, retry=True)
    if at_capacity:
        message = "no further address fits this node, and every one is held or has just begun to cool"
        return Refusal(Reason.AT_CAPACITY, message, retry=True)
    if not stock.enis:
        return Refusal(Reason.ADDRESS_PENDING, "the operator has published no addresses for this node", retry=True)
    return Refusal(Reason.ADDRESS_PENDING, "every published address is held or cooling", retry=True)
