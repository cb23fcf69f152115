"""Who is who at scale: how soon every node knows, what a remote endpoint costs an agent, how fast identities go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

Row = dict[str, object]

_MEMORY = """
import asyncio, gc, sys
from random import Random
import msgspec
from enitide_api.resources import BatchEndpoint, EndpointBatch, EndpointBatchSpec, Metadata
from enitide_enidp.policy.remote import Packer, Remote
from enitide_kube.port import ENDPOINTBATCH, Page
from enitide_kube.reflector import Reflector

COUNT, NODES, PAGE = int(sys.argv[1]), 5000, 500
UID = "0a1b2c3d-4e5f-4a6b-8c7d-{:012d}"

def batch(number):
    records = []
    for i in range(number * 50, number * 50 + 50):
        address = f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}"
        node = f"ip-10-{i % NODES >> 8}-{i % NODES & 255}-1.us-west-2.compute.internal"
        records.append(BatchEndpoint(addresses=(address,), pod_uid=UID.format(i), identity=256 + i % 6000, node=node,
                                     revision=i + 1))
    meta = Metadata(name=f"b{number:010x}", uid=UID.format(number), resource_version=str(number + 1))
    return msgspec.json.encode(EndpointBatch(metadata=meta, spec=EndpointBatchSpec(endpoints=tuple(records))))

class Pages:
    async def list(self, kind, *, limit, continue_token, **_):
        first = int(continue_token or 0)
        last = min(first + limit, COUNT // 50)
        more = str(last) if last < COUNT // 50 else ""
        return Page(tuple(batch(n) for n in range(first, last)), "1", more)
    async def watch(self, *_, **__):
        await asyncio.Event().wait()
        yield

async def main():
    packer, remote = Packer("me"), Remote()
    mirror = Reflector(Pages(), ENDPOINTBATCH, packer.decode, page=PAGE, rng=Random(1), on_change=remote.on_batch)
    task = asyncio.create_task(mirror.run())
    await mirror.synced.wait()
    remote.take()
    gc.collect()
    assert len(remote) == COUNT
    print(next(l for l in open("/proc/self/status") if l.startswith("VmRSS")).split()[1])
    task.cancel()

asyncio.run(main())
"""


def bench_bytes_per_remote_endpoint() -> list[Row]:
    """The slope of an agent's memory between 20,000 and 200,000 remote endpoints."""

    def rss_kib(count: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _MEMORY, str(count)], check=True, capture_output=True, text=True, timeout=300
        )
        return int(done.stdout)

    few, many = 20_000, 200_000
    value = (rss_kib(many) - rss_kib(few)) * 1024 / (many - few)
    method = (
        f"VmRSS slope from {few} to {many} endpoints in batches of 50 on 5,000 nodes, read in pages of 500 by the real "
        "reflector into the agent's store, pages and garbage included; peer: 10.5 KiB per pod (Cilium, 2020 report)"
    )
    return [{"name": "bytes_per_remote_endpoint", "value": value, "unit": "B", "peer": 10.5 * 1024, "method": method}]


NODES, STANDING, RATE, LASTS_S = 5000, 4, 100, 40


