"""One pod's wiring: a veth whose other end is born in the pod's namespace, addresses, routes, neighbours.

Two batches on the node's side and one in the pod's. The pod reaches everything through a gateway that no device owns
(169.254.1.1, fe80::1) by a permanent neighbour, and the node reaches the pod by one host route and a permanent
neighbour: no ARP, no discovery, no rule. It never decides which address a pod gets.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from enitide_api.errors import NetlinkFailed
from enitide_enidp.datapath.types import POD_GATEWAY4, POD_GATEWAY6
from enitide_enidp.netlink import build, facts, sysctl
from enitide_enidp.netlink.facts import Address, IPAddress, Link, Route
from enitide_enidp.netlink.namespace import Namespace
from enitide_enidp.netlink.numbers import PODS_TABLE
from enitide_enidp.netlink.sock import RouteSocket


@dataclass(frozen=True, slots=True)
class PodWiring:
    """What a pod's link is to be. `ifname` is the name inside the pod; MACs have 6 bytes."""

    host_name: str
    host_mac: bytes
    ifname: str
    pod_mac: bytes
    mtu: int
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    alias: str

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


def gateway_of(address: IPAddress) -> IPAddress:
    """The pod's next hop for this family."""
    return POD_GATEWAY4 if address.version == 4 else POD_GATEWAY6


def host_route(address: IPAddress, ifindex: int) -> Route:
    """The node's way to a pod."""
    return Route(
        PODS_TABLE,
        address,
        address.max_prefixlen,
        ifindex,
        family=build.family_of(address),
        scope=facts.SCOPE_LINK if address.version == 4 else facts.SCOPE_UNIVERSE,
        priority=0 if address.version == 4 else 1024,
    )


def create(host: RouteSocket, wiring: PodWiring, namespace: Namespace) -> int:
    """The pair, both ends down; the host side's ifindex. A leftover of the same name is replaced."""
    request = build.new_veth(
        wiring.host_name, wiring.host_mac, wiring.ifname, wiring.pod_mac, namespace_fd=namespace.fd, mtu=wiring.mtu
    )
    number = host.numbers([request])[0]
    if number == errno.EEXIST and (leftover := host.link(wiring.host_name)) is not None:
        host.run([build.delete_link(facts.parse_link(leftover).ifindex)], f"remove leftover {wiring.host_name}")
        number = host.numbers([request])[0]
    if number == errno.EEXIST:
        raise NetlinkFailed(f"{wiring.ifname} exists already in {namespace.path}: another network made it")
    if number:
        raise NetlinkFailed(f"create veth {wiring.host_name} into {namespace.path}: {os.strerror(number)}")
    found = host.link(wiring.host_name)
    if found is None:
        raise NetlinkFailed(f"veth {wiring.host_name} vanished as it was made: its namespace is going away")
    return facts.parse_link(found).ifindex


def set_up_host(host: RouteSocket, wiring: PodWiring, ifindex: int, programs: Sequence[bytes]) -> None:
    """Programs first, then up, neighbours and routes: not one packet passes before its program is there."""
    _ipv6_switch(wiring.host_name, wiring.ipv6 is not None)
    batch = [*programs]
    if wiring.ipv6 is not None:
        batch.append(build.no_link_local(ifindex))
    batch.append(build.link_up(ifindex, alias=wiring.alias))
    batch += [build.permanent_neighbour(ifindex, address, wiring.pod_mac) for address in wiring.addresses]
    batch += [build.new_route(host_route(address, ifindex)) for address in wiring.addresses]
    host.run(batch, f"set up {wiring.host_name}")


