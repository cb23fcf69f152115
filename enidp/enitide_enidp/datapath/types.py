"""What the agent tells the kernel: the node's constants, one pod's facts, one ENI, and the marks that name ENIs.

Only data and checks on data. Byte layouts live in `codec.py`; nothing here touches the kernel, so that the agent's
decisions can be tested without root.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Address

from enitide_api.errors import InternalError

# skb->mark, 32 bits. Bits 0-15 stay free for others (kube-proxy: 0x4000 and 0x8000), 25-31 for our own later use.
ENI_MARK_SHIFT = 16
ENI_MARK_MASK = 0x00FF_0000
MAX_ENI_NUMBER = 0xFF
AGENT_MARK = 0x0100_0000  # what the agent says to the API server, which no policy of the node cuts

# The gateway every pod has as its permanent neighbour; no device needs to own it.
POD_GATEWAY4 = IPv4Address("169.254.1.1")
POD_GATEWAY6 = IPv6Address("fe80::1")


def eni_mark(number: int) -> int:
    """The mark (under `ENI_MARK_MASK`) of packets that belong to ENI `number`, 1 to 255. Used in `fwmark` rules."""
    if not 1 <= number <= MAX_ENI_NUMBER:
        raise InternalError(f"ENI number {number} is not between 1 and {MAX_ENI_NUMBER}")
    return number << ENI_MARK_SHIFT


class Hook(IntEnum):
    """Where a program runs; the number is its place in the half of the program array. Never renumber."""

    FROM_POD = 0  # tc ingress of the host side of a pod's veth
    TO_POD = 1  # tc egress of it
    FROM_WIRE = 2  # tc ingress of an ENI
    TO_WIRE = 3  # tc egress of an ENI


class Onward(IntEnum):
    """How a packet that was let through went on."""

    STACK = 0  # handed to the node's network stack
    PEER = 1  # redirected into a pod of this node
    WIRE = 2  # redirected out of the pod's ENI


class Routing(Enum):
    """Who routes packets between pods.

    `DIRECT`: the programs redirect into local pods and out of the pod's ENI; netfilter of the node sees none of it.
    `STACK`: the kernel's routing does it, by the host routes and the ENI mark. It is the fallback, and it is what a
    node needs on which kube-proxy translates service addresses, since replies must pass netfilter again.
    """

    DIRECT = "direct"
    STACK = "stack"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Constants of this node, patched into the frozen `.rodata` of every program. A change loads a new program set."""

    routing: Routing = Routing.DIRECT
    event_rate: int = 100
    """Drop events per second, for each reason and each CPU; the rest is only counted (`suppressed` says how many)."""
    policy: bool = False
    """Connections are tracked and policy is asked. A pod that comes then is closed until it has a rule set."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pod as the datapath knows it, keyed by the ifindex of the host side of its veth."""

    ifindex: int
    endpoint_id: int
    """Any number from 1 that names the pod in events; unique among the endpoints of the node."""
    pod_mac: bytes
    host_mac: bytes
    """MAC of the pod's end and of the host's end of the veth, 6 bytes each."""
    eni_number: int
    """1 to 255; becomes the mark (`eni_mark`) of every packet of the pod."""
    eni_ifindex: int
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    gateway4: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    """Next hops of the ENI's subnet in the VPC. Without one, that family goes by the stack."""
    place: int = field(default=0, compare=False)
    """Where its policy stands in the map `policies`; given by `Datapath.put_endpoint`, not by the caller."""

    def __post_init__(self) -> None:
        if self.ifindex <= 0 or self.endpoint_id <= 0:
            raise InternalError(f"endpoint {self.endpoint_id} on ifindex {self.ifindex}: both must be above 0")
        if len(self.pod_mac) != 6 or len(self.host_mac) != 6:
            raise InternalError(f"endpoint {self.endpoint_id}: a MAC address has 6 bytes")
        if self.ipv4 is None and self.ipv6 is None:
            raise InternalError(f"endpoint {self.endpoint_id} has no address")
        eni_mark(self.eni_number)

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The pod's own addresses, IPv4 first."""
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


@dataclass(frozen=True, slots=True)
class LocalPod:
    """What stands behind an address of a pod of this node."""

    ifindex: int
    endpoint_id: int
    place: int
    pod_mac: bytes
    host_mac: bytes


@dataclass(frozen=True, slots=True)
class Eni:
    """A managed ENI: its number (see `eni_mark`) by its ifindex."""

    ifindex: int
    number: int


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """What holds for one endpoint. Written as one word, so rule set and identity change together."""

    ruleset: int = 0
    """The engine's `RuleSet.id`; 0: closed, nothing passes (unless `enforce` is off)."""
    identity: int = 0
    enforce: bool = True
    """False: policy lets everything through. Connections are tracked all the same, for the day it is True."""
    audit: bool = False
    """What policy would drop is counted, told and let through."""