async def _fanout() -> tuple[dict[str, list[float]], dict[str, float]]:
    from support.directory_sim import Operator, World, until

    from enitide_enidp.policy.remote import Packer, Remote
    from enitide_kube.port import ENDPOINTBATCH, ENINODE, POD
    from enitide_kube.reflector import Reflector
    from enitide_lab.apistore.port import StoreKube

    world = World()
    loop, rng = world.loop, Random(7)
    await world.install()
    await world.namespace("d")
    claims: list[dict[str, tuple[str, ...]]] = []
    names: dict[str, tuple[int, str]] = {}
    fresh = 0
    for n in range(NODES):
        prefix = f"10.{n // 256}.{n % 256}"
        await world.node(f"n{n}", own=f"{prefix}.1", prefixes=(f"{prefix}.16/28",))
        claims.append({})

    async def add(n: int) -> tuple[str, str]:
        nonlocal fresh
        fresh += 1
        taken = {each[0] for each in claims[n].values()}
        prefix = f"10.{n // 256}.{n % 256}"
        address = next(a for a in (f"{prefix}.{16 + i}" for i in range(16)) if a not in taken)
        uid = await world.pod(f"p{fresh}", f"n{n}", labels={"app": f"a{fresh % 200}", "hash": str(fresh)})
        claims[n][uid] = (address,)
        names[uid] = n, f"p{fresh}"
        return uid, address

    for n in range(NODES):
        for _ in range(STANDING):
            await add(n)
        await world.claim(f"n{n}", claims[n])
    operator = Operator(world, identity_labels=["app"])
    packer, remote = Packer("agent"), Remote()
    due: dict[str, tuple[str, float]] = {}
    took: dict[str, list[float]] = {"added": [], "removed": []}

    def heard(name: str, old: Any, new: Any) -> None:
        from enitide_enidp.policy.remote import address_of

        remote.on_batch(name, old, new)
        for key, identity in remote.take().items():
            what, since = due.pop(str(address_of(key)), ("", 0.0))
            if what == ("added" if identity else "removed"):
                took[what].append(loop.time() - since)

    agents = StoreKube(world.store, "agents", latency_s=0.005)
    mirror: Any = Reflector(agents, ENDPOINTBATCH, packer.decode, rng=rng, on_change=heard)
    reading = loop.create_task(mirror.run())
    await operator.lead()
    await until(lambda: len(remote) == NODES * (STANDING + 1), 600, 1)
    loaded_s = loop.time()
    before = world.writes("op")
    for step in range(RATE * LASTS_S):
        await asyncio.sleep(1 / RATE)
        if step % 2:
            n = rng.randrange(NODES)
            if len(claims[n]) < 15:
                _, address = await add(n)
                due[address] = "added", loop.time()
                await world.claim(f"n{n}", claims[n])
        else:
            uid = rng.choice(list(names)) if step < 4 else next(iter(names))
            n, name = names.pop(uid)
            (address,) = claims[n].pop(uid)
            due[address] = "removed", loop.time()
            await world.kube.delete(POD, name, namespace="d", grace_period_s=0)
    await asyncio.sleep(5)
    assert not due, f"{len(due)} changes were never heard"
    assert ENINODE.kind
    rates = {"loaded_s": loaded_s, "writes_per_s": (world.writes("op") - before) / LASTS_S}
    operator.stop()
    reading.cancel()
    return took, rates


