"""A node in one namespace for test runs: devices that exist, a datapath that knows two pods and two ENIs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from support.datapath.namespaces import Namespace, ifindex, mac

from enitide_api.reasons import Drop
from enitide_enidp.datapath import Datapath, Endpoint, Eni, NodeConfig, Routing, loader, testrun
from enitide_enidp.datapath.types import Hook, Onward

DEVICES = """\
link add pod1 mtu 3000 type veth peer name peer1
link add pod2 mtu 3000 type veth peer name peer2
link add stranger type veth peer name peer3
link add eni1 mtu 2000 type veth peer name wire1
link add eni2 mtu 2000 type veth peer name wire2
link set pod1 up
link set pod2 up
link set eni1 up
link set eni2 up
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a test run did: the action, and what the counters say happened."""

    action: int
    packet: bytes
    mark: int
    drop: Drop | None
    onward: Onward | None


@dataclass
class World:
    datapath: Datapath
    loaded: loader.Loaded
    pod1: Endpoint
    pod2: Endpoint
    eni1: Eni
    eni2: Eni
    stranger: int
    node_addresses: tuple[IPv4Address | IPv6Address, ...]

    def run(self, hook: Hook, packet: bytes, *, ifindex: int, mark: int = 0, came_in_by: int = 0) -> Seen:
        """Through the entry program, as on a device. `came_in_by` 0: the node itself made the packet."""
        drops = self.datapath.drop_counts()
        forwards = self.datapath.forward_counts()
        outcome = testrun.run(self.loaded.entries[hook], packet, ifindex=ifindex, mark=mark, came_in_by=came_in_by)
        dropped = _changed(drops, self.datapath.drop_counts())
        passed = _changed(forwards, self.datapath.forward_counts())
        assert len(dropped) + len(passed) <= 1, "one packet, one count"
        assert all(key[1] == hook for key in dropped)
        assert all(key[0] == hook for key in passed)
        return Seen(
            outcome.action,
            outcome.packet,
            outcome.mark,
            dropped[0][0] if dropped else None,
            passed[0][1] if passed else None,
        )


def _changed(before: dict, after: dict) -> list:
    return [key for key, count in after.items() if count != before[key]]


def endpoint(name: str, number: int, eni_number: int, eni_name: str) -> Endpoint:
    """Pod `number` on device `name`: 10.0.1.10+number and 2001:db8:1::10+number."""
    return Endpoint(
        ifindex=ifindex(name),
        endpoint_id=number,
        pod_mac=mac(f"peer{number}"),
        host_mac=mac(name),
        eni_number=eni_number,
        eni_ifindex=ifindex(eni_name),
        ipv4=IPv4Address("10.0.1.10") + number,
        ipv6=IPv6Address("2001:db8:1::10") + number,
        gateway4=IPv4Address("10.0.1.1"),
        gateway6=IPv6Address("fe80::1:1"),
    )


@contextmanager
def world(pin_dir: Path, namespace: Namespace, routing: Routing, *, policy: bool = False) -> Iterator[World]:
    """Everything in place and attached to nothing: test runs name the device themselves."""
    namespace.ip(DEVICES)
    config = NodeConfig(routing=routing, policy=policy)
    datapath = Datapath.open(pin_dir, config)
    loaded = loader.load(pin_dir, config)
    try:
        pod1, pod2 = endpoint("pod1", 1, 1, "eni1"), endpoint("pod2", 2, 2, "eni2")
        eni1, eni2 = Eni(ifindex("eni1"), 1), Eni(ifindex("eni2"), 2)
        nodes = tuple(map(_parse, ("10.0.1.10", "2001:db8:1::10")))
        datapath.sync([pod1, pod2])
        datapath.set_node_addresses(dict.fromkeys(nodes, eni1.ifindex))
        for eni in (eni1, eni2):
            datapath.attach_eni(eni)
        yield World(datapath, loaded, pod1, pod2, eni1, eni2, ifindex("stranger"), nodes)
    finally:
        loaded.close()
        datapath.close()


def _parse(text: str) -> IPv4Address | IPv6Address:
    return IPv6Address(text) if ":" in text else IPv4Address(text)


def without_ipv6(endpoint: Endpoint) -> Endpoint:
    return replace(endpoint, ipv6=None, gateway6=None)
