"""Hears when someone changes the node's network, and calls back, so that a pass follows within moments.

It only wakes: what changed is found by reading. Changes of our own pods pass by unheard, else every pod start would
cost a pass. A full buffer (the kernel says ENOBUFS) is a reason to look, like any other.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Protocol

from enitide_api.errors import NetlinkFailed
from enitide_enidp.netlink import build, codec, facts
from enitide_enidp.netlink.facts import Route
from enitide_enidp.netlink.numbers import HOST_PREFIX

# linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE, IPV4_NETCONF
_GROUPS = (1, 5, 7, 8, 9, 11, 19, 24)
_RTM_NEWNETCONF = 80
_NETCONF_HEADER, _NETCONF_IFINDEX, _NETCONF_RP_FILTER = 4, 1, 3  # linux/netconf.h
_LOOSE = 2
_ADD_MEMBERSHIP = 1
_SOL_NETLINK = 270
_RECEIVE_BYTES = 1 << 17
_READS_PER_WAKE = 16


class Node(Protocol):
    """What the monitor asks of the node to tell news from what is ours."""

    def is_wanted(self, route: Route) -> bool:
        """Whether a route of ours that has just gone is missed."""
        ...

    def is_managed(self, ifindex: int) -> bool:
        """Whether this is the device of a published ENI."""
        ...


def is_news(kind: int, body: bytes, node: Node) -> bool:
    """Whether a notification may mean that the node is no longer as wanted."""
    if kind in (build.RTM_NEWLINK, build.RTM_DELLINK):
        return not facts.link_name(body).startswith(HOST_PREFIX)
    if kind == build.RTM_NEWROUTE:
        route = facts.parse_route(body)
        return route is not None and route.protocol not in (facts.PROTOCOL, facts.PROTOCOL_KERNEL)
    if kind == build.RTM_DELROUTE:
        route = facts.parse_route(body)
        return route is not None and route.protocol == facts.PROTOCOL and node.is_wanted(route)
    if kind == _RTM_NEWNETCONF:
        return _is_strict(body, node)
    return kind in (build.RTM_NEWADDR, build.RTM_DELADDR, build.RTM_DELRULE)


def _is_strict(body: bytes, node: Node) -> bool:
    """Someone set rp_filter of an ENI to something else than 2."""
    found = codec.attributes(body, _NETCONF_HEADER)
    strictness = codec.read_u32(found.get(_NETCONF_RP_FILTER), _LOOSE)
    return strictness != _LOOSE and node.is_managed(codec.read_u32(found.get(_NETCONF_IFINDEX)))


class Monitor:
    """Listens in the namespace of the thread that makes it, from `start` to `close`."""

    def __init__(self, on_news: Callable[[], None], node: Node) -> None:
        self._on_news = on_news
        self._node = node
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Needs a running loop."""
        try:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            sock.setblocking(False)
            sock.bind((0, 0))
            for group in _GROUPS:
                sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            raise NetlinkFailed(f"cannot listen for network changes: {error}") from error
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._read)

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        news = False
        for _ in range(_READS_PER_WAKE):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                news = True
                continue
            news = news or any(is_news(kind, body, self._node) for kind, _, _, body in codec.messages(data))
        if news:
            self._on_news()
