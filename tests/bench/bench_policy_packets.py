"""What policy costs a packet, and what it costs to write: the live programs by the kernel's test run. Root."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, ip_network
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.datapath import podstarts, policyframes  # noqa: E402
from support.datapath.namespaces import Namespace  # noqa: E402
from support.datapath.policymodel import TCP, UDP, Said  # noqa: E402
from support.datapath.world import World, world  # noqa: E402

from enitide_enidp.datapath import EndpointPolicy, Routing, bpffs, codec, loader, syscalls, testrun  # noqa: E402
from enitide_enidp.datapath.libbpf import BpfObject  # noqa: E402
from enitide_enidp.datapath.types import Hook  # noqa: E402
from enitide_policy.mapstate import (  # noqa: E402
    Direction,
    Peer,
    RuleKey,
    RuleSet,
    RuleValue,
    pack_key,
    pack_value,
)
from enitide_policy.numbers import local_number  # noqa: E402

Row = dict[str, object]
ALLOW = pack_value(RuleValue(allow=True))
REMOTE = IPv4Address("10.9.0.7")
REPEATS, CALLS, ROUNDS = 50, 100, 7  # at most 60 repeats: each lowers the hop limit of the next one's packet
MANY_RULES, MANY_IDENTITIES, CIDR_ENTRIES = 65_536, 100_000, 44_596


@contextmanager
def _node(*, policy: bool) -> Iterator[tuple[World, Namespace]]:
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
def _shapes() -> Iterator[dict[str, int]]:
    """The programs of shapes.bpf.c, with 65,536 prefixes and one flow."""
    with tempfile.TemporaryDirectory(prefix="enitide-bench-") as folder:
        target = Path(folder) / "shapes.bpf.o"
        source = Path(__file__).with_name("shapes.bpf.c")
        multiarch = subprocess.run(
            ["gcc", "-print-multiarch"], capture_output=True, text=True, check=True
        ).stdout.strip()
        flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-idirafter", f"/usr/include/{multiarch}"]
        subprocess.run(["clang", *flags, "-c", str(source), "-o", str(target)], check=True)
        with BpfObject(target, Path(folder)) as shapes:
            shapes.load()
            maps = shapes.maps()
            mark = (1).to_bytes(4, "little")
            syscalls.update(maps["flows"], mark.ljust(40, b"\0"), bytes(32))
            policy = _tuple(17, 0) * 23 + _tuple(6, 80)
            keys = ((32).to_bytes(4, "little") + number.to_bytes(4, "little") for number in range(MANY_RULES))
            prefixes = [(key, policy) for key in keys]
            syscalls.update_batch(maps["prefixes"], prefixes)
            yield shapes.programs()


def _tuple(protocol: int, port: int) -> bytes:
    return b"".join(each.to_bytes(4, "little") for each in (protocol, port, port))


def _median_ns(run: Callable[[], int], calls: int = CALLS) -> float:
    return statistics.median(run() for _ in range(calls))


def _interleaved(ways: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Of each way the least of the rounds' medians: what a busy neighbour cannot make smaller."""
    rounds = [{name: _median_ns(run) for name, run in ways.items()} for _ in range(ROUNDS)]
    return {name: min(each[name] for each in rounds) for name in ways}


def _from_pod(node: World, namespace: Namespace, said: Said, repeat: int = REPEATS) -> Callable[[], int]:
    pod = node.pod1
    data = policyframes.frame(said, pod.pod_mac, pod.host_mac)
    entry = node.loaded.entries[Hook.FROM_POD]

    def run() -> int:
        with namespace.entered():
            return testrun.run(entry, data, ifindex=pod.ifindex, repeat=repeat).duration_ns

    return run


def _egress(identity: int, port: int) -> int:
    return pack_key(RuleKey(Direction.EGRESS, Peer.IDENTITY, identity, TCP, port, 16))


def _tcp(node: World, port: int = 80, sport: int = 1000, flags: str = "S") -> Said:
    return Said(node.pod1.ipv4, REMOTE, TCP, sport, port, flags)


def _let(node: World, rules: dict[int, int], number: int = 7) -> None:
    node.datapath.policy.apply(RuleSet(number, False, True, rules))
    node.datapath.policy.set_endpoint(node.pod1.ifindex, EndpointPolicy(number, 300))


