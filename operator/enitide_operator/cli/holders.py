"""Whose an address is: from resources, pods and what agents say. Pure; what could not be seen is said.

An address may be a pod's, an ENI's own, one of a prefix, one that is being given back, or nobody's. The resources say
which ENI and node it is on; the pod's object whose it is; only the node's agent knows since when, what cools, and who
had it last.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from enitide_api.resources import ENINode, Interface
from enitide_api.subnetreport import SubnetReport
from enitide_ipam import block_text
from enitide_ipam.blocks import AWS_FIRST
from enitide_ipam.capacity import NODE_PLACE
from enitide_kube.objects import Pod
from enitide_operator.cli.picture import INKS

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read. `agents`: by node, the rows of `/v1/addresses` and `/v1/history` of each agent that was asked."""

    nodes: tuple[ENINode, ...] = ()
    pods: tuple[Pod, ...] = ()
    reports: tuple[SubnetReport, ...] = ()
    agents: Mapping[str, tuple[tuple[Row, ...], tuple[Row, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address is published. `how`: what it is on that ENI, in words; `cidr`: the prefix it is of, or ''."""

    node: ENINode
    eni: str
    subnet: str
    how: str
    cidr: str = ""


def parse(text: str) -> Address:
    """The address; `ValueError` with what to write instead."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address: write one such as 10.0.1.23 or 2600:1f00::17") from None


def who(address: Address, seen: Seen) -> dict[str, Any]:
    """The whole answer, with wire-ready values."""
    place = find_place(address, seen.nodes)
    pods = [pod for pod in seen.pods if any(_same(each.ip, address) for each in pod.status.pod_ips)]
    holder = next((pod for pod in pods if pod.needs_address), None)
    node = place.node.metadata.name if place is not None else holder.spec.node_name if holder is not None else None
    live, past = _of_agent(address, node, seen)
    state, owner = _state(address, place, holder, live, seen)
    return {
        "address": str(address),
        "state": state,
        "owner": owner,
        "node": node,
        "eni": place.eni if place is not None else None,
        "on": place.how if place is not None else None,
        "prefix": (place.cidr or None) if place is not None else None,
        "subnet": place.subnet if place is not None else _subnet_of(address, seen.reports),
        **_since(live, holder),
        "lastHolder": _last(past, pods, holder, node),
        "hostPods": [_name(pod) for pod in pods if pod.spec.host_network],
        "unseen": list(_unseen(address, place, node, seen)),
    }


def find_place(address: Address, nodes: Iterable[ENINode]) -> Place | None:
    """The ENI that has it, of all that are published."""
    for node in nodes:
        for interface in node.status.interfaces:
            found = _on(address, node, interface)
            if found is not None:
                return found
        if any(address in ipaddress.ip_network(cidr) for cidr in node.status.releasing):
            return Place(node, "", "", "about to be unassigned")
    return None


def _on(address: Address, node: ENINode, each: Interface) -> Place | None:
    if _same(each.primary, address):
        first = (each.card, each.index) == NODE_PLACE
        serves = bool(node.status.class_ and node.status.class_.use_primary_address) and not first
        how = "the node's own address" if first else "the ENI's own address, for pods" if serves else "the ENI's own"
        return Place(node, each.id, each.subnet_id, how)
    if any(_same(single, address) for single in each.addresses):
        return Place(node, each.id, each.subnet_id, "a single address")
    prefixes = (*each.prefixes, *(each.ipv6.prefixes if each.ipv6 else ()))
    cidr = next((cidr for cidr in prefixes if address in ipaddress.ip_network(cidr)), None)
    return Place(node, each.id, each.subnet_id, f"of the prefix {cidr}", cidr) if cidr else None


def _state(
    address: Address, place: Place | None, holder: Pod | None, live: Row | None, seen: Seen
) -> tuple[str, str | None]:
    """What it is in one word, and whose."""
    if live is not None:  # the agent gives addresses out: it wins over what others show of it
        return str(live["state"]), live.get("owner") or (_name(holder) if holder is not None else None)
    if holder is not None:
        return "in-use", _name(holder)
    if place is None:
        return "unknown", None
    node = place.node
    if place.how.endswith("own address") or place.how == "the ENI's own":
        return "own", f"node {node.metadata.name}" if place.how.startswith("the node") else place.eni
    uid = next((each.pod_uid for each in node.spec.endpoints if any(_same(a, address) for a in each.addresses)), "")
    if uid:
        named = next((_name(pod) for pod in seen.pods if pod.metadata.uid == uid), f"pod with UID {uid}")
        return "reserved", named
    if place.how == "about to be unassigned":
        return "releasing", None
    yielded = any(address in ipaddress.ip_network(cidr) for cidr in node.spec.yielded)
    return "yielded" if yielded else "free", None


def _of_agent(address: Address, node: str | None, seen: Seen) -> tuple[Row | None, list[Row]]:
    """What agents say of it: the row of its node's agent, and all former holders, the latest first."""
    live = None
    past: list[Row] = []
    for name, (rows, history) in seen.agents.items():
        if name == node or node is None:
            mine = (row for row in rows if _is(row, address))
            live = next(mine, live)
        past += [row | {"node": name} for row in map(dict, history) if _is(row, address)]
    return live, sorted(past, key=lambda row: str(row["until"]), reverse=True)


def _since(live: Row | None, holder: Pod | None) -> dict[str, Any]:
    if live is not None and live.get("since"):
        return {"since": live["since"], "sinceFrom": "agent"}
    if holder is not None and holder.metadata.creation_timestamp:
        return {"since": holder.metadata.creation_timestamp, "sinceFrom": "the pod's creation: its agent knows better"}
    return {"since": None, "sinceFrom": None}


def _last(past: list[Row], pods: list[Pod], holder: Pod | None, node: str | None) -> dict[str, Any] | None:
    """Who had it before whoever has it now."""
    if past:
        row = past[0]
        return {key: row.get(key) for key in ("owner", "podUID", "node", "since", "until")}
    ended = [pod for pod in pods if pod is not holder and not pod.spec.host_network]
    if ended:  # a finished pod keeps its address in its status
        pod = max(ended, key=lambda each: each.metadata.creation_timestamp or "")
        name = pod.spec.node_name or node
        return {"owner": _name(pod), "podUID": pod.metadata.uid, "node": name, "since": None, "until": None}
    return None


def _unseen(address: Address, place: Place | None, node: str | None, seen: Seen) -> Iterable[str]:
    if node is not None and node not in seen.agents:
        yield (
            f"the agent of {node} was not asked: since when, what cools and who had it last are known to it alone"
            f" (run this on {node})"
        )
    if place is None and not seen.agents:
        yield "no agent was asked: who had an address that is on no ENI now is known to the agent of its last node"
    if place is None:
        yield f"no ENINode publishes it{_whose_block(address, seen.reports)}"


def _whose_block(address: Address, reports: Iterable[SubnetReport]) -> str:
    """What the subnet's /28 map says of it, as the rest of a sentence."""
    for report in reports:
        network = ipaddress.ip_network(report.spec.cidr)
        if address in network and report.status.map:
            index = (int(address) - int(network.network_address)) >> 4
            if int(address) - int(network.network_address) < AWS_FIRST or address == network.broadcast_address:
                return f"; it is one of AWS's own five in {report.metadata.name}"
            what = INKS[block_text.read(report.status.map)[index].look].name
            return f"; its /28 in {report.metadata.name} is {what} as of {report.status.observed_at}"
    return "; it is in no subnet that nodes of this cluster can use, as far as SubnetReports say"


def _subnet_of(address: Address, reports: Iterable[SubnetReport]) -> str | None:
    for report in reports:
        cidrs = [each for each in (report.spec.cidr, report.spec.ipv6_cidr) if each]
        if any(address in ipaddress.ip_network(cidr) for cidr in cidrs):
            return report.metadata.name
    return None


def _is(row: Row, address: Address) -> bool:
    return _same(str(row.get("address") or ""), address) or _same(str(row.get("ipv6") or ""), address)


def _same(text: str, address: Address) -> bool:
    """Whether the text is this address, however it is written."""
    return bool(text) and (text == str(address) or (":" in text and ipaddress.ip_address(text) == address))


def _name(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"
