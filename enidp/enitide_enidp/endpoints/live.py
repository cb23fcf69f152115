"""A wired pod as the agent knows it. Pure: everything follows from its owner, its allocation and its host device."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from enitide_enidp.cni.result import Interfaces
from enitide_enidp.datapath.types import Endpoint
from enitide_enidp.netlink import numbers
from enitide_enidp.netlink.facts import IPAddress, mac_text
from enitide_enidp.netlink.pod import PodWiring
from enitide_enidp.netlink.wanted import Device
from enitide_ipam.pool import Allocation
from enitide_ipam.records import PodRef


@dataclass(frozen=True, slots=True)
class Live:
    """`ifindex` of the host side; it also names the pod in events. `netns` is empty after a restart."""

    owner: str
    pod: PodRef
    allocation: Allocation
    ifindex: int
    mtu: int
    netns: str = ""

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        return addresses_of(self.allocation)

    def interfaces(self, netns: str) -> Interfaces:
        """Both ends, as a CNI result names them."""
        wiring = wiring_of(self.owner, self.allocation, self.mtu)
        host_mac, pod_mac = mac_text(wiring.host_mac), mac_text(wiring.pod_mac)
        return Interfaces(wiring.host_name, host_mac, wiring.ifname, pod_mac, netns, self.mtu)


def addresses_of(allocation: Allocation) -> tuple[IPAddress, ...]:
    """IPv4 first."""
    return tuple(ip_address(text) for text in (allocation.address, allocation.ipv6) if text)


def wiring_of(owner: str, allocation: Allocation, mtu: int) -> PodWiring:
    """Names and MACs follow from the owner, so that they are found again without being written down."""
    return PodWiring(
        numbers.host_name(owner),
        numbers.mac_of(owner, "host"),
        owner.partition("/")[2],
        numbers.mac_of(owner, "pod"),
        mtu,
        IPv4Address(allocation.address),
        IPv6Address(allocation.ipv6) if allocation.ipv6 else None,
        owner,
    )


def endpoint_of(wiring: PodWiring, ifindex: int, device: Device) -> Endpoint:
    """The pod as the datapath is told of it."""
    facts = device.interface
    gateway6 = facts.ipv6.gateway if facts.ipv6 is not None else ""
    return Endpoint(
        ifindex,
        ifindex,
        wiring.pod_mac,
        wiring.host_mac,
        device.number,
        device.link.ifindex,
        wiring.ipv4,
        wiring.ipv6,
        IPv4Address(facts.gateway) if facts.gateway else None,
        IPv6Address(gateway6) if gateway6 else None,
    )
