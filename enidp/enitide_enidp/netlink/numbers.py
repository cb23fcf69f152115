"""Names and numbers that the node's network is built from; each is derived, none is configured.

Rule order on a node: the kernel's own `local` (0), then pods of this node, then packets marked with an ENI's number,
then packets that carry a secondary ENI's own address, then the system's `main`.

Pods have a table of their own rather than `main`: systems write /32 routes into `main` too (systemd-networkd one per
DHCP lease for the VPC's router and resolver), and a rule that looks up "host routes of main" would send a pod's DNS
packets out of the primary ENI, where the VPC drops them for their source. No rule stands for a single pod.
"""

from __future__ import annotations

import hashlib

PODS_TABLE = 25_600
"""Host routes of this node's pods. The table of ENI `n` is this plus n."""

RULE_PODS, RULE_MARK, RULE_SOURCE = 300, 310, 320

HOST_PREFIX = "etd"


def eni_table(number: int) -> int:
    """The routing table of ENI `number` (1 to 255)."""
    return PODS_TABLE + number


def host_name(owner: str) -> str:
    """The host side of the veth of `owner` (container/ifname): 15 characters, one function of the owner."""
    return HOST_PREFIX + hashlib.sha256(owner.encode()).hexdigest()[:12]


def mac_of(owner: str, side: str) -> bytes:
    """A locally administered unicast MAC, one function of owner and side, so that a restart finds it again."""
    return b"\x0a" + hashlib.sha256(f"{side}/{owner}".encode()).digest()[:5]