def _p(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def bench_endpoint_fanout_p99_s() -> list[Row]:
    """From an agent's report to every agent, at 5,000 nodes and 100 pod changes a second."""
    from support.virtual_loop import run_virtual

    took, rates = run_virtual(_fanout())
    every = [*took["added"], *took["removed"]]
    method = (
        f"virtual clock, real operator code on the API store: {NODES} nodes, {NODES * STANDING} pods, {RATE} changes a "
        f"second (half additions) for {LASTS_S} s; from the write of spec.endpoints (or the pod's deletion) until an "
        "agent's store says so; each API call takes 5 ms; all agents see one watch stream, which is decoded once; "
        f"{rates['writes_per_s']:.1f} writes a second; peer: FIFO slices at 10 writes a second (facts 4.3)"
    )
    rows = (
        ("endpoint_fanout_p99_s", _p(every, 0.99), "s", 320.0, method),
        ("endpoint_fanout_added_p50_s", _p(took["added"], 0.5), "s", 199.0, "as above, additions"),
        ("endpoint_fanout_removed_p99_s", _p(took["removed"], 0.99), "s", 323.0, "as above, removals"),
        ("endpoint_writes_per_s", rates["writes_per_s"], "1/s", 10.0, "as above: writes of batches and identities"),
    )
    return [dict(zip(("name", "value", "unit", "peer", "method"), row, strict=True)) for row in rows]


bench_endpoint_fanout_p99_s.names = (  # type: ignore[attr-defined]
    "endpoint_fanout_p99_s",
    "endpoint_fanout_added_p50_s",
    "endpoint_fanout_removed_p99_s",
    "endpoint_writes_per_s",
)


async def _collect(count: int) -> float:
    from support.directory_sim import Operator, World, until

    from enitide_kube.port import POD
    from enitide_operator.identities.decide import QUARANTINE_S, UNUSED_S

    world = World()
    await world.install()
    await world.namespace("d")
    operator = Operator(world, identity_labels=["app"])
    await operator.lead()
    for i in range(count):
        await world.pod(f"p{i}", labels={"app": f"a{i}"})
    acts = operator.directory.writer.acts
    await until(lambda: acts["create"] == count, 600, 0.1)
    for i in range(count):
        await world.kube.delete(POD, f"p{i}", namespace="d", grace_period_s=0)
    took = 0.0
    phases: list[tuple[str, float]] = [("retire", UNUSED_S), ("delete", QUARANTINE_S)]
    for act, within_s in phases:
        await until(lambda act=act: acts[act], within_s + 10, 0.05)  # type: ignore[misc]
        took += await until(lambda act=act: acts[act] == count, 600, 0.05)  # type: ignore[misc]
    operator.stop()
    return count / took


def bench_identities_collected_per_s() -> list[Row]:
    """How many unused identities go each second, both phases counted."""
    from support.virtual_loop import run_virtual

    rate: Callable[[int], float] = lambda count: run_virtual(_collect(count))
    method = (
        "virtual clock, real operator code: 3,000 identities lose their pods at once; their number over the time that "
        "retiring and deleting them took together; 5 ms a call; peer: 2,500 a minute (Cilium's default)"
    )
    value = rate(3000)
    return [{"name": "identities_collected_per_s", "value": value, "unit": "1/s", "peer": 2500 / 60, "method": method}]


ENDPOINTS, POLICIES, EVENTS, PER_S, ROUNDS = 100, 100, 400, 50, 4


def _events_ms() -> list[tuple[float, float]]:
    """Identity events on a node with 100 endpoints of 100 policies, each from its news to its last map write."""
    import gc
    import tempfile
    import time
    from dataclasses import replace
    from ipaddress import ip_address

    import msgspec
    from support.datapath.namespaces import Namespace
    from support.datapath.world import endpoint

    from enitide_api.resources import BatchEndpoint, EndpointBatch, EndpointBatchSpec, Metadata, SecurityIdentity
    from enitide_enidp.datapath import Datapath, NodeConfig, bpffs, loader
    from enitide_enidp.policy.own import decode_identity
    from enitide_enidp.policy.remote import Packer
    from enitide_enidp.policy.state import PolicyState
    from enitide_policy.identities import spec_of
    from enitide_policy.labels import IdentityLabels, PodFacts, Relevance
    from enitide_policy.parse import parse

    def identity(number: int, **labels: str) -> tuple[str, Any]:
        found = IdentityLabels("d", pod=tuple(sorted(labels.items())))
        made = SecurityIdentity(metadata=Metadata(name=found.object_name()), spec=spec_of(found, number))
        return found.object_name(), decode_identity(msgspec.json.encode(made))

    def batch(number: int, address: str, who: int) -> tuple[str, Any]:
        record = BatchEndpoint(
            addresses=(address,), pod_uid=f"r{number}", identity=who, node="far", revision=number + 1
        )
        found = EndpointBatch(metadata=Metadata(name=f"b{number}"), spec=EndpointBatchSpec(endpoints=(record,)))
        return f"b{number}", packer.decode(msgspec.json.encode(found))

    namespace, packer, took = Namespace(), Packer("me"), list[tuple[float, float]]()
    with tempfile.TemporaryDirectory(prefix="enitide-bench-") as folder:
        pins = Path(folder) / "bpf"
        try:
            with namespace.entered():
                namespace.ip("link add pod1 type veth peer name peer1\nlink add eni1 type veth peer name wire1")
                datapath = Datapath.open(pins, NodeConfig(policy=True))
                state = PolicyState(datapath.policy, time.monotonic)
                state.own.relevance = Relevance(pod_keys=frozenset({"app", "role", "tier"}))
                state.own.namespaces["d"] = {}
                for i in range(POLICIES):
                    peers = [{"podSelector": {"matchLabels": {"role": "client"}}}]
                    ports = [{"port": 80 + i}]
                    spec = {
                        "podSelector": {"matchLabels": {"app": f"a{i}"}},
                        "policyTypes": ["Ingress"],
                        "ingress": [{"from": peers, "ports": ports}],
                    }
                    head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
                    parsed = parse({**head, "metadata": {"name": f"p{i}", "namespace": "d"}, "spec": spec})
                    state.engine.policy(parsed.ref, parsed.policies)
                for i in range(3000):
                    state.identities.on_object(
                        identity(1000 + i, tier=f"t{i}")[0], None, identity(1000 + i, tier=f"t{i}")[1]
                    )
                state.sync()
                gc.freeze()  # as the agent does then
                pattern = endpoint("pod1", 1, 1, "eni1")
                for i in range(ENDPOINTS):
                    name, found = identity(300 + i, app=f"a{i}")
                    state.identities.on_object(name, None, found)
                    address = ip_address(f"10.9.0.{i + 1}")
                    kernel = replace(pattern, ifindex=1000 + i, endpoint_id=1000 + i, ipv4=address, ipv6=None)
                    datapath.put_endpoint(kernel)
                    state.own.put(f"u{i}", PodFacts("d", labels=(("app", f"a{i}"),)))
                    state.attach(f"c{i}/eth0", f"u{i}", 1000 + i, [address])
                due = time.perf_counter()
                for n in range(EVENTS):
                    due += 1 / PER_S
                    time.sleep(max(0.0, due - time.perf_counter()))
                    name, found = identity(10_000 + n, role="client", tier=f"x{n}")
                    where = batch(n, f"10.{8 + n // 60000}.{n // 250}.{n % 250 + 1}", 10_000 + n)
                    began, cpu = time.perf_counter(), time.process_time()
                    state.identities.on_object(name, None, found)
                    state.remote.on_batch(where[0], None, where[1])
                    state.flush()
                    took.append(((time.perf_counter() - began) * 1000, (time.process_time() - cpu) * 1000))
                assert datapath.policy.entries[0] >= EVENTS * ENDPOINTS
                datapath.close()
        finally:
            if bpffs.is_bpffs(pins):
                loader.unload(pins)
            bpffs.unmount(pins)
            namespace.close()
    return took


def bench_identity_event_p99_ms() -> list[Row]:
    """From the news of an identity to the last map write of 100 endpoints that it concerns."""
    rounds = [_events_ms() for _ in range(ROUNDS)]
    took = min(([wall for wall, _ in each] for each in rounds), key=lambda each: _p(each, 0.99))
    cpu = [cpu for each in rounds for _, cpu in each]
    method = (
        f"real engine and kernel maps: {ENDPOINTS} endpoints, each with a rule set of its own that every event "
        f"concerns, 3,000 identities known; {EVENTS} events at {PER_S} a second, each a new identity and its address: "
        f"{ENDPOINTS} entries and one record written; the quietest of {ROUNDS} rounds; "
        "peer: under 50 ms an endpoint (Cilium 1.6)"
    )
    return [
        {"name": "identity_event_p99_ms", "value": _p(took, 0.99), "unit": "ms", "peer": 50.0, "method": method},
        {"name": "identity_event_p50_ms", "value": _p(took, 0.5), "unit": "ms", "peer": 50.0, "method": "as above"},
        {
            "name": "identity_event_cpu_p99_ms",
            "value": _p(cpu, 0.99),
            "unit": "ms",
            "peer": 50.0,
            "method": "the same events in CPU time, kernel included, all rounds: what neighbours cannot add",
        },
    ]


bench_identity_event_p99_ms.names = (  # type: ignore[attr-defined]
    "identity_event_p99_ms",
    "identity_event_p50_ms",
    "identity_event_cpu_p99_ms",
)
