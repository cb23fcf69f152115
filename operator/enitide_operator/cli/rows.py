"""From resources to rows: pure, so that every column is testable without a cluster."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from enitide_api.resources import Condition, ENINode, Interface
from enitide_ipam.capacity import NODE_PLACE
from enitide_kube.objects import Pod

Row = dict[str, Any]
_ADDRESSES_OF_PREFIX = 16


def condition(node: ENINode, type_: str) -> Condition | None:
    """The node's condition of that type."""
    return next((c for c in node.status.conditions if c.type == type_), None)


def is_ready(node: ENINode) -> bool:
    """Does the operator say that this node stands at its tide or at capacity, and has it said so of this instance."""
    ready = condition(node, "Ready")
    return bool(ready and ready.status == "True" and node.status.instance_id == node.spec.instance.id)


def why(node: ENINode) -> tuple[str, str]:
    """Reason and message of a node that is not ready; `AddressPending` until the operator has spoken."""
    ready = condition(node, "Ready")
    if ready is None:
        return "AddressPending", "the operator has not said anything of this node yet"
    if node.status.instance_id != node.spec.instance.id:
        return "InstanceMismatch", f"status is of {node.status.instance_id or 'no instance'}"
    return ready.reason, ready.message


def node_row(node: ENINode) -> Row:
    """One line of `enitide node list`."""
    spec, status = node.spec, node.status
    reason, message = why(node)
    provisioned = status.capacity.provisioned
    return {
        "name": node.metadata.name,
        "instance": spec.instance.id,
        "type": spec.instance.type,
        "zone": spec.instance.availability_zone,
        "enis": len(status.interfaces),
        "provisioned": provisioned,
        "inUse": spec.demand.in_use,
        "cooling": spec.demand.cooling,
        "waiting": spec.demand.waiting,
        "free": max(0, provisioned - spec.demand.in_use - spec.demand.cooling),
        "slots": f"{status.capacity.used_slots}/{status.capacity.slots}",
        "class": status.class_.name if status.class_ else None,
        "ready": is_ready(node),
        "reason": reason,
        "message": message,
    }


def interface_row(interface: Interface) -> Row:
    """One ENI of `enitide node show`."""
    return {
        "id": interface.id,
        "mac": interface.mac,
        "card": interface.card,
        "index": interface.index,
        "subnet": interface.subnet_id,
        "primary": interface.primary,
        "addresses": len(interface.addresses),
        "prefixes": list(interface.prefixes),
        "ipv6": list(interface.ipv6.prefixes) if interface.ipv6 else [],
        "securityGroups": list(interface.security_groups),
    }


def address_rows(node: ENINode, pods: Iterable[Pod], live: Mapping[str, Row] | None = None) -> list[Row]:
    """Every IPv4 address published for a node, and IPv6 ones in use: owner, ENI, state, since.

    From the resources alone an address is `in-use` (a pod shows it), `reserved` (the agent reports its pod), `yielded`,
    `releasing` or `free`. `live` is what the agent's socket says, by address: it knows `cooling` and since when, and
    wins.
    """
    owners = {
        ip.ip: p for p in pods if p.needs_address for ip in (p.status.pod_ips or ())
    }  # a finished pod keeps its IPs
    by_uid = {p.metadata.uid: p for p in owners.values()} | {p.metadata.uid: p for p in pods}
    reported = {a: e.pod_uid for e in node.spec.endpoints for a in e.addresses}
    yielded = _networks(node.spec.yielded)
    rows = []
    for interface, address in _published(node, reported):
        row: Row = {"address": address, "node": node.metadata.name, "eni": interface, "since": None}
        pod = owners.get(address)
        if pod is not None:
            row |= {"state": "in-use", "owner": _name(pod)}
        elif address in reported:
            known = by_uid.get(reported[address])
            row |= {"state": "reserved", "owner": _name(known) if known else f"uid {reported[address]}"}
        else:
            gone = any(ipaddress.ip_address(address) in network for network in yielded)
            row |= {"state": "yielded" if gone else "free", "owner": None}
        rows.append(row | _live_part((live or {}).get(address)))
    rows += [
        {"address": cidr, "node": node.metadata.name, "eni": None, "since": None, "state": "releasing", "owner": None}
        for cidr in node.status.releasing
    ]
    return rows


def _live_part(live: Row | None) -> Row:
    if not live:
        return {}
    return {key: live[key] for key in ("state", "owner", "since") if live.get(key) is not None}


def _name(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def _networks(cidrs: Iterable[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(cidr) for cidr in cidrs]


def _published(node: ENINode, reported: Mapping[str, str]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    use_primary = bool(node.status.class_ and node.status.class_.use_primary_address)
    for interface in node.status.interfaces:
        if use_primary and interface.primary and (interface.card, interface.index) != NODE_PLACE:
            found.append((interface.id, interface.primary))
        found += [(interface.id, a) for a in interface.addresses]
        found += [(interface.id, str(a)) for p in interface.prefixes for a in ipaddress.ip_network(p)]
        if interface.ipv6:
            inside = [ipaddress.IPv6Network(p) for p in interface.ipv6.prefixes]
            found += [
                (interface.id, a) for a in reported if ":" in a and any(ipaddress.IPv6Address(a) in n for n in inside)
            ]
    return found
