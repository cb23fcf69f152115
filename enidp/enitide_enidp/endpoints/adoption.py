"""After a start, and from time to time: pods that live on are adopted, what nobody owns is removed.

A pod lives exactly as long as its host veth: the kernel destroys that with the pod's namespace. So an owner without a
veth is a container that went away unheard, and its address cools; a veth without an owner is the rest of an ADD or DEL
that a crash cut short. An ADD that was never answered is undone: its runtime was told nothing and will send a DEL.
"""

from __future__ import annotations

from collections.abc import Iterable

from enitide_api.logging import get_logger
from enitide_enidp.datapath.datapath import Datapath
from enitide_enidp.datapath.types import Endpoint
from enitide_enidp.endpoints.life import Endpoints
from enitide_enidp.endpoints.live import Live, endpoint_of, wiring_of
from enitide_enidp.memory import Memory
from enitide_enidp.netlink.facts import Link
from enitide_enidp.netlink.numbers import HOST_PREFIX, host_name
from enitide_ipam.records import PodRef

_log = get_logger("adoption")


def adopt(endpoints: Endpoints, memory: Memory, links: Iterable[Link]) -> None:
    """Before the first call is served: `live` from the journal and the devices that are there."""
    by_name = _pod_links(links)
    pool = memory.pool
    for owner in pool.unconfirmed():
        memory.keep(pool.abort(owner, memory.now()))
        _log.info("unanswered ADD undone", owner=owner)
    pods = {held.owner: held.pod for held in pool.ledger.held.values()}
    for owner in pool.owners():
        link, allocation = by_name.get(host_name(owner)), pool.allocation(owner)
        if link is not None and allocation is not None:
            endpoints.live[owner] = Live(owner, pods.get(owner, PodRef()), allocation, link.ifindex, link.mtu)


def sweep(endpoints: Endpoints, memory: Memory, links: Iterable[Link], *, first: bool) -> tuple[list[str], list[str]]:
    """Release owners whose veth is gone, delete veths that nobody owns; `(owners, devices)` that were.

    `links` may be a little old: what a running call has changed since is left alone, and at every pass but the `first`
    an owner is released only if it was wired before.
    """
    by_name = _pod_links(links)
    owners = {host_name(owner): owner for owner in memory.pool.owners()}
    gone = [
        owner
        for name, owner in owners.items()
        if name not in by_name
        and not endpoints.locks.is_busy(owner.partition("/")[0])
        and (first or owner in endpoints.live)
        and not endpoints.has_device(owner)
    ]
    for owner in gone:
        endpoints.remove(owner)
        _log.info("container gone without a DEL; its address cools", owner=owner)
    orphans = [
        link
        for name, link in by_name.items()
        if name not in owners
        and link.ifindex not in endpoints.reaper.pending
        and not endpoints.locks.is_busy(link.alias.partition("/")[0])
    ]
    for link in orphans:
        endpoints.remove_device(link.ifindex)
        _log.info("device that nobody owns removed", device=link.name, owner=link.alias)
    return gone, [link.name for link in orphans]


def sync(endpoints: Endpoints, datapath: Datapath) -> int:
    """Tell the datapath of every live pod, and of no other. A pod whose ENI is away keeps what the kernel knows."""
    known = {each.ifindex: each for each in datapath.endpoints()}
    wanted: list[Endpoint] = []
    for live in endpoints.live.values():
        device = endpoints.devices.get(live.allocation.eni_id)
        if device is not None:
            wiring = wiring_of(live.owner, live.allocation, live.mtu)
            wanted.append(endpoint_of(wiring, live.ifindex, device))
        elif live.ifindex in known:
            wanted.append(known[live.ifindex])
    return datapath.sync(wanted)


def _pod_links(links: Iterable[Link]) -> dict[str, Link]:
    return {link.name: link for link in links if link.name.startswith(HOST_PREFIX)}
