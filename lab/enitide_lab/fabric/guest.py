"""What the node's operating system does with its first network card at boot, and with no other: DHCP's result.

Address with the subnet's length, default route by the router, IPv6 by the router's link-local address. Done once, when
the cable is plugged; whatever happens to the device later is the node's own business.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from socket import AF_INET6

from pyroute2 import IPRoute

from enitide_lab.fabric.facts import Port
from enitide_lab.fabric.plan import ROUTER6, router_address
from enitide_lab.house import mounts

# The strictest that distributions set for new devices (the RHEL family, older Ubuntu): what works here works anywhere.
NODE_SYSCTLS: Mapping[str, str] = {
    "ipv4/conf/all/rp_filter": "1",
    "ipv4/conf/default/rp_filter": "1",
}
_DHCP = 16


def is_primary(port: Port) -> bool:
    """Whether this is the card that the instance booted with."""
    return (port.eni.card, port.eni.index) == (0, 0)


def configure(port: Port, namespace: Path) -> None:
    """Configure the device with the ENI's MAC address in `namespace`."""
    mounts.in_namespace(namespace, lambda: _configure(port))


def _configure(port: Port) -> None:
    with IPRoute() as ipr:
        index = ipr.link_lookup(address=port.eni.mac)[0]
        ipr.link("set", index=index, state="up")
        length = ip_network(port.subnet.cidr).prefixlen
        own = port.eni.addresses[0]
        ipr.addr("replace", index=index, address=own, prefixlen=length)
        gateway = router_address(port.subnet.cidr)
        ipr.route("replace", dst="default", gateway=gateway, oif=index, prefsrc=own, proto=_DHCP, priority=512)
        for address in port.eni.ipv6_addresses:
            ipr.addr("replace", index=index, address=address, prefixlen=128)
        if port.subnet.ipv6_cidr:
            ipr.route("replace", family=AF_INET6, dst="default", gateway=ROUTER6, oif=index, priority=512)