def set_up_pod(wiring: PodWiring, namespace: Namespace) -> None:
    """The pod's end, by a socket of its namespace."""
    with namespace.entered():
        _ipv6_switch(wiring.ifname, wiring.ipv6 is not None)
        inside = RouteSocket()
    with inside:
        found = inside.link(wiring.ifname)
        if found is None:
            raise NetlinkFailed(f"{wiring.ifname} vanished from {namespace.path}: its namespace is going away")
        ifindex = facts.parse_link(found).ifindex
        batch = [build.no_link_local(ifindex)] if wiring.ipv6 is not None else []
        batch.append(build.link_up(ifindex))
        for address in wiring.addresses:
            batch += _pod_family(ifindex, address, wiring.host_mac)
        inside.run(batch, f"set up {wiring.ifname} in {namespace.path}")


def carry(host: RouteSocket, wiring: PodWiring) -> None:
    """Let the host's end transmit from now on.

    It came up before its peer, so the kernel activates it only when its link-watch worker gets the routing lock: on a
    busy node packets to the pod would vanish for some milliseconds after ADD was answered. Asking for the device makes
    Linux 6.8 and newer do that at once; older ones still leave it to the worker.
    """
    if host.link(wiring.host_name) is None:
        raise NetlinkFailed(f"veth {wiring.host_name} vanished as it was set up: its namespace is going away")


def _pod_family(ifindex: int, address: IPAddress, host_mac: bytes) -> list[bytes]:
    gateway, family = gateway_of(address), build.family_of(address)
    batch = [
        build.new_address(Address(ifindex, address, address.max_prefixlen)),
        build.permanent_neighbour(ifindex, gateway, host_mac),
    ]
    if family == socket.AF_INET:
        onlink = Route(facts.MAIN_TABLE, gateway, 32, ifindex, None, family, facts.PROTOCOL, facts.SCOPE_LINK)
        batch.append(build.new_route(onlink))
    return [*batch, build.new_route(Route(facts.MAIN_TABLE, None, 0, ifindex, gateway, family))]


def _ipv6_switch(device: str, wanted: bool) -> None:
    """IPv6 is on only where the pod has an address of it; the device believes no router advertisement."""
    sysctl.ensure(f"ipv6/conf/{device}/accept_ra", "0")
    sysctl.ensure(f"ipv6/conf/{device}/disable_ipv6", "0" if wanted else "1")


@dataclass(frozen=True, slots=True)
class PodView:
    """What stands in a pod's namespace: the device (None: there is none), addresses, families of default routes."""

    link: Link | None
    addresses: tuple[IPAddress, ...]
    default_routes: frozenset[int]


def look(namespace: Namespace, ifname: str) -> PodView:
    """Read the pod's end, for CHECK."""
    with namespace.entered():
        inside = RouteSocket()
    with inside:
        body = inside.link(ifname)
        if body is None:
            return PodView(None, (), frozenset())
        link = facts.parse_link(body)
        addresses = (facts.parse_address(raw) for raw in inside.dump(build.RTM_GETADDR))
        routes = (facts.parse_route(raw) for raw in inside.dump(build.RTM_GETROUTE))
        return PodView(
            link,
            tuple(a.address for a in addresses if a is not None and a.ifindex == link.ifindex),
            frozenset(
                r.family for r in routes if r is not None and r.destination is None and r.ifindex == link.ifindex
            ),
        )


def cut(host: RouteSocket, host_name: str, addresses: Sequence[IPAddress]) -> int | None:
    """Take the pod's routes away at once; the ifindex of what is left to delete (slow), None if nothing is."""
    body = host.link(host_name)
    if body is None:
        return None
    ifindex = facts.parse_link(body).ifindex
    for number in host.numbers([build.delete_route(host_route(address, ifindex)) for address in addresses]):
        if number not in (0, errno.ESRCH, errno.ENODEV):
            raise NetlinkFailed(f"remove route of {host_name}: {os.strerror(number)}")
    return ifindex


def delete(ifindex: int) -> None:
    """Remove a host veth, and with it the pod's end. Waits 15 to 20 ms for the kernel's grace period: use a thread."""
    with RouteSocket() as host:
        number = host.numbers([build.delete_link(ifindex)])[0]
        if number not in (0, errno.ENODEV):
            raise NetlinkFailed(f"delete device {ifindex}: {os.strerror(number)}")
