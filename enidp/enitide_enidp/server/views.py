"""What the socket shows of a node, as plain data. Every moment is RFC 3339, every owner a name people know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enitide_api.reasons import DROP_TEXT
from enitide_enidp.core import Core
from enitide_enidp.netlink.numbers import eni_table, host_name
from enitide_enidp.waits import Waits
from enitide_ipam.records import PodRef
from enitide_ipam.rows import address_rows

When = Callable[[float], str]


def owner_name(owner: str, pod: PodRef) -> str | None:
    """`namespace/name` of a pod, `container/ID` of a container that is none, None where nobody holds the address."""
    if pod.name:
        return f"{pod.namespace}/{pod.name}"
    return f"container/{owner.partition('/')[0]}" if owner else None


def addresses(core: Core, when: When) -> list[dict[str, Any]]:
    """Every published or held address."""
    return [
        {
            "address": row.address,
            "ipv6": row.ipv6 or None,
            "eni": row.eni_id,
            "state": row.state,
            "owner": owner_name(row.owner, row.pod),
            "containerID": row.owner.partition("/")[0] or None,
            "podUID": row.pod.uid or None,
            "since": when(row.since) if row.since is not None else None,
        }
        for row in address_rows(core.memory.pool)
    ]


def history(core: Core, when: When) -> list[dict[str, Any]]:
    """Former holders of addresses, the latest first."""
    return [
        {
            "address": past.address,
            "ipv6": past.ipv6 or None,
            "owner": owner_name(past.owner, past.pod),
            "containerID": past.owner.partition("/")[0] or None,
            "podUID": past.pod.uid or None,
            "since": when(past.since),
            "until": when(past.until),
        }
        for past in reversed(core.memory.pool.ledger.past)
    ]


def endpoints(core: Core) -> list[dict[str, Any]]:
    """Every wired container."""
    return [
        {
            "owner": owner_name(owner, live.pod),
            "containerID": owner.partition("/")[0],
            "ifname": owner.partition("/")[2],
            "podUID": live.pod.uid or None,
            "addresses": [str(address) for address in live.addresses],
            "eni": live.allocation.eni_id,
            "device": host_name(owner),
            "ifindex": live.ifindex,
            "endpoint": live.ifindex,
            "mtu": live.mtu,
        }
        for owner, live in sorted(core.endpoints.live.items())
    ]


def interfaces(core: Core) -> list[dict[str, Any]]:
    """Every published ENI, with its device where it has one."""
    rows: list[dict[str, Any]] = []
    for each in core.memory.pool.interfaces():
        device = core.endpoints.devices.get(each.id)
        row: dict[str, Any] = {"eni": each.id, "mac": each.mac, "card": each.card, "index": each.index}
        row |= {"primary": each.primary, "ready": each.id in core.outcome.ready, "device": None}
        if device is not None:
            table = eni_table(device.number)
            row |= {"device": device.link.name, "ifindex": device.link.ifindex, "mtu": device.link.mtu}
            row |= {"number": device.number, "table": table}
        rows.append(row)
    return rows


def drops(core: Core) -> list[dict[str, Any]]:
    """Every drop reason and how many packets it took."""
    return [
        {"reason": reason.word, "number": int(reason), "text": DROP_TEXT[reason], "packets": packets}
        for reason, packets in core.datapath.drops().items()
    ]


def waits(found: Waits, when: When) -> list[dict[str, Any]]:
    """What the agent waits for."""
    return [
        {"subject": wait.subject, "reason": wait.reason, "message": wait.message, "since": when(wait.since)}
        for wait in found.all()
    ]
