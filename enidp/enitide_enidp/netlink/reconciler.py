"""Brings the node's kernel to the wanted state, and says what it found in the way.

Level-triggered: each pass reads everything, takes the difference, applies it. Reading runs in a thread, since a hundred
devices take milliseconds to parse; difference and requests run in the loop, so that no pod comes or goes in between.
One device that fails fails alone: its ENI is not ready and says why.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from enitide_api.errors import NetlinkFailed
from enitide_api.logging import get_logger
from enitide_api.resources import Interface
from enitide_enidp.netlink import build, facts, sysctl
from enitide_enidp.netlink.diff import Actual, Step, steps
from enitide_enidp.netlink.facts import IPAddress
from enitide_enidp.netlink.sock import RouteSocket
from enitide_enidp.netlink.wanted import Device, Wanted, match, reference_mtu, wanted

Pods = Callable[[], Iterable[tuple[IPAddress, int]]]

_log = get_logger("netlink")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One pass. `ready`: ENIs whose device is as wanted; `absent`: published, but no such device; `failed` by ENI id.

    `undone`: foreign configuration that was removed, in words. `actual`: what the pass read before it changed anything.
    """

    devices: tuple[Device, ...] = ()
    ready: frozenset[str] = frozenset()
    absent: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    undone: tuple[str, ...] = ()
    changed: int = 0
    actual: Actual = field(default_factory=Actual)


def _as_made(device: Device, goal: Wanted) -> Device:
    """The device as it is after the steps: its pods take their MTU from it at once."""
    link = device.link
    return replace(device, link=replace(link, mtu=goal.mtu.get(link.ifindex, link.mtu), up=True))


def read_actual() -> Actual:
    """Everything of the calling thread's namespace, by a socket of its own."""
    with RouteSocket() as route:
        addresses = (facts.parse_address(raw) for raw in route.dump(build.RTM_GETADDR))
        routes = (facts.parse_route(raw) for raw in route.dump(build.RTM_GETROUTE))
        rules = (
            facts.parse_rule(raw)
            for family in (socket.AF_INET, socket.AF_INET6)
            for raw in route.dump(build.RTM_GETRULE, family)
        )
        return Actual(
            tuple(facts.parse_link(raw) for raw in route.dump(build.RTM_GETLINK)),
            tuple(a for a in addresses if a is not None),
            tuple(r for r in routes if r is not None),
            tuple(r for r in rules if r is not None),
        )


class Reconciler:
    """`pods` gives address and host ifindex of every pod that is wired at this moment."""

    def __init__(self, route: RouteSocket, pods: Pods) -> None:
        self._route = route
        self._pods = pods

    async def reconcile(self, interfaces: Iterable[Interface], numbers: dict[str, int]) -> Outcome:
        """One pass. Raises `NetlinkFailed` only when the kernel cannot be read at all."""
        interfaces = tuple(interfaces)
        actual = await asyncio.to_thread(read_actual)
        links = match(interfaces, actual.links)
        devices = tuple(
            Device(each, links[each.id], numbers[each.id])
            for each in interfaces
            if each.id in links and each.id in numbers
        )
        goal = wanted(devices, self._pods(), reference_mtu(devices, actual.links, actual.routes))
        failed = self._set_sysctls(goal, devices)
        todo = steps(goal, actual)
        broken = self._apply(todo)
        for device in devices:
            if device.link.ifindex in broken:
                failed.setdefault(device.interface.id, broken[device.link.ifindex])
        if 0 in broken:
            failed |= {d.interface.id: broken[0] for d in devices}
        return Outcome(
            tuple(_as_made(device, goal) for device in devices),
            frozenset(d.interface.id for d in devices) - frozenset(failed),
            tuple(each.id for each in interfaces if each.id not in links),
            failed,
            tuple(step.what for step in todo if step.foreign),
            len(todo),
            actual,
        )

    def _set_sysctls(self, goal: Wanted, devices: Iterable[Device]) -> dict[str, str]:
        """Settings that could not be made, by ENI (those of no device fail every ENI)."""
        failed: dict[str, str] = {}
        for device in devices:
            # With forwarding on, the kernel ignores router advertisements unless this is 2: the node would lose its
            # IPv6 default route. 0 means that the system reads them itself.
            name = f"ipv6/conf/{device.link.name}/accept_ra"
            if device.is_primary and device.has_ipv6 and sysctl.read(name) == "1":
                sysctl.ensure(name, "2")
        for name, value in goal.sysctls:
            try:
                if sysctl.ensure(name, value):
                    _log.info("sysctl set", name=name, value=value)
            except NetlinkFailed as error:
                parts = name.split("/")
                touched = [d for d in devices if len(parts) < 4 or d.link.name == parts[2] or parts[2] == "all"]
                failed |= {d.interface.id: str(error) for d in touched}
        return failed

    def _apply(self, todo: list[Step]) -> dict[int, str]:
        """Send all in one batch; what failed, by ifindex (0: of no device)."""
        broken: dict[int, str] = {}
        for step, number in zip(todo, self._route.numbers([step.message for step in todo]), strict=True):
            if number and number not in step.harmless:
                text = f"{step.what}: {os.strerror(number)}"
                broken.setdefault(step.ifindex, text)
                _log.warning("step failed", what=step.what, errno=number)
            else:
                _log.debug("step done", what=step.what)
        return broken
