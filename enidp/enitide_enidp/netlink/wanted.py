"""What a node's ENIs and pods need of the kernel's routing, as data. Pure: devices and published facts in, state out.

A secondary ENI is wholly ours: up, its own address as /32 (no connected route, hence nothing in `main`), a table with
its gateway and a default route, one rule for packets marked with its number and one for its own address. The primary
ENI (card 0, index 0) stays the system's: it gets a table and a mark rule for the pods on it, loose rp_filter, and
nothing else. `rp_filter` 2 stands on every ENI: with 1 the node drops replies to pods whose peer lies behind another
ENI.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from enitide_api.resources import Interface
from enitide_enidp.datapath.types import ENI_MARK_MASK, MAX_ENI_NUMBER, eni_mark
from enitide_enidp.netlink import facts
from enitide_enidp.netlink.facts import Address, IPAddress, Link, Route, Rule
from enitide_enidp.netlink.numbers import (
    HOST_PREFIX,
    PODS_TABLE,
    RULE_MARK,
    RULE_PODS,
    RULE_SOURCE,
    eni_table,
)
from enitide_enidp.netlink.pod import host_route

_STACKED = frozenset({"vlan", "macvlan", "ipvlan", "bridge", "bond", "team", "dummy"})
_IPV6_METRIC = 1024  # what the kernel gives an IPv6 route that names none; named, so that read-back compares equal


@dataclass(frozen=True, slots=True)
class Device:
    """A published ENI, the device that carries it, and its number on this node (1 to 255)."""

    interface: Interface
    link: Link
    number: int

    @property
    def is_primary(self) -> bool:
        """The node's own ENI, which the system configures."""
        return self.interface.card == 0 and self.interface.index == 0

    @property
    def has_ipv6(self) -> bool:
        return self.interface.ipv6 is not None and bool(self.interface.ipv6.prefixes)


@dataclass(frozen=True, slots=True)
class Wanted:
    """State by kind. `managed`: ifindexes whose addresses and routes are ours alone. `mtu` by ifindex."""

    managed: frozenset[int] = frozenset()
    up: frozenset[int] = frozenset()
    mtu: Mapping[int, int] = field(default_factory=dict)
    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    rules: frozenset[Rule] = frozenset()
    sysctls: tuple[tuple[str, str], ...] = ()


def assign_numbers(known: Mapping[str, int], enis: Iterable[str]) -> dict[str, int]:
    """A number for every ENI: kept where it has one, else the lowest free; what is no longer published loses it.

    ENIs beyond the 255th get none: no instance type has as many.
    """
    wanted = sorted(set(enis))
    numbers = {eni: known[eni] for eni in wanted if eni in known}
    free = (n for n in range(1, MAX_ENI_NUMBER + 1) if n not in set(numbers.values()))
    for eni in wanted:
        if eni not in numbers and (number := next(free, 0)):
            numbers[eni] = number
    return numbers


def match(interfaces: Iterable[Interface], links: Iterable[Link]) -> dict[str, Link]:
    """ENI id -> its device, by MAC. Pod devices, and devices stacked on an ENI with its MAC, are passed over."""
    by_mac: dict[str, Link] = {}
    for link in sorted(links, key=lambda each: (each.slave, each.ifindex)):
        if not link.name.startswith(HOST_PREFIX) and link.kind not in _STACKED:
            by_mac.setdefault(link.mac, link)
    matched = ((interface.id, by_mac.get(interface.mac.lower())) for interface in interfaces)
    return {eni: link for eni, link in matched if link is not None}


def reference_mtu(devices: Iterable[Device], links: Iterable[Link], routes: Iterable[Route]) -> int | None:
    """The MTU that secondary ENIs take: that of the primary ENI, or of the device of the system's default route."""
    for device in devices:
        if device.is_primary:
            return device.link.mtu
    defaults = [r for r in routes if r.table == facts.MAIN_TABLE and r.destination is None and r.length == 0]
    mtus = {link.ifindex: link.mtu for link in links}
    best = min(defaults, key=lambda r: (r.family, r.priority), default=None)
    return mtus.get(best.ifindex) if best is not None else None


def wanted(devices: Iterable[Device], pods: Iterable[tuple[IPAddress, int]], mtu: int | None) -> Wanted:
    """The whole wanted state. `pods`: address and host ifindex of each; `mtu` of secondary ENIs (None: as it is)."""
    devices = tuple(devices)
    secondary = [device for device in devices if not device.is_primary]
    families = [socket.AF_INET, *([socket.AF_INET6] if any(d.has_ipv6 for d in devices) else [])]
    rules = {Rule(family, RULE_PODS, PODS_TABLE) for family in families}
    routes = {host_route(address, ifindex) for address, ifindex in pods}
    for device in devices:
        rules |= _rules(device)
        routes |= _routes(device)
    own = ((d, ip_address(d.interface.primary)) for d in secondary if d.interface.primary)
    return Wanted(
        frozenset(d.link.ifindex for d in secondary),
        frozenset(d.link.ifindex for d in devices),
        {d.link.ifindex: mtu for d in secondary} if mtu is not None else {},
        frozenset(Address(d.link.ifindex, address, address.max_prefixlen) for d, address in own),
        frozenset(routes),
        frozenset(rules),
        _sysctls(devices),
    )


def _rules(device: Device) -> set[Rule]:
    table, mark = eni_table(device.number), eni_mark(device.number)
    rules = {Rule(socket.AF_INET, RULE_MARK, table, mark, ENI_MARK_MASK)}
    if device.has_ipv6:
        rules.add(Rule(socket.AF_INET6, RULE_MARK, table, mark, ENI_MARK_MASK))
    if device.interface.primary and not device.is_primary:
        rules.add(Rule(socket.AF_INET, RULE_SOURCE, table, 0, 0, ip_address(device.interface.primary), 32))
    return rules


def _routes(device: Device) -> set[Route]:
    gateways = [device.interface.gateway]
    if device.has_ipv6 and device.interface.ipv6 is not None:
        gateways.append(device.interface.ipv6.gateway)
    routes: set[Route] = set()
    for gateway in (ip_address(text) for text in gateways if text):
        ipv4 = gateway.version == 4
        family, metric = (socket.AF_INET, 0) if ipv4 else (socket.AF_INET6, _IPV6_METRIC)
        table, out = eni_table(device.number), device.link.ifindex
        scope = facts.SCOPE_LINK if ipv4 else facts.SCOPE_UNIVERSE
        length = gateway.max_prefixlen
        routes.add(Route(table, gateway, length, out, None, family, facts.PROTOCOL, scope, metric))
        routes.add(Route(table, None, 0, out, gateway, family, facts.PROTOCOL, facts.SCOPE_UNIVERSE, metric))
    return routes


def _sysctls(devices: Iterable[Device]) -> tuple[tuple[str, str], ...]:
    """In the order they must be written: an ENI that believed advertisements must not lose them to forwarding."""
    settings = [("ipv4/ip_forward", "1")]
    ipv6 = False
    for device in devices:
        name = device.link.name
        settings.append((f"ipv4/conf/{name}/rp_filter", "2"))
        if not device.is_primary:
            settings.append((f"ipv6/conf/{name}/accept_ra", "0"))
        if device.has_ipv6:
            ipv6 = True
            settings.append((f"ipv6/conf/{name}/disable_ipv6", "0"))
    return (*settings, ("ipv6/conf/all/forwarding", "1")) if ipv6 else tuple(settings)
