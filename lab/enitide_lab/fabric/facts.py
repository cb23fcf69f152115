"""What the fabric must know of EC2 and what it builds from that: frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EniFacts:
    """An attached ENI as EC2 has it. `addresses`: its own first, then the secondaries; `prefixes` are CIDRs."""

    id: str
    mac: str
    instance_id: str
    card: int
    index: int
    subnet_id: str
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    ipv6_addresses: tuple[str, ...] = ()
    ipv6_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SubnetFacts:
    """A subnet's networks; `ipv6_cidr` is empty for one without IPv6."""

    id: str
    cidr: str
    ipv6_cidr: str = ""


@dataclass(frozen=True, slots=True)
class VpcState:
    """Everything at one moment. `number` is that of the last change contained."""

    number: int
    cidrs: tuple[str, ...] = ()
    subnets: tuple[SubnetFacts, ...] = ()
    enis: tuple[EniFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """One wanted port: the fabric's end of the cable to an ENI.

    `label` identifies the cable: the same ENI on another instance is another cable. `addresses` are the router's own
    on this port, with prefix length. `routes` are the networks that lie behind the ENI.
    """

    name: str
    label: str
    eni: EniFacts
    subnet: SubnetFacts
    addresses: frozenset[str]
    next_hop: str
    next_hop6: str
    routes: frozenset[str]
    routes6: frozenset[str]


@dataclass(frozen=True, slots=True)
class Fabric:
    """The whole wanted state. `silent`: networks where a packet that fits no ENI ends without an answer."""

    ports: tuple[Port, ...]
    silent: frozenset[str]


@dataclass(frozen=True, slots=True)
class ActualPort:
    """A port as the kernel has it."""

    name: str
    label: str
    ifindex: int
    routes: frozenset[str] = frozenset()
    routes6: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Actual:
    """What the kernel has of ours."""

    ports: tuple[ActualPort, ...] = ()
    silent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Changes:
    """What turns the actual into the wanted. Ports to be made come with their routes; `routes` are for ports kept."""

    remove: tuple[ActualPort, ...] = ()
    make: tuple[Port, ...] = ()
    add_routes: tuple[tuple[Port, str], ...] = ()
    remove_routes: tuple[tuple[ActualPort, str], ...] = ()
    add_silent: tuple[str, ...] = ()
    remove_silent: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return any(
            (self.remove, self.make, self.add_routes, self.remove_routes, self.add_silent, self.remove_silent),
        )
