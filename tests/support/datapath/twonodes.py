"""Two nodes, a router between them that checks sources as a VPC does, and three pods; no names, no leftovers.

Node A has two ENIs (pod a1 on the first, a2 on the second), node B one (pod b1). Addresses: node i has 10.0.i.10 (its
second ENI .20) and 2001:db8:i::10 (::20), its pods 10.0.i.101 and up.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from support.datapath.namespaces import Namespace, ifindex, mac, program

from enitide_enidp.datapath import Datapath, Endpoint, Eni, NodeConfig, Routing, bpffs, eni_mark, loader

MTU = 1500
ADDRESS_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass
class Pod:
    name: str
    namespace: Namespace
    endpoint: Endpoint

    def address(self, family: int) -> str:
        return str(self.endpoint.ipv4 if family == 4 else self.endpoint.ipv6)

    def socket(self, family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> socket.socket:
        """A socket of the pod, with a bound on every wait."""
        return _socket(self.namespace, ADDRESS_FAMILIES[family], kind, protocol)


@dataclass
class Node:
    number: int
    namespace: Namespace
    pin_dir: Path
    config: NodeConfig
    tcx: bool | None
    datapath: Datapath
    enis: list[Eni]
    pods: list[Pod] = field(default_factory=list)

    def address(self, family: int) -> str:
        return f"10.0.{self.number}.10" if family == 4 else f"2001:db8:{self.number}::10"

    def socket(self, family: int, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> socket.socket:
        return _socket(self.namespace, ADDRESS_FAMILIES[family], kind, protocol)


@dataclass
class TwoNodes:
    fabric: Namespace
    a: Node
    b: Node

    @property
    def pods(self) -> dict[str, Pod]:
        return {pod.name: pod for node in (self.a, self.b) for pod in node.pods}


def _socket(namespace: Namespace, family: int, kind: int, protocol: int) -> socket.socket:
    with namespace.entered():
        made = socket.socket(family, kind, protocol)
    made.settimeout(10)
    return made


def _eni(fabric: Namespace, node: Namespace, number: int, index: int) -> None:
    """Device `eni<index>` of the node and its port of the router, with everything a VPC gives."""
    port, device, host = f"n{number}e{index}", f"eni{index}", 10 * (index + 1)
    fabric.run(f"link add {port} mtu {MTU} type veth peer name {device} mtu {MTU} netns {node.path}")
    fabric.sysctl(f"net/ipv4/conf/{port}/rp_filter", "1")
    fabric.sysctl(f"net/ipv4/conf/{port}/proxy_arp", "1")
    fabric.run(
        f"link set {port} up\naddress add 10.0.{number}.1/32 dev {port}\n"
        f"address add fe80::{number}:1/64 dev {port} nodad\n"
        f"route add 10.0.{number}.{host}/32 dev {port}\nroute add 2001:db8:{number}::{host}/128 dev {port}"
    )
    with fabric.entered():
        port_mac = mac(port).hex(":")
    table, mark = 100 + index, f"{eni_mark(index + 1):#x}/0xff0000"
    commands = [
        f"link set {device} up",
        f"address add 10.0.{number}.{host}/24 dev {device} noprefixroute",
        f"address add 2001:db8:{number}::{host}/128 dev {device} nodad",
        f"neighbor add 10.0.{number}.1 lladdr {port_mac} dev {device} nud permanent",
        f"neighbor add fe80::{number}:1 lladdr {port_mac} dev {device} nud permanent",
    ]
    for six, gateway, own in (
        ("", f"10.0.{number}.1", f"10.0.{number}.{host}"),
        ("-6 ", f"fe80::{number}:1", f"2001:db8:{number}::{host}"),
    ):
        commands.append(f"{six}route add default via {gateway} dev {device} onlink table {table}")
        commands.append(f"{six}rule add fwmark {mark} lookup {table} priority 111")
        commands.append(f"{six}rule add from {own} lookup {table} priority 112")
        if index == 0:
            commands.append(f"{six}route add default via {gateway} dev {device} onlink")
            only_hosts = "127" if six else "31"
            commands.append(f"{six}rule add lookup main suppress_prefixlength {only_hosts} priority 110")
    with node.entered():
        for command in commands:
            program("ip", *command.split())


def make_pod(
    node: Node,
    fabric: Namespace,
    name: str,
    place: tuple[int, int],
    opened: Callable[[Callable[..., socket.socket]], None] = lambda _: None,
) -> Pod:
    """A pod, wired in the agent's order. `place`: its number, and that of its ENI.

    `opened` is given what makes sockets in its namespace before it is up.
    """
    index, eni_index = place
    namespace, device, number = Namespace(), f"pod{index}", node.number
    opened(lambda family, kind, protocol: _socket(namespace, family, kind, protocol))
    ipv4, ipv6 = f"10.0.{number}.{100 + index}", f"2001:db8:{number}::{100 + index}"
    node.namespace.run(f"link add {device} mtu {MTU} type veth peer name eth0 mtu {MTU} netns {namespace.path}")
    with namespace.entered():
        pod_mac = mac("eth0")
    with node.namespace.entered():
        host_mac, device_index, eni_ifindex = mac(device), ifindex(device), ifindex(f"eni{eni_index}")
    namespace.run(
        f"address add {ipv4}/32 dev eth0\naddress add {ipv6}/128 dev eth0 nodad\nlink set eth0 up\n"
        "route add 169.254.1.1 dev eth0 scope link\nroute add default via 169.254.1.1 dev eth0\n"
        f"route add default via fe80::1 dev eth0\n"
        f"neighbor replace 169.254.1.1 lladdr {host_mac.hex(':')} dev eth0 nud permanent\n"
        f"neighbor replace fe80::1 lladdr {host_mac.hex(':')} dev eth0 nud permanent"
    )
    pod = Endpoint(
        ifindex=device_index,
        endpoint_id=index,
        pod_mac=pod_mac,
        host_mac=host_mac,
        eni_number=eni_index + 1,
        eni_ifindex=eni_ifindex,
        ipv4=IPv4Address(ipv4),
        ipv6=IPv6Address(ipv6),
        gateway4=IPv4Address(f"10.0.{number}.1"),
        gateway6=IPv6Address(f"fe80::{number}:1"),
    )
    with node.namespace.entered():
        node.datapath.put_endpoint(pod)
        node.datapath.attach_pod(device_index)
    node.namespace.run(
        f"link set {device} up\nroute add {ipv4}/32 dev {device}\nroute add {ipv6}/128 dev {device}\n"
        f"neighbor replace {ipv4} lladdr {pod_mac.hex(':')} dev {device} nud permanent\n"
        f"neighbor replace {ipv6} lladdr {pod_mac.hex(':')} dev {device} nud permanent"
    )
    host = 10 * (eni_index + 1)
    fabric.run(
        f"route add {ipv4}/32 via 10.0.{number}.{host} dev n{number}e{eni_index} onlink\n"
        f"route add {ipv6}/128 via 2001:db8:{number}::{host} dev n{number}e{eni_index} onlink"
    )
    made = Pod(name, namespace, pod)
    node.pods.append(made)
    return made


def remove_pod(node: Node, fabric: Namespace, pod: Pod) -> None:
    """As the agent does: cut, forget, then the device and the namespace."""
    device = f"pod{pod.endpoint.endpoint_id}"
    with node.namespace.entered():
        node.datapath.delete_endpoint(pod.endpoint.ifindex)
    node.namespace.run(f"link delete {device}")
    fabric.run(f"route delete {pod.endpoint.ipv4}/32\nroute delete {pod.endpoint.ipv6}/128")
    pod.namespace.close()
    node.pods.remove(pod)


def _node(
    undo: ExitStack, fabric: Namespace, folder: Path, *, number: int, enis: int, config: NodeConfig, tcx: bool | None
) -> Node:
    namespace = Namespace()
    undo.callback(namespace.close)
    for index in range(enis):
        _eni(fabric, namespace, number, index)
    pin_dir = folder / f"node{number}"

    def unpin() -> None:
        if bpffs.is_bpffs(pin_dir):
            loader.unload(pin_dir)
        bpffs.unmount(pin_dir)

    undo.callback(unpin)
    with namespace.entered():
        managed = [Eni(ifindex(f"eni{index}"), index + 1) for index in range(enis)]
        datapath = Datapath.open(pin_dir, config, tcx=tcx)
        node = Node(number, namespace, pin_dir, config, tcx, datapath, managed)
        undo.callback(lambda: node.datapath.close())
        own: dict[IPv4Address | IPv6Address, int] = {}
        for index, eni in enumerate(managed):
            datapath.attach_eni(eni)
            own[IPv4Address(f"10.0.{number}.{10 * (index + 1)}")] = eni.ifindex
            own[IPv6Address(f"2001:db8:{number}::{10 * (index + 1)}")] = eni.ifindex
        datapath.set_node_addresses(own)
    return node


@contextmanager
def two_nodes(folder: Path, routing: Routing, *, tcx: bool | None = None, policy: bool = False) -> Iterator[TwoNodes]:
    """Everything up; all of it gone afterwards."""
    config = NodeConfig(routing=routing, policy=policy)
    with ExitStack() as undo:
        fabric = Namespace()
        undo.callback(fabric.close)
        a = _node(undo, fabric, folder, number=1, enis=2, config=config, tcx=tcx)
        b = _node(undo, fabric, folder, number=2, enis=1, config=config, tcx=tcx)
        for node, name, index, eni_index in ((a, "a1", 1, 0), (a, "a2", 2, 1), (b, "b1", 1, 0)):
            undo.callback(make_pod(node, fabric, name, (index, eni_index)).namespace.close)
        yield TwoNodes(fabric, a, b)


def eventually(condition: Callable[[], bool], bound_s: float = 10.0) -> bool:
    """Poll until true or until the bound; the kernel counts a packet a moment after it was sent."""
    import time

    deadline = time.monotonic() + bound_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
