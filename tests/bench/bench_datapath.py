"""What it costs to give a pod its programs, and what the programs cost a packet. Root; in a namespace of its own."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.datapath import model  # noqa: E402
from support.datapath.model import Case  # noqa: E402
from support.datapath.namespaces import Namespace, ifindex, mac  # noqa: E402
from support.datapath.world import endpoint, world  # noqa: E402

from enitide_enidp.datapath import Datapath, NodeConfig, Routing, bpffs, codec, loader, testrun  # noqa: E402
from enitide_enidp.datapath.attach import Netlink  # noqa: E402
from enitide_enidp.datapath.libbpf import BpfObject  # noqa: E402
from enitide_enidp.datapath.tcmessages import EGRESS, INGRESS, bpf_filter, clsact  # noqa: E402
from enitide_enidp.datapath.types import Endpoint, Hook  # noqa: E402

PODS, ROUNDS, COMPILED = 110, 3, 5
Row = dict[str, object]


@contextmanager
def place() -> Iterator[tuple[Namespace, Path]]:
    """A namespace and a pin folder."""
    namespace = Namespace()
    with tempfile.TemporaryDirectory(prefix="enitide-bench-") as folder:
        pins = Path(folder) / "bpf"
        try:
            with namespace.entered():
                yield namespace, pins
        finally:
            if bpffs.is_bpffs(pins):
                loader.unload(pins)
            bpffs.unmount(pins)
            namespace.close()


def _devices(namespace: Namespace, round_number: int) -> list[Endpoint]:
    """110 new veths and what the agent would know of their pods."""
    names = [f"r{round_number}p{i}" for i in range(PODS)]
    namespace.ip("\n".join(f"link add {name} type veth peer name {name}x" for name in names))
    pattern = endpoint("pod1", 1, 1, "eni1")
    assert pattern.ipv4 is not None
    assert pattern.ipv6 is not None
    return [
        replace(
            pattern,
            ifindex=ifindex(name),
            endpoint_id=round_number * PODS + i + 1,
            pod_mac=mac(f"{name}x"),
            host_mac=mac(name),
            ipv4=pattern.ipv4 + round_number * PODS + i + 1,
            ipv6=pattern.ipv6 + round_number * PODS + i + 1,
        )
        for i, name in enumerate(names)
    ]


def _attach_all(datapath: Datapath, pods: list[Endpoint]) -> float:
    started = time.perf_counter()
    for pod in pods:
        datapath.put_endpoint(pod)
        datapath.attach_pod(pod.ifindex)
    return time.perf_counter() - started


def _compile_and_attach(netlink: Netlink, pod: Endpoint, pins: Path, folder: Path) -> float:
    """What a per-endpoint build costs: the same source by clang, its own load, the same two filters."""
    started = time.perf_counter()
    subprocess.run(["make", "-s", "-C", str(ROOT / "bpf"), "-B", f"OUT={folder}", f"{folder}/pod.bpf.o"], check=True)
    with BpfObject(folder / "pod.bpf.o", loader.schema_dir(pins) / "maps") as own:
        own.set_rodata(loader.CONFIG_SECTION, codec.encode_config(NodeConfig()))
        own.load()
        programs = own.programs()
        filters = [
            bpf_filter(pod.ifindex, INGRESS, programs["from_pod"], "from_pod"),
            bpf_filter(pod.ifindex, EGRESS, programs["to_pod"], "to_pod"),
        ]
        netlink.run([clsact(pod.ifindex), *filters], "attach")
        return time.perf_counter() - started


def bench_attach() -> list[Row]:
    """Programs of 110 endpoints: record and attach, against a compile for each."""
    with place() as (namespace, pins):
        namespace.ip("link add pod1 type veth peer name peer1\nlink add eni1 type veth peer name wire1")
        datapath, netlink = Datapath.open(pins, NodeConfig()), Netlink()
        try:
            ours_s, theirs_s = [], []
            with tempfile.TemporaryDirectory(prefix="enitide-bench-") as folder:
                for number in range(ROUNDS):
                    pods = _devices(namespace, number)
                    ours_s.append(_attach_all(datapath, pods))
                    sample = pods[: COMPILED if number == 0 else 1]
                    theirs_s += [_compile_and_attach(netlink, pod, pins, Path(folder)) for pod in sample]
        finally:
            netlink.close()
            datapath.close()
    each_s, compile_s = min(ours_s) / PODS, min(theirs_s)
    return [
        {
            "name": "attach_110_s",
            "value": min(ours_s),
            "unit": "s",
            "peer": compile_s * PODS,
            "method": f"endpoint record, its addresses, clsact and 2 filters, {PODS} veths, min of {ROUNDS} rounds; "
            "peer: compile for each, extrapolated",
        },
        {
            "name": "attach_vs_compile_ratio",
            "value": compile_s / each_s,
            "unit": "x",
            "peer": 25,
            "method": f"clang + load + attach of one endpoint (min of {len(theirs_s)}: {compile_s * 1000:.0f} ms) over "
            f"{each_s * 1000:.3f} ms, same run; peer: the goal's best elsewhere",
        },
    ]


bench_attach.names = ("attach_110_s", "attach_vs_compile_ratio")  # type: ignore[attr-defined]


def bench_program_cost() -> list[Row]:
    """Nanoseconds of a program for one packet, caches warm."""
    rows: list[Row] = []
    with place() as (namespace, pins), world(pins, namespace, Routing.DIRECT) as node:
        pod, wire = node.pod1.ifindex, node.eni1.ifindex
        runs = (
            ("program_from_pod_wire_ns_p50", Hook.FROM_POD, Case(4), pod, "to another node"),
            ("program_from_pod_wire6_ns_p50", Hook.FROM_POD, Case(6), pod, "to another node, IPv6"),
            ("program_from_pod_peer_ns_p50", Hook.FROM_POD, Case(4, destination="local pod"), pod, "to a local pod"),
            ("program_from_wire_ns_p50", Hook.FROM_WIRE, Case(4, destination="self"), wire, "from the wire to a pod"),
        )
        for name, hook, case, device, words in runs:
            packet = model.frame(
                replace(case, hop_limit=255), node, node.pod1, mac("eni1" if device == wire else "pod1")
            )
            entry = node.loaded.entries[hook]
            times_ns = [testrun.run(entry, packet, ifindex=device, repeat=50).duration_ns for _ in range(400)]
            method = f"test run through the entry program, {words}; p50 of 400 means of 50 repeats"
            rows.append(
                {"name": name, "value": statistics.median(times_ns), "unit": "ns", "peer": None, "method": method}
            )
    return rows


bench_program_cost.names = (  # type: ignore[attr-defined]
    "program_from_pod_wire_ns_p50",
    "program_from_pod_wire6_ns_p50",
    "program_from_pod_peer_ns_p50",
    "program_from_wire_ns_p50",
)
