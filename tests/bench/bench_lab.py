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

from enitide_kube.client import HttpKube
from enitide_kube.port import ENICLASS, ENINODE, NODE, POD
from enitide_lab.demo.workload import Cost, between, create, pod, running, spent
from enitide_lab.ec2server.control import Control
from enitide_lab.house import programs, teardown
from enitide_lab.house.layout import lab_paths
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
    """A cold burst, then at rest one pod after another on an m5.large; 60 s are waited after the last."""
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
            "cold_burst_mutating_calls",
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
    "cold_burst_mutating_calls",
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
    paths = lab_paths(f"bench-{os.getpid()}")
    paths.root.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return asyncio.run(_operator_rss(Path(folder)))
    finally:
        teardown.take_down(paths)


async def _operator_rss(folder: Path) -> list[Row]:
    paths = lab_paths(f"bench-{os.getpid()}")
    from enitide_lab.house import cgroups, record

    ports = free_port(None, "127.0.0.1"), free_port(None, "127.0.0.1")
    kube_url, ec2_url = (f"http://127.0.0.1:{port}" for port in ports)
    cgroup = cgroups.create(cgroups.cgroup2_root() / paths.cgroup_name)
    lab = Lab(paths, LabRecord(paths.name, "embedded", "us-west-2", str(cgroup), os.getpid()))
    record.write(paths, lab.record)
    lab.update(endpoints=Endpoints(kube_url, kube_url, ec2_url, ec2_url))
    config = folder / "kubeconfig"
    listen = [f"127.0.0.1:{port}" for port in ports]
    server = [sys.executable, "-m", "enitide_lab.apiserver", "--listen", listen[0], "--kubeconfig-out", str(config)]
    lab.start("kubernetes", server, cgroup="kubernetes")
    lab.start("ec2", [sys.executable, "-m", "enitide_lab.ec2server", "--listen", listen[1]], cgroup="ec2")

    async def not_up() -> str:
        return "" if config.exists() and _answers(ec2_url) else "servers"

    await wait_until(lab, not_up, 30.0, "the servers do not answer")
    instances = await asyncio.to_thread(
        make_vpc, connect(ec2_url, "us-west-2"), "us-west-2", ["m5.large"] * MANY_NODES, "bench"
    )
    async with HttpKube.connect(str(config), "bench") as kube:
        await kubernetes.install(kube, prefix_delegation=False)
        state = Control(ec2_url).state()
        facts = {each["id"]: each for each in state["instances"]}
        vpcs = {each["id"]: each["vpc_id"] for each in state["subnets"]}
        for number, each in enumerate(instances):
            await kube.create(NODE, _node(f"n-{number}", each.id, each.zone))
            await kube.create(ENINODE, _eninode(f"n-{number}", each.id, each.type, facts[each.id], vpcs))
        options = ["--kubeconfig", str(config), "--cluster-name", "bench", "--aws-region", "us-west-2"]
        command = [enitide(), "operator", *options, "--aws-endpoint-url", ec2_url, "--log-format", "json"]
        lab.start("operator", [*command, "--metrics-address", "127.0.0.1:0"], cgroup="operator")

        async def unfilled() -> str:
            import msgspec

            nodes = [msgspec.json.decode(raw) for raw in (await kube.list(ENINODE)).items]
            filled = sum(n.get("status", {}).get("capacity", {}).get("provisioned", 0) >= 8 for n in nodes)
            return "" if filled == MANY_NODES else f"{filled} of {MANY_NODES} pools filled"

        await wait_until(lab, unfilled, 240.0, "pools do not fill", poll_s=0.5)
        assert await kube.list(ENICLASS)
    rss = programs_rss_mib(lab.program("operator"))
    calls = Counter({verb: sum(found.values()) for verb, found in Control(ec2_url).calls()["calls"].items()})
    method = (
        f"VmRSS once {MANY_NODES} m5.large nodes have 8 addresses each ({calls['AssignPrivateIpAddresses']} assigns)"
    )
    return [_row("operator_rss_mib", rss, "MiB", method)]


def programs_rss_mib(program: ProgramRecord) -> float:
    """Resident memory of a running program."""
    assert programs.alive(program)
    for line in Path(f"/proc/{program.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def _answers(url: str) -> bool:
    try:
        Control(url).state()
    except Exception:
        return False
    return True


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
