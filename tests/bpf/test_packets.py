"""Real packets between pods, nodes and a router that checks sources; both families, both routings."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from support.datapath.namespaces import program
from support.datapath.twonodes import Node, Pod, TwoNodes, eventually, two_nodes

from enitide_api.reasons import Drop
from enitide_enidp.datapath import Datapath, NodeConfig, Routing
from enitide_enidp.datapath.types import Hook, Onward

pytestmark = pytest.mark.bpf

PORT = 5000
IP_RECVTTL, SO_RCVMARK, IP_MTU_DISCOVER, IP_PMTUDISC_DO, IPV6_MTU_DISCOVER = 12, 75, 10, 2, 23
IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE = 11, 25, 0x2000
# A header that routers have to look at: four no-operations, or a hop-by-hop header of padding. It goes by the stack.
FOR_THE_STACK = {
    4: (socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 1])),
    6: (41, socket.IPV6_HOPOPTS, bytes([0, 0, 1, 4, 0, 0, 0, 0])),
}
WAYS = [(Routing.DIRECT, None), (Routing.DIRECT, False), (Routing.STACK, None)]
PAIRS = [("a1", "a2"), ("a1", "b1"), ("a2", "b1"), ("b1", "a2")]
families = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture(scope="module", params=WAYS, ids=["direct", "direct, filters on ENIs", "stack"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    routing, tcx = request.param
    with two_nodes(tmp_path_factory.mktemp("nodes"), routing, tcx=tcx) as made:
        yield made


def routing(world: TwoNodes) -> Routing:
    return world.a.config.routing


def exchange(client: Pod | Node, server: Pod | Node, family: int, payload: bytes = b"hello") -> None:
    """One datagram there and one back."""
    with server.socket(family) as far, client.socket(family) as near:
        far.bind((server.address(family), PORT))
        near.bind((client.address(family), 0))
        near.sendto(payload, (server.address(family), PORT))
        received, peer = far.recvfrom(65535)
        assert received == payload
        assert peer[0] == client.address(family), "nobody translated the source"
        far.sendto(b"back", peer)
        assert near.recv(100) == b"back"


def onward(node: Node, hook: Hook) -> dict[Onward, int]:
    return {way: node.datapath.forward_counts()[hook, way].packets for way in Onward}


@families
@pytest.mark.parametrize(("client", "server"), PAIRS, ids=lambda name: name)
def test_pods_reach_each_other_on_one_node_and_across_nodes(
    world: TwoNodes, family: int, client: str, server: str
) -> None:
    before = {node.number: onward(node, Hook.FROM_POD) for node in (world.a, world.b)}
    exchange(world.pods[client], world.pods[server], family)
    node = world.a if client.startswith("a") else world.b
    after = onward(node, Hook.FROM_POD)
    way = Onward.PEER if client[0] == server[0] else Onward.WIRE
    expected = way if routing(world) is Routing.DIRECT else Onward.STACK
    assert after[expected] > before[node.number][expected]


@families
def test_a_pod_and_a_node_reach_each_other(world: TwoNodes, family: int) -> None:
    for pod, node in ((world.pods["a1"], world.a), (world.pods["a1"], world.b), (world.pods["a2"], world.b)):
        exchange(pod, node, family)
        exchange(node, pod, family)


@families
@pytest.mark.parametrize("server", ["a2", "b1"])
def test_a_stream_of_a_megabyte_arrives_whole(world: TwoNodes, family: int, server: str) -> None:
    data = os.urandom(1 << 20)
    far_pod, near_pod = world.pods[server], world.pods["a1"]
    with far_pod.socket(family, socket.SOCK_STREAM) as listener, near_pod.socket(family, socket.SOCK_STREAM) as near:
        listener.bind((far_pod.address(family), PORT))
        listener.listen()
        near.connect((far_pod.address(family), PORT))
        far, _ = listener.accept()
        sender = threading.Thread(target=lambda: (near.sendall(data), near.shutdown(socket.SHUT_WR)))
        sender.start()
        received = bytearray()
        with far:
            far.settimeout(10)
            while chunk := far.recv(1 << 16):
                received += chunk
        sender.join(10)
    assert bytes(received) == data


@families
@pytest.mark.parametrize(("server", "hops"), [("a2", 1), ("b1", 3)])
def test_each_router_on_the_way_takes_one_hop_whichever_way_a_packet_goes(
    world: TwoNodes, family: int, server: str, hops: int
) -> None:
    far_pod = world.pods[server]
    level, option = (socket.IPPROTO_IP, IP_RECVTTL) if family == 4 else (41, socket.IPV6_RECVHOPLIMIT)
    with far_pod.socket(family) as far, world.pods["a1"].socket(family) as near:
        far.setsockopt(level, option, 1)
        far.setsockopt(socket.SOL_SOCKET, SO_RCVMARK, 1)
        far.bind((far_pod.address(family), PORT))
        near.sendto(b"x", (far_pod.address(family), PORT))
        _, ancillary, _, _ = far.recvmsg(100, 200)
    values = {kind: struct.unpack("=i", data[:4])[0] for where, kind, data in ancillary if where == level}
    assert list(values.values()) == [64 - hops]
    marks = [data for where, kind, data in ancillary if (where, kind) == (socket.SOL_SOCKET, socket.SO_MARK)]
    assert marks == [bytes(4)], "no mark of the node is seen in the pod"


@families
def test_a_packet_at_the_end_of_its_hops_is_answered_by_the_node(world: TwoNodes, family: int) -> None:
    level = socket.IPPROTO_IP if family == 4 else 41
    with world.pods["a1"].socket(family) as near:
        near.setsockopt(level, IP_RECVERR if family == 4 else IPV6_RECVERR, 1)
        near.setsockopt(level, socket.IP_TTL if family == 4 else socket.IPV6_UNICAST_HOPS, 1)
        near.sendto(b"x", (world.pods["b1"].address(family), PORT))
        _, ancillary, _, _ = _error(near)
    number, origin, kind = struct.unpack_from("=IBB", ancillary[0][2])
    assert (number, origin, kind) == (errno.EHOSTUNREACH, family // 2, 11 if family == 4 else 3)


def _error(near: socket.socket) -> tuple:
    import select

    poller = select.poll()
    poller.register(near, select.POLLERR)
    assert poller.poll(10_000), "an ICMP error comes back"
    return near.recvmsg(2000, 500, MSG_ERRQUEUE)


@families
def test_a_packet_too_big_for_the_eni_is_answered_with_the_mtu_that_fits(world: TwoNodes, family: int) -> None:
    level, option = (socket.IPPROTO_IP, IP_MTU_DISCOVER) if family == 4 else (41, IPV6_MTU_DISCOVER)
    pod, far = world.pods["a1"], world.pods["b1"].address(family)
    world.a.namespace.run("link set eni0 mtu 1400")
    try:
        with pod.socket(family) as near:
            near.setsockopt(level, option, IP_PMTUDISC_DO)
            near.connect((far, PORT))

            def refused() -> bool:
                try:
                    near.send(bytes(1440))
                except OSError as error:
                    return error.errno == errno.EMSGSIZE
                return False

            assert eventually(refused)
            mtu_option = 14 if family == 4 else 24
            assert near.getsockopt(level, mtu_option) == 1400
    finally:
        world.a.namespace.run("link set eni0 mtu 1500")
        with pod.namespace.entered():
            program("ip", f"-{family}", "route", "flush", "cache")


@families
@pytest.mark.parametrize("server", ["a2", "b1"])
def test_a_spoofed_packet_never_arrives_and_is_counted(world: TwoNodes, family: int, server: str) -> None:
    far_pod, near_pod = world.pods[server], world.pods["a1"]
    before = world.a.datapath.drops()[Drop.SPOOFED_SOURCE]
    other = world.pods["b1" if server == "a2" else "a2"].address(family)
    width = f"{32 if family == 4 else 128} dev eth0"
    with far_pod.socket(family) as far:
        far.bind((far_pod.address(family), PORT))
        near_pod.namespace.run(f"address add {other}/{width}{' nodad' if family == 6 else ''}")
        try:
            with near_pod.socket(family) as liar, near_pod.socket(family) as honest:
                liar.bind((other, 0))
                liar.sendto(b"lie", (far_pod.address(family), PORT))
                honest.bind((near_pod.address(family), 0))
                honest.sendto(b"truth", (far_pod.address(family), PORT))
                assert far.recv(100) == b"truth", "sent later, and the only one to arrive"
        finally:
            near_pod.namespace.run(f"address del {other}/{width}")
    assert world.a.datapath.drops()[Drop.SPOOFED_SOURCE] == before + 1


@pytest.mark.parametrize("ethertype", [0x0800, 0x86DD])
def test_a_frame_too_short_for_its_header_is_malformed(world: TwoNodes, ethertype: int) -> None:
    before = world.a.datapath.drops()[Drop.MALFORMED]
    pod = world.pods["a1"]
    with pod.namespace.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", ethertype))
        raw.send(pod.endpoint.host_mac + pod.endpoint.pod_mac + struct.pack(">H", ethertype) + b"\x45" + bytes(11))
    assert eventually(lambda: world.a.datapath.drops()[Drop.MALFORMED] == before + 1)


def test_a_tagged_frame_of_a_pod_is_refused_even_when_the_kernel_has_taken_the_tag_off(world: TwoNodes) -> None:
    before = world.a.datapath.drops()[Drop.UNKNOWN_PROTOCOL]
    pod = world.pods["a1"]
    tag = struct.pack(">HH", 0x8100, 7)
    with pod.namespace.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0x0800))
        raw.send(pod.endpoint.host_mac + pod.endpoint.pod_mac + tag + b"\x08\x00\x45" + bytes(59))
    assert eventually(lambda: world.a.datapath.drops()[Drop.UNKNOWN_PROTOCOL] == before + 1)


@families
def test_no_packet_is_lost_while_program_sets_replace_each_other(world: TwoNodes, family: int) -> None:
    """The stack's and the programs' routing take turns under a flow; the switch is one map write."""
    stop, failures = threading.Event(), list[BaseException]()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        try:
            with world.a.namespace.entered():
                while not stop.is_set():
                    for turn in (NodeConfig(routing=Routing.STACK), NodeConfig(routing=Routing.DIRECT)):
                        Datapath.open(world.a.pin_dir, turn, tcx=world.a.tcx).close()
                        swaps += 1
        except BaseException as error:
            failures.append(error)

    far_pod, near_pod = world.pods["b1"], world.pods["a1"]
    thread = threading.Thread(target=swap)
    with far_pod.socket(family) as far, near_pod.socket(family) as near:
        far.bind((far_pod.address(family), PORT))
        near.connect((far_pod.address(family), PORT))
        thread.start()
        try:
            sent = 0
            while (swaps < 6 or sent < 500) and not failures:
                near.send(struct.pack("=I", sent))
                data, peer = far.recvfrom(100)
                assert struct.unpack("=I", data) == (sent,)
                far.sendto(data, peer)
                assert near.recv(100) == data
                sent += 1
        finally:
            stop.set()
            thread.join(30)
    assert not failures
    Datapath.open(world.a.pin_dir, world.a.config, tcx=world.a.tcx).close()
    assert world.a.datapath.drops()[Drop.NO_PROGRAM] == 0


@families
def test_packets_flow_while_the_agent_is_dead_and_after_it_has_come_back(world: TwoNodes, family: int) -> None:
    with world.a.namespace.entered():
        world.a.datapath.close()
    exchange(world.pods["a1"], world.pods["b1"], family)
    exchange(world.pods["b1"], world.pods["a2"], family)
    with world.a.namespace.entered():
        world.a.datapath = Datapath.open(world.a.pin_dir, world.a.config, tcx=world.a.tcx)
        devices = {pod.endpoint.ifindex for pod in world.a.pods}
        assert world.a.datapath.adopted
        assert world.a.datapath.reconcile_attachments(devices, world.a.enis) == []
    exchange(world.pods["a1"], world.pods["b1"], family)


@families
def test_a_pod_without_a_record_is_closed_both_ways(world: TwoNodes, family: int) -> None:
    pod, far = world.pods["a1"], world.pods["b1"]
    world.a.datapath.delete_endpoint(pod.endpoint.ifindex)
    try:
        before = world.a.datapath.drop_counts()
        with pod.socket(family) as near, far.socket(family) as other:
            near.sendto(b"out", (far.address(family), PORT))
            other.sendto(b"in", (pod.address(family), PORT))

            def closed(hook: Hook) -> bool:
                key = (Drop.NO_ENDPOINT, hook)
                return world.a.datapath.drop_counts()[key].packets > before[key].packets

            assert eventually(lambda: closed(Hook.FROM_POD))
            assert eventually(lambda: closed(Hook.TO_POD))
    finally:
        world.a.datapath.put_endpoint(pod.endpoint)
    exchange(pod, far, family)


@families
def test_a_marked_packet_that_routing_sends_out_of_another_eni_is_stopped_and_named(
    world: TwoNodes, family: int
) -> None:
    pod = world.pods["a2"]
    rule = ["rule", "del", "priority", "111", "fwmark", "0x20000/0xff0000"]
    back = ["rule", "add", "priority", "111", "fwmark", "0x20000/0xff0000", "lookup", "101"]
    before = world.a.datapath.drops()[Drop.WRONG_INTERFACE]
    with world.a.namespace.entered():
        program("ip", f"-{family}", *rule)
    try:
        with pod.socket(family) as near:
            near.setsockopt(*FOR_THE_STACK[family])
            near.sendto(b"x", (world.pods["b1"].address(family), PORT))
        assert eventually(lambda: world.a.datapath.drops()[Drop.WRONG_INTERFACE] == before + 1)
    finally:
        with world.a.namespace.entered():
            program("ip", f"-{family}", *back)
