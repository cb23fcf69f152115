"""The chain from a pod, or a node, to the subnet its address comes from: what holds, and the first link that does not.

Pure: from what was read, with what could not be read said. The links from class to EC2 are `enitide_ipam.explain`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from enitide_api import errors
from enitide_api.reasons import Reason
from enitide_api.resources import ENIClass, ENINode
from enitide_api.subnetreport import SubnetReport
from enitide_ipam import explain, tide
from enitide_ipam.explain import AGENT, OPERATOR, Holds, Link
from enitide_kube.objects import TERMINAL_PHASES, instance_of
from enitide_operator.taints import KEY as TAINT

Json = Mapping[str, Any]

POD, BOUND, NODE, ADDRESS = "pod", "bound", "node", "address"
RUNBOOK = "docs/runbook.md"
_LEASE_S = 45.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was read; None: there is none. `pod`, `node`, `agent_pod` and events as the API server gave them.

    `leader`: the Lease's holder, '' for nobody, None where the Lease could not be read; `lease_age_s`: since its
    renewal. `bound`: pods on the node that want an address. `unseen`: what could not be read, as sentences.
    """

    pod: Json | None = None
    pod_events: tuple[Json, ...] = ()
    node_name: str = ""
    node: Json | None = None
    eninode: ENINode | None = None
    class_: ENIClass | None = None
    agent_pod: Json | None = None
    reports: tuple[SubnetReport, ...] = ()
    bound: int = 0
    leader: str | None = ""
    lease_age_s: float | None = None
    tainted: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """`cause`: the first broken link, else the first that waits; None where nothing is amiss. `next`: what to do."""

    subject: str
    links: tuple[Link, ...]
    cause: Link | None
    next: str
    unseen: tuple[str, ...]


def why(subject: str, seen: Evidence) -> Answer:
    """The whole chain and its cause."""
    links = tuple(_chain(seen))
    cause = next((each for each in links if each.holds is Holds.BROKEN), None)
    cause = cause or next((each for each in links if each.holds is Holds.WAITS), None)
    return Answer(subject, links, cause, advice(cause), seen.unseen)


def advice(cause: Link | None) -> str:
    """What to do about a reason: its error's own words, and where the runbook has more."""
    if cause is None or not cause.reason:
        return ""
    known = cause.reason in {each.value for each in Reason}
    where = f"{RUNBOOK}#{cause.reason.lower()}" if known else ""
    said = next((leaf.help for leaf in _leaves(errors.EnitideError) if leaf.reason == cause.reason and leaf.help), "")
    return ". ".join(each for each in (said, f"See {where}" if where else "") if each)


def _leaves(root: type[errors.EnitideError]) -> Iterable[type[errors.EnitideError]]:
    for leaf in root.__subclasses__():
        yield leaf
        yield from _leaves(leaf)


def _chain(seen: Evidence) -> Iterable[Link]:
    if seen.pod is not None:
        pod = _pod(seen.pod)
        yield pod
        if pod.holds is Holds.OK:
            return
        bound = _bound(seen.pod, seen.tainted)
        yield bound
        if bound.holds is not Holds.OK:
            return
    yield _node(seen)
    yield _operator(seen)
    yield _agent(seen)
    if seen.eninode is None:
        return
    yield from explain.node_links(seen.eninode, seen.class_, seen.reports, seen.bound)
    if seen.pod is not None:
        yield _address(seen)