def _establish(node: World, namespace: Namespace) -> None:
    """A handshake and one segment: from then on packets take the short way."""
    pod = node.pod1
    reply = Said(REMOTE, pod.ipv4, TCP, 80, 1000, "SA")
    _from_pod(node, namespace, _tcp(node), 1)()
    with namespace.entered():
        data = policyframes.frame(reply, bytes(6), bytes.fromhex("020000000001"))
        data = node_mac(node) + data[6:]
        testrun.run(node.loaded.entries[Hook.FROM_WIRE], data, ifindex=node.eni1.ifindex)
    _from_pod(node, namespace, _tcp(node, flags="A"), 1)()


def node_mac(node: World) -> bytes:
    from support.datapath.namespaces import mac

    return mac("eni1")


def bench_packet_cost() -> list[Row]:
    """An established packet with policy and without; one hash lookup; the array scan of addresses."""
    with _node(policy=False) as (plain, plain_ns), _node(policy=True) as (node, ns), _shapes() as shapes:
        _let(node, {_egress(256, 80): ALLOW})
        node.datapath.policy.put_identities({REMOTE: 256})
        _establish(node, ns)
        frame = bytes(12) + b"\x08\x00" + b"\x45" + bytes(40)
        measured = _interleaved(
            {
                "baseline": _from_pod(plain, plain_ns, _tcp(plain, flags="A")),
                "established": _from_pod(node, ns, _tcp(node, flags="A")),
                **{
                    name: lambda fd=fd: testrun.run(fd, frame, mark=1, repeat=1000).duration_ns
                    for name, fd in shapes.items()
                },
            }
        )
    hash_ns = measured["shape_hash"] - measured["shape_nothing"]
    scan_ns = measured["shape_prefix_scan"] - measured["shape_nothing"]
    how = (
        f"test run through the entry program, TCP to another node; least of {ROUNDS} interleaved rounds' p50 of {CALLS}"
    )
    added = measured["established"] - measured["baseline"]
    return [
        {
            "name": "packet_baseline_ns",
            "value": measured["baseline"],
            "unit": "ns",
            "peer": None,
            "method": f"{how} calls of {REPEATS} repeats, interleaved; policy off: all of it pruned",
        },
        {
            "name": "packet_established_ns",
            "value": measured["established"],
            "unit": "ns",
            "peer": measured["baseline"] + hash_ns + scan_ns,
            "method": f"the same run, policy on, live connection: {added:.0f} ns more; one hash lookup of such a key "
            f"alone is {hash_ns:.0f} ns. Peer: baseline, a flow lookup, a 65,536-entry LPM and a scan of 24 tuples "
            f"({scan_ns:.0f} ns)",
        },
        {
            "name": "packet_hash_lookup_ns",
            "value": hash_ns,
            "unit": "ns",
            "peer": None,
            "method": "one LRU hash lookup of a 40-byte key, less the empty program, same run",
        },
    ]


bench_packet_cost.names = (  # type: ignore[attr-defined]
    "packet_baseline_ns",
    "packet_established_ns",
    "packet_hash_lookup_ns",
)


def _new_flows(node: World, ns: Namespace) -> float:
    """Median of one run each over many new flows; every one asks the rules and writes its connection."""
    ports = iter(range(2000, 65_000))
    return min(
        statistics.median(_from_pod(node, ns, _tcp(node, sport=next(ports)), 1)() for _ in range(150))
        for _ in range(ROUNDS)
    )


def bench_newflow() -> list[Row]:
    """A new flow with few and many rules, few and many identities; and without policy."""
    with _node(policy=False) as (plain, plain_ns), _node(policy=True) as (node, ns):
        policy = node.datapath.policy
        policy.put_identities({REMOTE: 256})
        _let(node, {_egress(256, 80): ALLOW} | {_egress(256 + i, 80): ALLOW for i in range(1, 10)})
        few = _new_flows(node, ns)
        _let(node, {_egress(256 + i, 80): ALLOW for i in range(MANY_RULES)}, 8)
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
    _from_pod(node, ns, Said(node.pod1.ipv4, node.pod2.ipv4, UDP, 1000, 80), 1)()
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
    with _node(policy=True) as (node, _):
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
    return [
        {
            "name": "forbidden_packets",
            "value": outcome.forbidden,
            "unit": "packets",
            "peer": None,
            "method": f"{outcome.starts} pod starts over real veths, {outcome.sent} datagrams at 1 kHz by a forbidden "
            "peer, an allowed one and the pods; seen by a packet socket that is there before the device is up; "
            f"{outcome.reached} of them reached by the allowed peer once policy was in",
        }
    ]


bench_forbidden_packets.names = ("forbidden_packets",)  # type: ignore[attr-defined]
