"""Figures that only a whole lab can give: what a pod start costs in calls and writes, and memory of programs.

Counts, not times: they repeat on a noisy machine. The lab is the embedded one; EC2 and the API server count for
themselves what they were asked.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from enitide_api.errors import LabFailed
from enitide_kube.client import HttpKube
from enitide_kube.port import ENINODE, NODE, POD
from enitide_lab.demo.workload import Cost, between, create, pod, running, spent
from enitide_lab.ec2server.control import Control
from enitide_lab.house import cgroups, programs, teardown
from enitide_lab.house.layout import LabPaths, lab_paths
from enitide_lab.house.record import Endpoints, LabRecord, ProgramRecord
from enitide_lab.realkube.netns import free_port
from enitide_lab.up import kube as kubernetes
from enitide_lab.up.bring_up import bring_up, wait_until
from enitide_lab.up.options import LabOptions
from enitide_lab.up.running import Lab, enitide
from enitide_lab.up.vpc import connect, make_vpc

BURST = 20
SINGLES = 8
AFTER_S = 60.0
MANY_NODES = 100
Row = dict[str, object]


def _row(name: str, value: float, unit: str, method: str) -> Row:
    return {"name": name, "value": value, "unit": unit, "peer": None, "method": method}


def _in_lab(types: tuple[str, ...], measure: Callable[[Lab, HttpKube], Awaitable[list[Row]]]) -> list[Row]:
    paths = lab_paths(f"bench-{os.getpid()}")

    async def run() -> list[Row]:
        lab = await bring_up(LabOptions(paths.name, types), lambda text: print(f"  {text}", file=sys.stderr))
        async with HttpKube.connect(str(lab.paths.kubeconfig), "bench") as kube:
            return await measure(lab, kube)

    try:
        return asyncio.run(run())
    finally:
        teardown.take_down(paths)


async def _run(lab: Lab, kube: HttpKube, names: list[str]) -> None:
    await create(kube, [pod(name, node="node-1") for name in names])

    async def missing() -> str:
        there = {each.sandbox.name for each in running(lab)}
        return ", ".join(name for name in names if name not in there)

    await wait_until(lab, missing, 60.0, "pods do not run")


def bench_pod_starts() -> list[Row]:
    """A burst, then at rest one pod after another on an m5.large; 60 s are waited after the last."""
    return _in_lab(("m5.large",), _pod_starts)


async def _pod_starts(lab: Lab, kube: HttpKube) -> list[Row]:
    before = await spent(lab)
    await _run(lab, kube, [f"burst-{n}" for n in range(BURST)])
    burst = between(before, await spent(lab))
    for each in [f"burst-{n}" for n in range(BURST)][4:]:  # room for the others
        await kube.delete(POD, each, namespace="default")
    await _at_rest(lab)
    before = await spent(lab)
    for n in range(SINGLES):
        await _run(lab, kube, [f"single-{n}"])
    await asyncio.sleep(AFTER_S)
    single = between(before, await spent(lab))
    agent = programs_rss_mib(lab.program("agent/node-1"))
    calls = ", ".join(f"{count} {verb}" for verb, count in sorted(burst.mutations.items()))
    return [
        _row(
            "warm_burst_mutating_calls",
            float(burst.mutations.total()),
            "calls",
            f"{BURST} pods bound at once to an m5.large whose pool has just filled, until all run: {calls}; "
            f"reads meanwhile: {burst.ec2.total() - burst.mutations.total()}",
        ),
        _row(
            "pod_start_ec2_calls",
            float(single.ec2.total()),
            "calls",
            f"{SINGLES} pods one by one on a node at rest and {AFTER_S:g} s more, all together: {_words(single.ec2)}",
        ),
        _row(
            "pod_start_api_writes",
            single.writes.total() / SINGLES,
            "writes/pod",
            f"operator's and agent's writes (no Lease) in the same time by pod started: {_words(single.writes)}",
        ),
        _row("agent_rss_lab_mib", agent, "MiB", f"resident memory of the agent after these {BURST + SINGLES} pods"),
    ]


bench_pod_starts.names = (  # type: ignore[attr-defined]
    "warm_burst_mutating_calls",
    "pod_start_ec2_calls",
    "pod_start_api_writes",
    "agent_rss_lab_mib",
)


async def _at_rest(lab: Lab, quiet_s: float = 40.0) -> None:
    """Until neither EC2 nor the API server has heard of us for longer than the cool-down."""
    last: Cost | None = None
    since = asyncio.get_running_loop().time()
    while True:
        now = await spent(lab)
        if last is None or between(last, now).ec2 or between(last, now).writes:
            last, since = now, asyncio.get_running_loop().time()
        if asyncio.get_running_loop().time() - since > quiet_s:
            return
        await asyncio.sleep(1.0)


def bench_operator_rss_mib() -> list[Row]:
    """100 nodes as objects and instances, without namespaces: the operator does not know the difference."""
    rss, calls = _bare_operator(MANY_NODES, pods=0, provisioned=8)
    method = (
        f"VmRSS once {MANY_NODES} m5.large nodes have 8 addresses each ({calls['AssignPrivateIpAddresses']} assigns)"
    )
    return [_row("operator_rss_mib", rss, "MiB", method)]


def bench_cold_burst_mutating_calls() -> list[Row]:
    """A node that is new to the operator, with 20 pods bound to it already."""
    _, calls = _bare_operator(1, pods=BURST, provisioned=BURST)
    mutations = Cost(calls, Counter()).mutations
    reads = Counter({verb: n for verb, n in calls.items() if verb == "DescribeNetworkInterfaces"})
    method = (
        f"{BURST} pods bound to a new m5.large, until it has {BURST} addresses: {_words(mutations)}; "
        f"reads of its ENIs: {_words(reads)} (IPv6 subnet: one of the calls is for a /80 of the first ENI)"
    )
    return [_row("cold_burst_mutating_calls", float(mutations.total()), "calls", method)]


def _bare_operator(nodes: int, *, pods: int, provisioned: int) -> tuple[float, Counter[str]]:
    """The operator alone with EC2 and an API server: its memory in MiB, and EC2 calls since it began."""
    paths = lab_paths(f"bench-{os.getpid()}")
    paths.root.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(_bare(paths, Path(folder) / "kubeconfig", nodes, pods, provisioned))
    finally:
        teardown.take_down(paths)


async def _bare(paths: LabPaths, config: Path, nodes: int, pods: int, provisioned: int) -> tuple[float, Counter[str]]:
    lab = await _bare_servers(paths, config)
    ec2 = lab.record.endpoints.ec2
    instances = await asyncio.to_thread(make_vpc, connect(ec2, "us-west-2"), "us-west-2", ["m5.large"] * nodes, "bench")
    async with HttpKube.connect(str(config), "bench") as kube:
        await kubernetes.install(kube, prefix_delegation=False)
        state = Control(ec2).state()
        places = {each["id"]: each for each in state["instances"]}
        vpcs = {each["id"]: each["vpc_id"] for each in state["subnets"]}
        for number, each in enumerate(instances):
            await kube.create(NODE, _node(f"n-{number}", each.id, each.zone))
            await kube.create(ENINODE, _eninode(f"n-{number}", each.id, each.type, places[each.id], vpcs))
        for number in range(pods):
            bound = pod(f"p-{number}")
            bound["spec"]["nodeName"] = "n-0"
            await kube.create(POD, bound, namespace="default")
        before = _calls(ec2)
        options = ["--kubeconfig", str(config), "--cluster-name", "bench", "--aws-region", "us-west-2"]
        command = [enitide(), "operator", *options, "--aws-endpoint-url", ec2, "--log-format", "json"]
        lab.start("operator", [*command, "--metrics-address", "127.0.0.1:0"], cgroup="operator")

        async def unfilled() -> str:
            found = [msgspec.json.decode(raw) for raw in (await kube.list(ENINODE)).items]
            filled = sum(n.get("status", {}).get("capacity", {}).get("provisioned", 0) >= provisioned for n in found)
            return "" if filled == nodes else f"{filled} of {nodes} pools filled"

        await wait_until(lab, unfilled, 120.0, "pools do not fill", poll_s=0.5)
    return programs_rss_mib(lab.program("operator")), _calls(ec2) - before


async def _bare_servers(paths: LabPaths, config: Path) -> Lab:
    kube, ec2 = (f"http://127.0.0.1:{free_port(None, '127.0.0.1')}" for _ in range(2))
    cgroup = cgroups.create(cgroups.cgroup2_root() / paths.cgroup_name)
    lab = Lab(paths, LabRecord(paths.name, "embedded", "us-west-2", str(cgroup), os.getpid()))
    lab.update(endpoints=Endpoints(kube, kube, ec2, ec2))
    listen = ["--listen", kube.removeprefix("http://"), "--kubeconfig-out", str(config)]
    lab.start("kubernetes", [sys.executable, "-m", "enitide_lab.apiserver", *listen], cgroup="kubernetes")
    listen = ["--listen", ec2.removeprefix("http://")]
    lab.start("ec2", [sys.executable, "-m", "enitide_lab.ec2server", *listen], cgroup="ec2")

    async def silent() -> str:
        try:
            await asyncio.to_thread(Control(ec2).state)
        except LabFailed as error:
            return str(error)
        return "" if os.access(config, os.R_OK) else "no kubeconfig"

    await wait_until(lab, silent, 30.0, "the servers do not answer")
    return lab


def _calls(ec2: str) -> Counter[str]:
    return Counter({verb: sum(found.values()) for verb, found in Control(ec2).calls()["calls"].items()})


def programs_rss_mib(program: ProgramRecord) -> float:
    """Resident memory of a running program."""
    assert programs.alive(program)
    for line in Path(f"/proc/{program.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "none"


def _node(name: str, instance: str, zone: str) -> dict[str, Any]:
    spec = {"providerID": f"aws:///{zone}/{instance}"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


def _eninode(
    name: str, instance: str, instance_type: str, facts: dict[str, Any], vpcs: dict[str, str]
) -> dict[str, Any]:
    described = {
        "id": instance,
        "type": instance_type,
        "availabilityZone": facts["zone"],
        "vpcID": vpcs[facts["subnet_id"]],
        "subnetID": facts["subnet_id"],
    }
    spec = {"instance": described, "demand": {"inUse": 0, "cooling": 0, "waiting": 0}}
    return {"apiVersion": "enitide.io/v1alpha1", "kind": "ENINode", "metadata": {"name": name}, "spec": spec}
