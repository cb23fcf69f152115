"""Reads and writes the router's ports, routes and neighbours by netlink, in the namespace that the thread is in.

Ours is what carries our label (a port's alias) or our routing protocol number; nothing else is looked at. A failure
concerns one port and is returned, not raised: one bad ENI never stops the others.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from enitide_api.errors import LabFailed
from enitide_lab.fabric.facts import Actual, ActualPort, Changes, Port
from enitide_lab.house import mounts

MTU = 9001
FIRST_DEVICE = 5  # Nitro names the first ENI ens5
_PROTOCOL = 201
_PERMANENT = 0x80
_NODAD = 0x02
_ONLINK = 4
_BLACKHOLE = 6
_UNSPECIFIED = {AF_INET: str(IPv4Address(0)), AF_INET6: str(IPv6Address(0))}

# rp_filter 1 is the source check: a packet is let in only through the port that leads back to its source.
# Redirects would tell instances of shorter ways.
ROUTER_SYSCTLS: Mapping[str, str] = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "1",
    "ipv4/conf/default/rp_filter": "1",
    "ipv4/conf/default/proxy_arp": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/forwarding": "1",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/dad_transmits": "0",
}
# IPv6 knows no rp_filter: the same check as a rule of nftables.
SOURCE_CHECK6 = """
table ip6 source_check {
  chain prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname "lo" accept
    ip6 saddr { fe80::/10, :: } accept
    fib saddr . iif oif missing counter name refused drop
  }
  counter refused { }
}
"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What could not be done, and to which ENI or network."""

    what: str
    error: str


def actual(ipr: IPRoute) -> Actual:
    """What the kernel has of ours."""
    ports = {link["index"]: link for link in ipr.get_links() if _label(link)}
    routes: dict[int, set[str]] = {index: set() for index in ports}
    routes6: dict[int, set[str]] = {index: set() for index in ports}
    silent = set()
    for family, found in ((AF_INET, routes), (AF_INET6, routes6)):
        for route in ipr.get_routes(family=family, proto=_PROTOCOL):
            network = f"{route.get('dst') or _UNSPECIFIED[family]}/{route['dst_len']}"
            if route["type"] == _BLACKHOLE:
                silent.add(network)
            elif route.get("oif") in found:
                found[route.get("oif")].add(network)
    return Actual(
        tuple(
            ActualPort(link.get("ifname"), _label(link), index, frozenset(routes[index]), frozenset(routes6[index]))
            for index, link in ports.items()
        ),
        frozenset(silent),
    )


def apply(ipr: IPRoute, change: Changes, namespace_of: Callable[[str], Path]) -> list[Trouble]:
    """Make the changes; `namespace_of` gives an instance's network namespace. Returns what did not work."""
    troubles: list[Trouble] = []

    def attempt(what: str, act: Callable[..., None], *arguments: Any) -> None:
        try:
            act(*arguments)
        except (NetlinkError, OSError, LabFailed) as error:
            troubles.append(Trouble(what, str(error)))

    for gone in change.remove:
        attempt(gone.label, _unplug, ipr, gone)
    for network in change.remove_silent:
        attempt(network, _silent, ipr, "del", network)
    for network in change.add_silent:
        attempt(network, _silent, ipr, "replace", network)
    for kept, network in change.remove_routes:
        attempt(network, _unroute, ipr, kept, network)
    for port, network in change.add_routes:
        attempt(network, _add_route, ipr, port, network)
    for port in change.make:
        attempt(port.label, _plug, ipr, port, namespace_of(port.eni.instance_id))
    return troubles


def remove_devices() -> None:
    """Remove every device but the loopback from the namespace that the thread is in.

    One that goes meanwhile is removed too: those of pods end with the pods' namespaces, whenever the kernel gets to it.
    """
    with IPRoute() as ipr:
        for link in ipr.get_links():
            if link.get("ifname") == "lo":
                continue
            try:
                ipr.link("del", index=link["index"])
            except NetlinkError as error:
                if error.code != errno.ENODEV:
                    raise


def _unplug(ipr: IPRoute, port: ActualPort) -> None:
    ipr.link("del", index=port.ifindex)


def _plug(ipr: IPRoute, port: Port, namespace: Path) -> None:
    """Plug the cable: our end with the router's addresses, the other end appears on the node like a new NIC."""
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        device = mounts.in_namespace(namespace, _free_device_name)
        peer = {"ifname": device, "net_ns_fd": handle, "address": port.eni.mac, "mtu": MTU}
        ipr.link("add", ifname=port.name, kind="veth", mtu=MTU, peer=peer)
    finally:
        os.close(handle)
    index = _index(ipr, port.name)
    try:
        _furnish(ipr, port, index)
    except (NetlinkError, LabFailed):
        ipr.link("del", index=index)  # a port without all its parts would look whole to the next pass
        raise


def _furnish(ipr: IPRoute, port: Port, index: int) -> None:
    # By default a router waits up to 0.8 s before it answers ARP for another; new namespaces have no default to set.
    mounts.write_sysctls({f"ipv4/neigh/{port.name}/proxy_delay": "0"})
    ipr.link("set", index=index, state="up")
    for address in sorted(port.addresses):
        host, length = address.split("/")
        ipr.addr("add", index=index, address=host, prefixlen=int(length), flags=_NODAD if ":" in host else 0)
    # The router knows each ENI's MAC address; it never asks for it.
    for hop in filter(None, (port.next_hop, port.next_hop6)):
        ipr.neigh("replace", dst=hop, lladdr=port.eni.mac, ifindex=index, state=_PERMANENT)
    for network in sorted(port.routes | port.routes6):
        _route(ipr, port, index, network)
    ipr.link("set", index=index, ifalias=port.label)  # last: the label says that all is in place


def _add_route(ipr: IPRoute, port: Port, network: str) -> None:
    _route(ipr, port, _index(ipr, port.name), network)


def _route(ipr: IPRoute, port: Port, index: int, network: str) -> None:
    is_ipv6 = ":" in network
    ipr.route(
        "replace",
        family=AF_INET6 if is_ipv6 else AF_INET,
        dst=network,
        gateway=port.next_hop6 if is_ipv6 else port.next_hop,
        oif=index,
        proto=_PROTOCOL,
        flags=_ONLINK,
    )


def _unroute(ipr: IPRoute, port: ActualPort, network: str) -> None:
    family = AF_INET6 if ":" in network else AF_INET
    ipr.route("del", family=family, dst=network, oif=port.ifindex, proto=_PROTOCOL)


def _silent(ipr: IPRoute, verb: str, network: str) -> None:
    family = AF_INET6 if ":" in network else AF_INET
    ipr.route(verb, family=family, dst=str(ip_network(network)), type="blackhole", proto=_PROTOCOL)


def _index(ipr: IPRoute, name: str) -> int:
    found = ipr.link_lookup(ifname=name)
    if not found:
        raise NetlinkError(19, f"{name} has gone")
    return int(found[0])


def _label(link: Any) -> str:
    alias = link.get("ifalias") or link.get_attr("IFLA_IFALIAS") or ""
    return str(alias) if str(alias).startswith("eni-") else ""


def _free_device_name() -> str:
    with IPRoute() as ipr:
        used = {link.get("ifname") for link in ipr.get_links()}
    return next(name for number in range(FIRST_DEVICE, 256) if (name := f"ens{number}") not in used)
