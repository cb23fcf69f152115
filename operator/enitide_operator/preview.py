"""What the next pass would do for a node, and what it would cost: the real plan on the real facts, with nothing done.

For people who ask (`enitide plan`, `/debug/plan`). It reads what the actor reads and changes nothing: no call, no
write, no reading begun. A node at rest has an empty plan; what a node waits for stands beside its plan with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from enitide_api.reasons import Reason
from enitide_ipam import handover, tide
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.model import (
    Action,
    AssignAddresses,
    AssignIPv6Prefix,
    AssignPrefixes,
    AssociateElasticIP,
    AttachInterface,
    CreateInterface,
    DeleteInterface,
    DetachInterface,
    FinishOrUndoPending,
    NodeSnapshot,
    Plan,
    Reread,
    SetDeleteOnTermination,
    Unassign,
)
from enitide_ipam.plan import node_tide, plan_node
from enitide_ipam.stamps import stamp
from enitide_operator.classes import Governing
from enitide_operator.context import Context
from enitide_operator.decision import explained, mismatch, tide_of
from enitide_operator.ec2.budget import BucketState
from enitide_operator.ec2.port import Verb
from enitide_operator.node_state import NodeState
from enitide_operator.trouble import key_of

_CALLS: Mapping[type[Any], tuple[Verb, ...]] = {
    AssignAddresses: (Verb.ASSIGN,),
    AssignPrefixes: (Verb.ASSIGN,),
    AssignIPv6Prefix: (Verb.ASSIGN_IPV6,),
    AssociateElasticIP: (Verb.ASSOCIATE,),
    CreateInterface: (Verb.CREATE, Verb.ATTACH, Verb.MODIFY),
    AttachInterface: (Verb.ATTACH,),
    SetDeleteOnTermination: (Verb.MODIFY,),
    DetachInterface: (Verb.DETACH,),
    DeleteInterface: (Verb.DELETE,),
    FinishOrUndoPending: (Verb.ATTACH, Verb.MODIFY),
    Unassign: (Verb.UNASSIGN,),
    Reread: (Verb.DESCRIBE_INTERFACES,),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One action. `gains`: addresses for pods, below 0 where they go back. `held_until`: Unix seconds, None: now."""

    action: str
    on: str
    gains: int
    calls: tuple[Verb, ...]
    why: str
    held_until: float | None = None


@dataclass(frozen=True, slots=True)
class NodePreview:
    """One node. `under_way`: sent and not answered; `planned`: what a pass at this moment would send."""

    name: str
    provisioned: int
    low: int | None
    high: int | None
    needed: int
    wait: Reason | None
    message: str
    under_way: tuple[Step, ...] = ()
    planned: tuple[Step, ...] = ()

    @property
    def idle(self) -> bool:
        """Nothing is under way, planned or waited for."""
        return not (self.under_way or self.planned or self.wait)


def calls_of(action: Action) -> tuple[Verb, ...]:
    """The EC2 calls that an action costs where each is answered at once."""
    calls = _CALLS[type(action)]
    if isinstance(action, CreateInterface) and not action.delete_on_termination:
        return calls[:2]
    return calls


def gains_of(action: Action) -> int:
    """Addresses for pods that it brings, or takes (below 0)."""
    if isinstance(action, AssignAddresses):
        return action.count
    if isinstance(action, AssignPrefixes):
        return PREFIX_SIZE * action.count
    if isinstance(action, Unassign):
        return -len(action.addresses) - PREFIX_SIZE * len(action.prefixes)
    if isinstance(action, FinishOrUndoPending):
        return action.intent.count * (PREFIX_SIZE if action.intent.prefixes else 1)
    return action.gives if isinstance(action, CreateInterface) else 0


