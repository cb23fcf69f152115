"""What packets cost: nodes, frames and the kernel's test run, for benchmarks. Root."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from support.datapath import policyframes
from support.datapath.namespaces import Namespace, mac
from support.datapath.policymodel import TCP, Said
from support.datapath.world import World, world

from enitide_enidp.datapath import EndpointPolicy, Routing, bpffs, loader, syscalls, testrun
from enitide_enidp.datapath.libbpf import BpfObject
from enitide_enidp.datapath.types import Hook
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, RuleValue, pack_key, pack_value

ALLOW = pack_value(RuleValue(allow=True))
REMOTE = IPv4Address("10.9.0.7")
REPEATS, CALLS, ROUNDS = 50, 100, 7  # at most 60 repeats: each lowers the hop limit of the next one's packet
MANY_PREFIXES = 65_536
T = TypeVar("T")
Run = Callable[[], int]
"""One measurement, in ns for each packet."""


@contextmanager
def bench_node(*, policy: bool) -> Iterator[tuple[World, Namespace]]:
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="enitide-bench-")))
        namespace = Namespace()
        undo.callback(namespace.close)
        undo.callback(bpffs.unmount, folder / "bpf")
        with namespace.entered():
            made = undo.enter_context(world(folder / "bpf", namespace, Routing.DIRECT, policy=policy))
        undo.callback(loader.unload, folder / "bpf")
        yield made, namespace


@contextmanager
def shapes() -> Iterator[dict[str, Run]]:
    """The programs of shapes.bpf.c, with 65,536 prefixes and one flow."""
    with tempfile.TemporaryDirectory(prefix="enitide-bench-") as folder:
        target = Path(folder) / "shapes.bpf.o"
        source = Path(__file__).with_name("shapes.bpf.c")
        multiarch = subprocess.run(
            ["gcc", "-print-multiarch"], capture_output=True, text=True, check=True
        ).stdout.strip()
        flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-idirafter", f"/usr/include/{multiarch}"]
        subprocess.run(["clang", *flags, "-c", str(source), "-o", str(target)], check=True)
        with BpfObject(target, Path(folder)) as loaded:
            loaded.load()
            maps = loaded.maps()
            mark = (1).to_bytes(4, "little")
            syscalls.update(maps["flows"], mark.ljust(40, b"\0"), bytes(32))
            policy = _tuple(17, 0) * 23 + _tuple(6, 80)
            keys = ((32).to_bytes(4, "little") + number.to_bytes(4, "little") for number in range(MANY_PREFIXES))
            syscalls.update_batch(maps["prefixes"], [(key, policy) for key in keys])
            frame = bytes(12) + b"\x08\x00" + b"\x45" + bytes(40)
            yield {
                name: lambda fd=fd: testrun.run(fd, frame, mark=1, repeat=1000).duration_ns
                for name, fd in loaded.programs().items()
            }


def _tuple(protocol: int, port: int) -> bytes:
    return b"".join(each.to_bytes(4, "little") for each in (protocol, port, port))


def interleaved(ways: dict[T, Run], calls: int = CALLS, rounds: int = ROUNDS) -> dict[T, float]:
    """Of each way the least of the rounds' medians: what a busy neighbour cannot make smaller."""
    found = [
        {name: statistics.median(run() for _ in range(calls)) for name, run in ways.items()} for _ in range(rounds)
    ]
    return {name: min(each[name] for each in found) for name in ways}


def from_pod(node: World, namespace: Namespace, said: Said, repeat: int = REPEATS) -> Run:
    pod = next(each for each in (node.pod1, node.pod2) if said.source in each.addresses)
    data = policyframes.frame(said, pod.pod_mac, pod.host_mac)
    return _run(node, namespace, (Hook.FROM_POD, pod.ifindex), data, repeat)


def from_wire(node: World, namespace: Namespace, said: Said, repeat: int = REPEATS) -> Run:
    with namespace.entered():
        data = policyframes.frame(said, bytes(6), mac("eni1"))
    return _run(node, namespace, (Hook.FROM_WIRE, node.eni1.ifindex), data, repeat)


def _run(node: World, namespace: Namespace, at: tuple[Hook, int], data: bytes, repeat: int) -> Run:
    entry = node.loaded.entries[at[0]]

    def run() -> int:
        with namespace.entered():
            return testrun.run(entry, data, ifindex=at[1], repeat=repeat).duration_ns

    return run


def egress(identity: int, port: int) -> int:
    return pack_key(RuleKey(Direction.EGRESS, Peer.IDENTITY, identity, TCP, port, 16))


def tcp(node: World, port: int = 80, sport: int = 1000, flags: str = "S") -> Said:
    return Said(node.pod1.ipv4, REMOTE, TCP, sport, port, flags)


def let(node: World, rules: dict[int, int], number: int = 7) -> None:
    node.datapath.policy.apply(RuleSet(number, False, True, rules))
    node.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(number, 300))
