"""What policy costs a packet, and what it costs to write: the live programs by the kernel's test run. Root."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from ipaddress import IPv4Address, ip_network
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.datapath import podstarts  # noqa: E402
from support.datapath.costs import ALLOW, REMOTE, ROUNDS, bench_node, egress, from_pod, let, tcp  # noqa: E402
from support.datapath.namespaces import Namespace  # noqa: E402
from support.datapath.policymodel import TCP, UDP, Said  # noqa: E402
from support.datapath.world import World  # noqa: E402

from enitide_enidp.datapath import EndpointPolicy, Routing, codec, syscalls  # noqa: E402
from enitide_policy.mapstate import Direction, Peer, RuleKey, RuleSet, pack_key  # noqa: E402
from enitide_policy.numbers import local_number  # noqa: E402

Row = dict[str, object]
MANY_RULES, MANY_IDENTITIES, CIDR_ENTRIES = 65_536, 100_000, 44_596


def _new_flows(node: World, ns: Namespace) -> float:
    """Median of one run each over many new flows; every one asks the rules and writes its connection."""
    ports = iter(range(2000, 65_000))
    return min(
        statistics.median(from_pod(node, ns, tcp(node, sport=next(ports)), 1)() for _ in range(150))
        for _ in range(ROUNDS)
    )


def bench_newflow() -> list[Row]:
    """A new flow with few and many rules, few and many identities; and without policy."""
    with bench_node(policy=False) as (plain, plain_ns), bench_node(policy=True) as (node, ns):
        policy = node.datapath.policy
        policy.put_identities({REMOTE: 256})
        let(node, {egress(256, 80): ALLOW} | {egress(256 + i, 80): ALLOW for i in range(1, 10)})
        few = _new_flows(node, ns)
        let(node, {egress(256 + i, 80): ALLOW for i in range(MANY_RULES)}, 8)
        many_rules = _new_flows(node, ns)
        first = IPv4Address("172.16.0.0")
        policy.put_identities({first + i: 256 + i for i in range(MANY_IDENTITIES)})
        many_identities = _new_flows(node, ns)
        baseline = _new_flows(plain, plain_ns)
        writes = _writes_of_one_flow(node, ns)
    how = f"single test runs of new TCP flows, least of {ROUNDS} rounds' p50 of 150; without policy {baseline:.0f} ns"
    figures = (
        ("packet_newflow_ns", few, "10 rules, 1 identity"),
        ("packet_newflow_many_rules_ns", many_rules, f"{MANY_RULES} rules, 1 identity"),
        ("packet_newflow_many_identities_ns", many_identities, f"{MANY_RULES} rules, {MANY_IDENTITIES} identities"),
    )
    rows: list[Row] = [
        {"name": name, "value": value, "unit": "ns", "peer": None, "method": f"{words}; {how}"}
        for name, value, words in figures
    ]
    return [
        *rows,
        {
            "name": "newflow_map_writes",
            "value": writes,
            "unit": "writes",
            "peer": 7,
            "method": "entries that one new flow between two pods of a node adds or changes in all maps but counters; "
            "peer: the goal's best elsewhere",
        },
    ]


bench_newflow.names = (  # type: ignore[attr-defined]
    "packet_newflow_ns",
    "packet_newflow_many_rules_ns",
    "packet_newflow_many_identities_ns",
    "newflow_map_writes",
)


def _everything(node: World) -> dict[tuple[str, bytes], bytes]:
    shapes = {
        "connections": (codec.CONNECTION_KEY, codec.CONNECTION),
        "fragments": (codec.FRAGMENT_KEY, codec.FRAGMENT),
        "identities": (codec.ADDRESS, None),
        "rules": (codec.RULE_KEY, codec.RULE),
        "endpoints": (None, codec.ENDPOINT),
        "local": (codec.ADDRESS, codec.LOCAL_POD),
        "policies": (None, codec.POLICY),
        "rulesets": (None, codec.RULESET),
        "epochs": (None, None),
    }
    return {
        (name, entry): value
        for name, (key, layout) in shapes.items()
        for entry, value in syscalls.dump(
            node.loaded.maps[name], key.codec.size if key else 4, layout.codec.size if layout else 4, 4096
        )
    }


def _writes_of_one_flow(node: World, ns: Namespace) -> int:
    policy = node.datapath.policy
    policy.apply(RuleSet(9, False, False, {}))
    for pod in (node.pod1, node.pod2):
        policy.set_endpoint(pod.ifindex, EndpointPolicy(9, 300))
    before = _everything(node)
    from_pod(node, ns, Said(node.pod1.ipv4, node.pod2.ipv4, UDP, 1000, 80), 1)()
    after = _everything(node)
    return sum(before.get(key) != value for key, value in after.items())


def bench_cidr_write() -> list[Row]:
    """A rule set of 44,596 entries into the kernel."""
    rules = {
        pack_key(RuleKey(Direction.EGRESS, Peer.CIDR_ANY, local_number(1 + i % 654), TCP, 80 + i // 654, 16)): ALLOW
        for i in range(CIDR_ENTRIES - 1)
    }
    rules[pack_key(RuleKey(Direction.INGRESS, Peer.ANY, 0))] = ALLOW
    networks = {ip_network((int(IPv4Address("10.0.0.0")) + i * 256, 24)): local_number(1 + i) for i in range(654)}
    times, busy = list[float](), list[float]()
    with bench_node(policy=True) as (node, _):
        policy = node.datapath.policy
        policy.put_cidrs(networks)
        for number in range(1, 10):
            started, started_cpu = time.perf_counter(), time.thread_time()
            policy.apply(RuleSet(number, False, True, rules))
            times.append((time.perf_counter() - started) * 1000)
            busy.append((time.thread_time() - started_cpu) * 1000)
            policy.retire(number)
    return [
        {
            "name": "cidr_write_ms",
            "value": min(times),
            "unit": "ms",
            "peer": 157,
            "method": f"PolicyMaps.apply of {len(rules)} entries: bytes, batch call, head; least of {len(times)} "
            f"(p50 {statistics.median(times):.1f}; CPU p50 {statistics.median(busy):.1f}); peer: one call an entry",
        }
    ]


bench_cidr_write.names = ("cidr_write_ms",)  # type: ignore[attr-defined]


def bench_forbidden_packets() -> list[Row]:
    """200 pods that start while a forbidden peer sends at 1 kHz, and they to it."""
    with tempfile.TemporaryDirectory(prefix="enitide-bench-") as folder:
        outcome = podstarts.run(Path(folder), Routing.DIRECT, 200)
    method = (
        f"{outcome.starts} pod starts over real veths, {outcome.sent} datagrams by a forbidden peer, an allowed one "
        f"and the pods to both, each at {outcome.rate_hz:.0f} a second while a pod starts and is told its policy "
        f"({outcome.slowest_hz:.0f} in the slowest start); seen by a packet socket that is there before the device is "
        f"up; {outcome.reached} of them reached by the allowed peer once policy was in"
    )
    return [
        {"name": "forbidden_packets", "value": outcome.forbidden, "unit": "packets", "peer": None, "method": method}
    ]


bench_forbidden_packets.names = ("forbidden_packets",)  # type: ignore[attr-defined]
