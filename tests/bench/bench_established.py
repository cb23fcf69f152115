"""What policy adds to a packet of a live connection: the live programs by the kernel's test run. Root."""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.datapath.costs import (
    ALLOW,
    CALLS,
    REMOTE,
    REPEATS,
    ROUNDS,
    Run,
    bench_node,
    egress,
    from_pod,
    from_wire,
    interleaved,
    let,
    shapes,
    tcp,
)
from support.datapath.namespaces import Namespace
from support.datapath.policymodel import TCP, Said, turned
from support.datapath.world import World

from enitide_enidp.datapath import EndpointPolicy
from enitide_policy.mapstate import RuleSet

Row = dict[str, object]
LOADS = 5
WAYS = {"": "to another node", "_in": "from another node", "_local": "to a pod of the same node"}


def _frames(node: World, namespace: Namespace) -> dict[str, Run]:
    out = tcp(node, flags="A")
    return {
        "": from_pod(node, namespace, out),
        "_in": from_wire(node, namespace, replace(turned(out), flags="A")),
        "_local": from_pod(node, namespace, Said(node.pod1.ipv4, node.pod2.ipv4, TCP, 1000, 80, "A")),
    }


def _establish(node: World, namespace: Namespace) -> None:
    """Policy for both pods, and two handshakes: from then on packets take the short way."""
    let(node, {egress(256, 80): ALLOW})
    policy = node.datapath.policy
    policy.put_identities({REMOTE: 256, node.pod2.ipv4: 256})
    policy.apply(RuleSet(9, False, False, {}))
    policy.set_endpoint(node.pod2.ifindex, EndpointPolicy(9, 301))
    local = Said(node.pod1.ipv4, node.pod2.ipv4, TCP, 1000, 80, "S")
    for way, said in ((from_wire, tcp(node)), (from_pod, local)):
        from_pod(node, namespace, said, 1)()
        way(node, namespace, replace(turned(said), flags="SA"), 1)()
        from_pod(node, namespace, replace(said, flags="A"), 1)()


def bench_established() -> list[Row]:
    """An established packet with policy and without; one hash lookup; the array scan of addresses."""
    with ExitStack() as undo:
        ways: dict[tuple[str, int], Run] = {}
        for load in range(LOADS):
            plain, plain_ns = undo.enter_context(bench_node(policy=False))
            node, namespace = undo.enter_context(bench_node(policy=True))
            _establish(node, namespace)
            ways |= {(f"baseline{way}", load): run for way, run in _frames(plain, plain_ns).items()}
            ways |= {(f"established{way}", load): run for way, run in _frames(node, namespace).items()}
        ways |= {(name, 0): run for name, run in undo.enter_context(shapes()).items()}
        measured = interleaved(ways)
    mean = {name: statistics.mean(v for (each, _), v in measured.items() if each == name) for name, _ in ways}
    hash_ns = mean["shape_hash"] - mean["shape_nothing"]
    scan_ns = mean["shape_prefix_scan"] - mean["shape_nothing"]
    rows = [row for way in WAYS for row in _rows(mean, way, hash_ns, scan_ns)]
    return [*rows, _row("packet_hash_lookup_ns", hash_ns, None, "one LRU lookup of such a key, less the empty program")]


def _rows(mean: dict[str, float], way: str, hash_ns: float, scan_ns: float) -> list[Row]:
    baseline, established = mean[f"baseline{way}"], mean[f"established{way}"]
    how = (
        f"test run through the entry program, TCP {WAYS[way]}, mean of {LOADS} loads (where the kernel puts machine "
        f"code moves it by 6 ns) of the least of {ROUNDS} interleaved rounds' p50 of {CALLS} calls of {REPEATS} repeats"
    )
    return [
        _row(f"packet_baseline{way}_ns", baseline, None, f"{how}; policy off: all of it pruned"),
        _row(
            f"packet_established{way}_ns",
            established,
            baseline + hash_ns + scan_ns,
            f"the same run, policy on, live connection, no change of policy since its last packet: "
            f"{established - baseline:.0f} ns more, a hash lookup of its key alone being {hash_ns:.0f}. Peer: "
            f"baseline, a flow lookup, a 65,536-entry LPM and a scan of 24 tuples ({scan_ns:.0f} ns)",
        ),
    ]


def _row(name: str, value: float, peer: float | None, method: str) -> Row:
    return {"name": name, "value": value, "unit": "ns", "peer": peer, "method": method}


bench_established.names = (  # type: ignore[attr-defined]
    *(f"packet_{what}{way}_ns" for way in WAYS for what in ("baseline", "established")),
    "packet_hash_lookup_ns",
)