def preview_node(ctx: Context, state: NodeState, governing: Governing, snapshot: NodeSnapshot) -> NodePreview:
    """One node as of now."""
    now = ctx.now()
    provisioned = state.resource.status.capacity.provisioned
    stopped = _stopped(ctx, state, governing)
    if stopped is not None:
        return NodePreview(state.name, provisioned, None, None, 0, stopped.wait, stopped.message)
    vpc_id = snapshot.instance.vpc_id
    subnets = ctx.book.subnets(vpc_id, now)
    settings = replace(ctx.plan_settings, name_beside_prefixes=ctx.book.name_beside_prefixes)
    tags = snapshot.class_.interfaces.elastic_ip_selector.tags
    elastic_ips = ctx.elastic.known(tags) if tags else None
    plan = plan_node(snapshot, subnets, ctx.book.groups(vpc_id), settings, now, elastic_ips=elastic_ips)
    told = explained(plan, tide_of(snapshot, subnets), state.troubles.worst(now))
    releases = handover.unassign(state.published.releasing, snapshot.enis)
    planned = tuple(_step(state, each, now) for each in (*plan.actions, *releases))
    marks = needed = None
    if snapshot.limits is not None:
        known = node_tide(snapshot, snapshot.limits, subnets)
        marks, needed = known.marks, tide.needed(known.marks, provisioned, known.ahead)
    return NodePreview(
        name=state.name,
        provisioned=provisioned,
        low=marks.low if marks is not None else None,
        high=marks.high if marks is not None else None,
        needed=needed or 0,
        wait=told.wait,
        message=told.message,
        under_way=tuple(_step(state, each, now) for each in state.in_flight.values()),
        planned=tuple(sorted(planned, key=lambda each: (each.gains < 0, -each.gains / max(1, len(each.calls))))),
    )


def _stopped(ctx: Context, state: NodeState, governing: Governing) -> Plan | None:
    """Why nothing is planned at all; the actor's own reasons, without the readings that it begins."""
    instance = state.resource.spec.instance
    if not instance.id or not instance.vpc_id:
        return Plan(wait=Reason.IDENTITY_EMPTY, message="the agent has not published its instance and VPC")
    why = mismatch(ctx.nodes.get(state.name), state.instance_id)
    if why:
        return Plan(wait=Reason.INSTANCE_MISMATCH, message=why)
    if governing.problem:
        return Plan(wait=Reason.CLASS_INVALID, message=f"ENIClass {governing.name}: {governing.problem}")
    if not ctx.book.knows(instance.vpc_id):
        return Plan(wait=Reason.FILLING, message=f"{instance.vpc_id} has not been read yet")
    return None


def _step(state: NodeState, action: Action, now: float) -> Step:
    trouble = state.troubles.of(key_of(action))
    held = trouble.until if trouble is not None and trouble.until is not None and trouble.until > now else None
    why = (
        f"held back: {trouble.reason}: {trouble.message}" if held is not None and trouble is not None else _why(action)
    )
    return Step(type(action).__name__, _on(action), gains_of(action), calls_of(action), why, held)


def _on(action: Action) -> str:
    """What it is done to."""
    if isinstance(action, CreateInterface):
        return f"card {action.card}, index {action.index} in {action.subnet_id}"
    if isinstance(action, FinishOrUndoPending):
        return f"intent {action.intent.token[-8:]}"
    return str(getattr(action, "eni_id", ""))


def _why(action: Action) -> str:
    return str(getattr(action, "reason", ""))


# --- as JSON ---------------------------------------------------------------------------------------------------------


def document(nodes: list[NodePreview], buckets: Mapping[str, BucketState]) -> dict[str, Any]:
    """Nodes by priority: the biggest gain per call first, as the budget has it, releases last, idle ones at the end."""
    ordered = sorted(nodes, key=_priority)
    steps = [step for node in ordered for step in node.planned if step.held_until is None]
    calls = Counter(str(verb) for step in steps for verb in step.calls)
    return {
        "nodes": [_node(each) for each in ordered],
        "calls": dict(sorted(calls.items())),
        "gains": sum(step.gains for step in steps if step.gains > 0),
        "gives": -sum(step.gains for step in steps if step.gains < 0),
        "budget": {
            name: {"tokens": round(state.tokens, 1), "rate": round(state.rate, 2), "waiting": state.waiting}
            for name, state in sorted(buckets.items())
        },
    }


def _priority(node: NodePreview) -> tuple[bool, float, str]:
    best = max((each.gains / max(1, len(each.calls)) for each in node.planned), default=0.0)
    return node.idle, -best, node.name


def _node(node: NodePreview) -> dict[str, Any]:
    return {
        "name": node.name,
        "provisioned": node.provisioned,
        "low": node.low,
        "high": node.high,
        "needed": node.needed,
        "reason": str(node.wait) if node.wait is not None else None,
        "message": node.message,
        "underWay": [_row(each) for each in node.under_way],
        "planned": [_row(each) for each in node.planned],
    }


def _row(step: Step) -> dict[str, Any]:
    return {
        "action": step.action,
        "on": step.on,
        "gains": step.gains,
        "calls": [str(verb) for verb in step.calls],
        "why": step.why,
        "heldUntil": stamp(step.held_until) if step.held_until is not None else None,
    }
