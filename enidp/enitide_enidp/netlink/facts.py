"""What the kernel has, as data: links, addresses, routes, rules; each read from one dumped message.

Frozen and comparable, so that wanted and actual state are sets whose difference is the work to do. Pure.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from enitide_enidp.netlink import codec

IPAddress = IPv4Address | IPv6Address

# The protocol number of every route and rule of ours (rt_protos has no such entry). Only what carries it is removed.
PROTOCOL = 69
PROTOCOL_KERNEL = 2
MAIN_TABLE, LOCAL_TABLE = 254, 255
UNICAST = 1
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
IFF_UP = 0x1
TO_TABLE = 1

IFINFO = struct.Struct("=BxHiII")
IFADDR = struct.Struct("=BBBBi")
RTMSG = struct.Struct("=BBBBBBBBI")
RULE = struct.Struct("=BBBBBBBBI")

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 18, 20
INFO_KIND, INFO_DATA, INFO_SLAVE_KIND = 1, 2, 4
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
FRA_SRC, FRA_PRIORITY, FRA_FWMARK, FRA_TABLE, FRA_FWMASK, FRA_PROTOCOL = 2, 6, 10, 15, 16, 21


@dataclass(frozen=True, slots=True)
class Link:
    """A device. `mac` lower case with colons; `kind` such as veth, empty for hardware; `slave`: of a bond or bridge."""

    ifindex: int
    name: str
    mac: str
    mtu: int
    up: bool
    kind: str = ""
    alias: str = ""
    slave: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device."""

    ifindex: int
    address: IPAddress
    length: int
    scope: int = SCOPE_UNIVERSE


@dataclass(frozen=True, slots=True)
class Route:
    """A unicast route. `destination` None is the default route; `length` its prefix length."""

    table: int
    destination: IPAddress | None
    length: int
    ifindex: int
    gateway: IPAddress | None = None
    family: int = socket.AF_INET
    protocol: int = PROTOCOL
    scope: int = SCOPE_UNIVERSE
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule that looks up a table: for a mark, for one source address, or (neither) for everything."""

    family: int
    priority: int
    table: int
    mark: int = 0
    mask: int = 0
    source: IPAddress | None = None
    source_length: int = 0
    protocol: int = PROTOCOL


def mac_text(raw: bytes) -> str:
    """Six bytes as lower-case text with colons."""
    return raw.hex(":")


def link_name(body: bytes) -> str:
    """The name alone out of an RTM_NEWLINK body: it comes first, and each pod start brings half a dozen of these."""
    return codec.read_text(codec.first(body, IFINFO.size, IFLA_IFNAME))


def parse_link(body: bytes) -> Link:
    """An RTM_NEWLINK body."""
    _, _, ifindex, flags, _ = IFINFO.unpack_from(body)
    found = codec.attributes(body, IFINFO.size)
    info = codec.attributes(found.get(IFLA_LINKINFO, b""))
    return Link(
        ifindex,
        codec.read_text(found.get(IFLA_IFNAME)),
        mac_text(found.get(IFLA_ADDRESS, b"")),
        codec.read_u32(found.get(IFLA_MTU)),
        bool(flags & IFF_UP),
        codec.read_text(info.get(INFO_KIND)),
        codec.read_text(found.get(IFLA_IFALIAS)),
        INFO_SLAVE_KIND in info,
    )


def parse_address(body: bytes) -> Address | None:
    """An RTM_NEWADDR body; None for families that are not IP."""
    family, length, _, scope, ifindex = IFADDR.unpack_from(body)
    found = codec.attributes(body, IFADDR.size)
    raw = found.get(IFA_LOCAL, found.get(IFA_ADDRESS))
    if family not in (socket.AF_INET, socket.AF_INET6) or raw is None:
        return None
    return Address(ifindex, ip_address(raw), length, scope)


def parse_route(body: bytes) -> Route | None:
    """An RTM_NEWROUTE body; None for what is no unicast route over one device (local, multicast, multipath, cached)."""
    family, length, _, _, table, protocol, scope, kind, flags = RTMSG.unpack_from(body)
    if kind != UNICAST or flags & 0x200 or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = codec.attributes(body, RTMSG.size)
    if RTA_OIF not in found:
        return None
    destination, gateway = found.get(RTA_DST), found.get(RTA_GATEWAY)
    return Route(
        codec.read_u32(found.get(RTA_TABLE), table),
        ip_address(destination) if destination else None,
        length,
        codec.read_u32(found[RTA_OIF]),
        ip_address(gateway) if gateway else None,
        family,
        protocol,
        scope,
        codec.read_u32(found.get(RTA_PRIORITY)),
    )


def parse_rule(body: bytes) -> Rule | None:
    """An RTM_NEWRULE body; None for rules of other actions or families."""
    family, _, source_length, _, table, _, _, action, _ = RULE.unpack_from(body)
    if action != TO_TABLE or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = codec.attributes(body, RULE.size)
    source = found.get(FRA_SRC)
    return Rule(
        family,
        codec.read_u32(found.get(FRA_PRIORITY)),
        codec.read_u32(found.get(FRA_TABLE), table),
        codec.read_u32(found.get(FRA_FWMARK)),
        codec.read_u32(found.get(FRA_FWMASK)),
        ip_address(source) if source else None,
        source_length,
        (found.get(FRA_PROTOCOL) or b"\0")[0],
    )
