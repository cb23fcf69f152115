"""From what is wanted and what the kernel has to the steps between. Pure; equal states give no step.

Removed is only what is surely ours (our protocol number) or what stands on an ENI that is wholly ours; the latter is
told of, since some program of the system put it there and will do so again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from enitide_enidp.netlink import build, facts
from enitide_enidp.netlink.facts import Address, Link, Route, Rule
from enitide_enidp.netlink.wanted import Wanted

_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL})
_THERE = frozenset({errno.EEXIST})


@dataclass(frozen=True, slots=True)
class Actual:
    """One reading of the kernel."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One request. `harmless`: errnos that mean it is as wanted already. `ifindex` 0: of no single device.

    `foreign`: it undoes what another program configured.
    """

    what: str
    message: bytes
    harmless: frozenset[int]
    ifindex: int = 0
    foreign: bool = False


def steps(wanted: Wanted, actual: Actual) -> list[Step]:
    """Devices first, then addresses, routes, rules; what is new before what goes."""
    names = {link.ifindex: link.name for link in actual.links}
    return [
        *_link_steps(wanted, actual.links),
        *_address_steps(wanted, actual.addresses, names),
        *_route_steps(wanted, actual.routes, names),
        *_rule_steps(wanted, actual.rules),
    ]


def _link_steps(wanted: Wanted, links: Iterable[Link]) -> Iterable[Step]:
    for link in links:
        mtu = wanted.mtu.get(link.ifindex, link.mtu)
        if mtu != link.mtu:
            message = build.link_mtu(link.ifindex, mtu)
            yield Step(f"MTU {mtu} on {link.name}", message, frozenset(), link.ifindex)
        if link.ifindex in wanted.up and not link.up:
            yield Step(f"{link.name} up", build.link_up(link.ifindex), frozenset(), link.ifindex)


def _address_steps(wanted: Wanted, addresses: Iterable[Address], names: dict[int, str]) -> Iterable[Step]:
    have = {a for a in addresses if a.ifindex in wanted.managed and a.scope == facts.SCOPE_UNIVERSE}
    for each in sorted(wanted.addresses - have, key=str):
        text = f"address {each.address} on {names.get(each.ifindex)}"
        yield Step(text, build.new_address(each), _THERE, each.ifindex)
    for each in sorted(have - wanted.addresses, key=str):
        text = f"address {each.address}/{each.length} on {names.get(each.ifindex)}"
        yield Step(text, build.delete_address(each), _GONE, each.ifindex, foreign=True)


def _route_steps(wanted: Wanted, routes: Iterable[Route], names: dict[int, str]) -> Iterable[Step]:
    routes = set(routes)
    ours = {route for route in routes if route.protocol == facts.PROTOCOL}
    for each in sorted(wanted.routes - ours, key=lambda r: (r.destination is None, str(r))):
        text = f"route {_target(each)} in table {each.table}"
        yield Step(text, build.new_route(each), _THERE, each.ifindex)
    for each in sorted(ours - wanted.routes, key=str):
        text = f"remove route {_target(each)} from table {each.table}"
        yield Step(text, build.delete_route(each), _GONE, each.ifindex)
    for each in sorted(routes, key=str):
        if each.ifindex in wanted.managed and each.protocol not in (facts.PROTOCOL, facts.PROTOCOL_KERNEL):
            text = f"route {_target(each)} over {names.get(each.ifindex)} in table {each.table}"
            yield Step(text, build.delete_route(each), _GONE, each.ifindex, foreign=True)


def _rule_steps(wanted: Wanted, rules: Iterable[Rule]) -> Iterable[Step]:
    ours = {rule for rule in rules if rule.protocol == facts.PROTOCOL}
    for each in sorted(wanted.rules - ours, key=str):
        yield Step(f"rule {each.priority} to table {each.table}", build.new_rule(each), _THERE)
    for each in sorted(ours - wanted.rules, key=str):
        yield Step(f"remove rule {each.priority} to table {each.table}", build.delete_rule(each), _GONE)


def _target(route: Route) -> str:
    return f"{route.destination}/{route.length}" if route.destination is not None else "default"