def _pod(pod: Json) -> Link:
    """OK only where the pod wants no address any more, or never did."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    ips = [each["ip"] for each in status.get("podIPs") or ()]
    phase = status.get("phase", "")
    if spec.get("hostNetwork"):
        return Link(POD, Holds.OK, "in the host's network: it needs no address of ours")
    if phase in TERMINAL_PHASES:
        return Link(POD, Holds.OK, f"it has ended ({phase}): it needs no address any more")
    if ips:
        return Link(POD, Holds.OK, f"it has {', '.join(ips)}: nothing waits here (`enitide who {ips[0]}`)")
    leaving = ", and it is being deleted" if pod["metadata"].get("deletionTimestamp") else ""
    return Link(POD, Holds.WAITS, f"{phase or 'new'}, without an address{leaving}", Reason.ADDRESS_PENDING)


def _bound(pod: Json, tainted: tuple[str, ...]) -> Link:
    node = pod.get("spec", {}).get("nodeName")
    if node:
        return Link(BOUND, Holds.OK, f"to {node}")
    conditions = {each["type"]: each for each in pod.get("status", {}).get("conditions") or ()}
    said = conditions.get("PodScheduled", {}).get("message")
    says = f"to no node: {said or 'the scheduler has not said why'}"
    if tainted:
        says += f"; {len(tainted)} nodes carry {TAINT}, which says that they have no address to give: {_some(tainted)}"
    return Link(BOUND, Holds.BROKEN, says, Reason.POD_UNBOUND)


def _node(seen: Evidence) -> Link:
    if seen.node is None:
        return Link(NODE, Holds.BROKEN, f"there is no Node {seen.node_name}", Reason.API_NOT_FOUND)
    conditions = {each["type"]: each for each in seen.node.get("status", {}).get("conditions") or ()}
    ready = conditions.get("Ready", {})
    says = f"{seen.node_name} is {'Ready' if ready.get('status') == 'True' else 'not Ready'}"
    says += f" ({ready['message']})" if ready.get("status") != "True" and ready.get("message") else ""
    taints = [f"{each['key']}:{each['effect']}" for each in seen.node.get("spec", {}).get("taints") or ()]
    says += f", taints {', '.join(taints)}" if taints else ""
    return Link(NODE, Holds.OK, says)


def _operator(seen: Evidence) -> Link:
    if seen.leader is None:
        return Link(OPERATOR, Holds.UNKNOWN, "its Lease could not be read")
    if not seen.leader:
        says = "no operator holds the Lease: addresses that are published serve on, nothing is added"
        return Link(OPERATOR, Holds.BROKEN, says, Reason.NOT_LEADING)
    age = f"{seen.lease_age_s:.0f} s ago" if seen.lease_age_s is not None else "never"
    says = f"{seen.leader} leads, renewed {age}"
    if seen.lease_age_s is None or seen.lease_age_s > _LEASE_S:
        return Link(OPERATOR, Holds.BROKEN, says, Reason.NOT_LEADING)
    at, reason, sentence = explain.broken_link(seen.eninode) if seen.eninode is not None else ("", "", "")
    if at == OPERATOR:
        return Link(OPERATOR, Holds.BROKEN, f"{sentence}; {says}", reason)
    return Link(OPERATOR, Holds.OK, says)


def _agent(seen: Evidence) -> Link:
    program = _program(seen.agent_pod)
    if seen.eninode is None:
        return Link(AGENT, Holds.BROKEN, f"no ENINode {seen.node_name}: {program}", Reason.AGENT_ABSENT)
    at, reason, sentence = explain.broken_link(seen.eninode)
    if at == AGENT:
        return Link(AGENT, Holds.BROKEN, f"{sentence}; {program}", reason)
    instance = seen.eninode.spec.instance.id
    named = instance_of((seen.node or {}).get("spec", {}).get("providerID", ""))
    if seen.node is not None and named != instance:
        says = f"it says {instance or 'no instance'}, Node.spec.providerID {named or 'none'}"
        return Link(AGENT, Holds.BROKEN, says, Reason.INSTANCE_MISMATCH)
    return Link(AGENT, Holds.OK, f"{instance}, {seen.eninode.spec.instance.type}; {program}")


def _program(pod: Json | None) -> str:
    """How the agent's own pod stands."""
    if pod is None:
        return "no agent pod of the chart is on the node"
    states = pod.get("status", {}).get("containerStatuses") or ()
    waiting = next((each["state"]["waiting"] for each in states if "waiting" in each.get("state", {})), None)
    restarts = sum(each.get("restartCount", 0) for each in states)
    says = f"pod {pod['metadata']['name']} is {pod.get('status', {}).get('phase', 'new')}"
    says += f", {waiting.get('reason')}: {waiting.get('message', '')}".rstrip(": ") if waiting else ""
    return f"{says}, restarted {restarts} times" if restarts else says


def _address(seen: Evidence) -> Link:
    """The pod's own address: with room on the node, what the container runtime was told last."""
    assert seen.eninode is not None
    eninode = seen.eninode
    free = tide.to_give(eninode.spec.demand, 0, eninode.status.capacity.provisioned)
    told = [each for each in seen.pod_events if each.get("reason") == "FailedCreatePodSandBox"]
    last = max(told, key=_moment, default=None)
    note = str(last.get("note") or last.get("message") or "") if last is not None else ""
    if free <= 0 and not note:
        return Link(ADDRESS, Holds.WAITS, "for the links above", Reason.ADDRESS_PENDING)
    if not note:
        return Link(ADDRESS, Holds.WAITS, f"{free} are free on the node; the runtime has said nothing yet", "")
    reason = next((each.value for each in Reason if f"{each.value}:" in note), Reason.ADDRESS_PENDING.value)
    return Link(ADDRESS, Holds.BROKEN, f"the runtime was told: {note}", reason)


def _moment(event: Json) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("eventTime") or event.get("deprecatedLastTimestamp") or "")


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
