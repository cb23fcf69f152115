"""Facts as requests: the messages that create, change and remove links, addresses, routes, rules and neighbours.

Pure. Every request asks for an acknowledgement; creation replaces or accepts what is there already, so that a repeat
does no harm.
"""

from __future__ import annotations

import socket
import struct

from enitide_enidp.netlink import codec, facts
from enitide_enidp.netlink.facts import Address, IPAddress, Route, Rule

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 28, 32, 33, 34

_IFLA_NET_NS_FD, _IFLA_AF_SPEC, _IFLA_TX_QUEUES, _IFLA_RX_QUEUES, _IFLA_EXT_MASK = 28, 26, 31, 32, 29
_SKIP_STATISTICS = 8
_VETH_PEER = 1
_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE = 8, 1
_NODAD, _NOPREFIXROUTE = 0x02, 0x200
_ONLINK = 4
_COMPAT_TABLE = 252
_NDMSG = struct.Struct("=BxxxiHBB")
_PERMANENT = 0x80
_NDA_DST, _NDA_LLADDR = 1, 2
_CHANGE = codec.NLM_F_ACK
_CREATE = codec.NLM_F_ACK | codec.NLM_F_CREATE | codec.NLM_F_REPLACE
_CREATE_NEW = codec.NLM_F_ACK | codec.NLM_F_CREATE | codec.NLM_F_EXCL


def family_of(address: IPAddress) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def dump(kind: int, family: int = 0) -> bytes:
    """Ask for everything of a kind (an RTM_GET number)."""
    if kind == RTM_GETLINK:
        # Statistics are half of a link's bytes and nobody here reads them.
        body = facts.IFINFO.pack(family, 0, 0, 0, 0) + codec.u32(_IFLA_EXT_MASK, _SKIP_STATISTICS)
    else:
        # rtmsg, ifaddrmsg and fib_rule_hdr all begin with the family; zeroes ask for all of it
        body = bytes([family]) + bytes(
            {RTM_GETADDR: facts.IFADDR, RTM_GETROUTE: facts.RTMSG}.get(kind, facts.RULE).size - 1
        )
    return codec.message(kind, codec.NLM_F_DUMP, body)


def get_link(name: str) -> bytes:
    """Ask for one device by name."""
    return codec.message(
        RTM_GETLINK,
        0,
        facts.IFINFO.pack(0, 0, 0, 0, 0)
        + codec.text(facts.IFLA_IFNAME, name)
        + codec.u32(_IFLA_EXT_MASK, _SKIP_STATISTICS),
    )


def new_veth(name: str, mac: bytes, peer: str, peer_mac: bytes, *, namespace_fd: int, mtu: int) -> bytes:
    """Create a pair whose other end appears in `namespace_fd`, both down (an up peer is ENOTCONN).

    Explicit MACs keep udev from changing them after the pod's permanent neighbour was set. EEXIST if a name is taken.
    """
    one_queue = codec.u32(_IFLA_TX_QUEUES, 1) + codec.u32(_IFLA_RX_QUEUES, 1) + codec.u32(facts.IFLA_MTU, mtu)
    other = (
        facts.IFINFO.pack(0, 0, 0, 0, 0)
        + codec.text(facts.IFLA_IFNAME, peer)
        + codec.attribute(facts.IFLA_ADDRESS, peer_mac)
        + codec.u32(_IFLA_NET_NS_FD, namespace_fd)
        + one_queue
    )
    info = codec.nested(
        facts.IFLA_LINKINFO,
        codec.text(facts.INFO_KIND, "veth"),
        codec.nested(facts.INFO_DATA, codec.attribute(_VETH_PEER, other)),
    )
    body = facts.IFINFO.pack(0, 0, 0, 0, 0) + codec.text(facts.IFLA_IFNAME, name)
    return codec.message(RTM_NEWLINK, _CREATE_NEW, body + codec.attribute(facts.IFLA_ADDRESS, mac) + one_queue + info)


def delete_link(ifindex: int) -> bytes:
    return codec.message(RTM_DELLINK, _CHANGE, facts.IFINFO.pack(0, 0, ifindex, 0, 0))


