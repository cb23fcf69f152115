"""Sums over the states of all nodes, as metrics show them. Pure; a scrape is the only thing that looks at all nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from enitide_api.resources import Reclaim
from enitide_ipam.stamps import unix
from enitide_kube.objects import Node
from enitide_operator.gauges import FleetState, NodeGauge
from enitide_operator.node_state import NodeState
from enitide_operator.taints import is_tainted


def fleet_state(states: Iterable[NodeState], nodes: Mapping[str, Node], now: float, *, each: bool) -> FleetState:
    """`each`: one entry per node too."""
    known = tuple(states)
    demand = [one.resource.spec.demand for one in known]
    waits = Counter(str(one.summary.wait) for one in known if one.summary.wait is not None)
    return FleetState(
        nodes=len(known),
        in_deficit=sum(one.summary.needed > 0 for one in known),
        at_capacity=sum(one.summary.at_capacity for one in known),
        tainted=sum(is_tainted(nodes.get(one.name)) for one in known),
        waiting=waits,
        waiting_s=_longest(known, now),
        provisioned=sum(one.summary.provisioned for one in known),
        in_use=sum(one.in_use for one in demand),
        cooling=sum(one.cooling for one in demand),
        needed=sum(one.summary.needed for one in known),
        interfaces=sum(len(one.resource.status.interfaces) for one in known),
        pending=sum(len(one.resource.status.pending) for one in known),
        candidates=sum(one.summary.candidates for one in known),
        places=sum(one.summary.places for one in known),
        read_age_s=_oldest((one.enis_asked_at or one.first_seen_at for one in known if not one.instance_missing), now),
        reclaim_age_s=_oldest((unix(one.since) for one in map(_unmet, known) if one is not None), now),
        releasing_age_s=_oldest((one.releasing_accepted_at for one in known if one.resource.status.releasing), now),
        pending_age_s=_oldest((unix(each.since) for one in known for each in one.resource.status.pending), now),
        each=tuple(map(_gauge, known)) if each else (),
    )


def _longest(states: Iterable[NodeState], now: float) -> dict[str, float]:
    longest: dict[str, float] = {}
    for one in states:
        if one.summary.wait is not None and one.waiting_since is not None:
            reason = str(one.summary.wait)
            longest[reason] = max(longest.get(reason, 0.0), now - one.waiting_since)
    return longest


def _oldest(moments: Iterable[float], now: float) -> float:
    first = min(moments, default=now)
    return max(0.0, now - first)


def _unmet(state: NodeState) -> Reclaim | None:
    """The reclaim that its agent has not met; one that asks for nothing is none."""
    reclaim = state.resource.status.reclaim
    return reclaim if reclaim is not None and reclaim.count > 0 else None


def _gauge(state: NodeState) -> NodeGauge:
    demand, summary = state.resource.spec.demand, state.summary
    return NodeGauge(
        name=state.name,
        provisioned=summary.provisioned,
        in_use=demand.in_use,
        cooling=demand.cooling,
        needed=summary.needed,
        to_give=max(0, summary.to_give),
        reason=str(summary.wait) if summary.wait is not None else "",
    )
