"""Decides what the VPC's router must look like for a given state of EC2, and what to change to get there. Pure.

As in AWS: the router has the first address of every subnet on every port of it; an address or prefix is reachable only
through the ENI that holds it; what belongs to no ENI vanishes without an answer; a source that is not routed back
through the port it came in by is not let in (the kernel's strict reverse path check does that on the same routes).
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address, ip_network

from enitide_lab.fabric.facts import Actual, Changes, EniFacts, Fabric, Port, SubnetFacts, VpcState

ROUTER6 = "fe80:ec2::1"  # the link-local address of the VPC's router, as Nitro instances see it
_EVERYTHING = ("0.0.0.0/0", "::/0")  # there is no internet behind this VPC


def wanted(state: VpcState, present: Collection[str]) -> Fabric:
    """The router for `state`; only instances in `present` have a place where a cable can be plugged in."""
    subnets = {subnet.id: subnet for subnet in state.subnets}
    plugged = [eni for eni in state.enis if eni.instance_id in present and eni.subnet_id in subnets]
    plugged.sort(key=lambda eni: (eni.instance_id, eni.card, eni.index))
    ports = tuple(_port(eni, subnets[eni.subnet_id]) for eni in plugged)
    networks = {subnet.ipv6_cidr for subnet in state.subnets if subnet.ipv6_cidr}
    return Fabric(ports, frozenset({*state.cidrs, *networks, *_EVERYTHING}))


def changes(want: Fabric, have: Actual) -> Changes:
    """The difference, by label: nothing that is right already is touched."""
    labels = {port.label: port for port in want.ports}
    kept = {port.label: port for port in have.ports if port.label in labels}
    add: list[tuple[Port, str]] = []
    take = []
    for label, actual in kept.items():
        port = labels[label]
        add += [(port, route) for route in sorted((port.routes | port.routes6) - actual.routes - actual.routes6)]
        take += [(actual, route) for route in sorted((actual.routes | actual.routes6) - port.routes - port.routes6)]
    return Changes(
        remove=tuple(port for port in have.ports if port.label not in labels),
        make=tuple(port for port in want.ports if port.label not in kept),
        add_routes=tuple(add),
        remove_routes=tuple(take),
        add_silent=tuple(sorted(want.silent - have.silent)),
        remove_silent=tuple(sorted(have.silent - want.silent)),
    )


def link_local(mac: str) -> str:
    """The address that IPv6 makes of a MAC address (modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ip_address(b"\xfe\x80" + bytes(6) + host))


def router_address(cidr: str) -> str:
    """The address after a network's first one."""
    return str(ip_network(cidr).network_address + 1)


def _port(eni: EniFacts, subnet: SubnetFacts) -> Port:
    own = {f"{router_address(subnet.cidr)}/32", f"{ROUTER6}/64"}
    if subnet.ipv6_cidr:
        own.add(f"{router_address(subnet.ipv6_cidr)}/128")
    return Port(
        name=f"p-{eni.id[-13:]}",
        label=f"{eni.id} {eni.instance_id} {eni.mac}",
        eni=eni,
        subnet=subnet,
        addresses=frozenset(own),
        next_hop=eni.addresses[0] if eni.addresses else "",
        next_hop6=link_local(eni.mac),
        routes=frozenset([*(f"{address}/32" for address in eni.addresses), *eni.prefixes]),
        routes6=frozenset(
            [*(f"{ip_address(address)}/128" for address in eni.ipv6_addresses), *map(_canonical, eni.ipv6_prefixes)]
        ),
    )


def _canonical(cidr: str) -> str:
    return str(ip_network(cidr))