def link_up(ifindex: int, *, alias: str = "") -> bytes:
    extra = codec.text(facts.IFLA_IFALIAS, alias) if alias else b""
    return codec.message(RTM_SETLINK, _CHANGE, facts.IFINFO.pack(0, 0, ifindex, facts.IFF_UP, facts.IFF_UP) + extra)


def link_mtu(ifindex: int, mtu: int) -> bytes:
    return codec.message(RTM_SETLINK, _CHANGE, facts.IFINFO.pack(0, 0, ifindex, 0, 0) + codec.u32(facts.IFLA_MTU, mtu))


def no_link_local(ifindex: int) -> bytes:
    """No fe80 address of its own: on a point-to-point pod link it would only bring discovery that nobody answers."""
    spec = codec.nested(socket.AF_INET6, codec.u8(_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE))
    return codec.message(
        RTM_SETLINK, _CHANGE, facts.IFINFO.pack(0, 0, ifindex, 0, 0) + codec.nested(_IFLA_AF_SPEC, spec)
    )


def _address(address: Address) -> bytes:
    raw = address.address.packed
    body = facts.IFADDR.pack(family_of(address.address), address.length, 0, address.scope, address.ifindex)
    return body + codec.attribute(facts.IFA_LOCAL, raw) + codec.attribute(facts.IFA_ADDRESS, raw)


def new_address(address: Address) -> bytes:
    """Without a connected route, and for IPv6 without duplicate address detection (the VPC gives each address once)."""
    flags = _NOPREFIXROUTE | (_NODAD if address.address.version == 6 else 0)
    return codec.message(RTM_NEWADDR, _CREATE, _address(address) + codec.u32(facts.IFA_FLAGS, flags))


def delete_address(address: Address) -> bytes:
    return codec.message(RTM_DELADDR, _CHANGE, _address(address))


def _route(route: Route) -> bytes:
    flags = _ONLINK if route.gateway is not None else 0
    table = route.table if route.table < 256 else _COMPAT_TABLE
    body = facts.RTMSG.pack(
        route.family, route.length, 0, 0, table, route.protocol, route.scope, facts.UNICAST, flags
    ) + codec.u32(facts.RTA_TABLE, route.table)
    if route.destination is not None and route.length:
        body += codec.attribute(facts.RTA_DST, route.destination.packed)
    if route.gateway is not None:
        body += codec.attribute(facts.RTA_GATEWAY, route.gateway.packed)
    if route.priority:
        body += codec.u32(facts.RTA_PRIORITY, route.priority)
    return body + codec.u32(facts.RTA_OIF, route.ifindex)


def new_route(route: Route) -> bytes:
    return codec.message(RTM_NEWROUTE, _CREATE, _route(route))


def delete_route(route: Route) -> bytes:
    return codec.message(RTM_DELROUTE, _CHANGE, _route(route))


def _rule(rule: Rule) -> bytes:
    table = rule.table if rule.table < 256 else _COMPAT_TABLE
    body = facts.RULE.pack(rule.family, 0, rule.source_length, 0, table, 0, 0, facts.TO_TABLE, 0)
    body += codec.u32(facts.FRA_PRIORITY, rule.priority) + codec.u32(facts.FRA_TABLE, rule.table)
    if rule.mask:
        body += codec.u32(facts.FRA_FWMARK, rule.mark) + codec.u32(facts.FRA_FWMASK, rule.mask)
    if rule.source is not None:
        body += codec.attribute(facts.FRA_SRC, rule.source.packed)
    return body + codec.u8(facts.FRA_PROTOCOL, rule.protocol)


def new_rule(rule: Rule) -> bytes:
    """EEXIST if an equal one is there (the kernel knows no replacing of rules)."""
    return codec.message(RTM_NEWRULE, _CREATE_NEW, _rule(rule))


def delete_rule(rule: Rule) -> bytes:
    return codec.message(RTM_DELRULE, _CHANGE, _rule(rule))


def permanent_neighbour(ifindex: int, address: IPAddress, mac: bytes) -> bytes:
    body = _NDMSG.pack(family_of(address), ifindex, _PERMANENT, 0, 0)
    body += codec.attribute(_NDA_DST, address.packed) + codec.attribute(_NDA_LLADDR, mac)
    return codec.message(RTM_NEWNEIGH, _CREATE, body)
