"""Builds a lab step by step, or nothing at all: whatever goes wrong on the way, what was begun is taken down again.

Each wait is bounded, watches that every program still lives, and ends with the log of the one that does not. A kill in
the middle leaves a folder and a cgroup that `enitide lab down` finds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from enitide_api.errors import KubeError, LabFailed, NotRoot
from enitide_kube.client import HttpKube
from enitide_lab.ec2server.control import Control
from enitide_lab.fabric import kernel
from enitide_lab.fabric.guest import NODE_SYSCTLS
from enitide_lab.fabric.router import CONTROL_ADDRESS, METADATA_ADDRESS, build_router
from enitide_lab.house import cgroups, mounts, programs, record, teardown
from enitide_lab.house.layout import LabPaths, lab_paths
from enitide_lab.house.record import Endpoints, LabRecord, NodeRecord
from enitide_lab.realkube.netns import free_port
from enitide_lab.up import kube as kubernetes
from enitide_lab.up.options import LabOptions, max_pods
from enitide_lab.up.running import EC2_PORT, KUBE_PORT, Lab
from enitide_lab.up.vpc import connect, make_vpc

Report = Callable[[str], None]
START_S = {"embedded": 30.0, "real": 600.0}  # the real one may have to be built first
READY_S = {"embedded": 60.0, "real": 120.0}
_POLL_S = 0.05


async def bring_up(options: LabOptions, report: Report, *, wait_ready: bool = True) -> Lab:
    """Build the lab; with `wait_ready` until each node takes pods. `LabFailed` with reason and log, nothing left."""
    paths = lab_paths(options.name)
    if os.geteuid() != 0:
        raise NotRoot("a lab makes network namespaces, mounts and eBPF programs")
    _claim(paths)
    try:
        lab = Lab(paths, _first_record(paths, options))
        record.write(paths, lab.record)
        await _build(lab, options, report)
        if wait_ready:
            await await_ready(lab, report)
    except BaseException as error:
        report(f"taking down what was begun ({type(error).__name__})")
        teardown.take_down(paths)
        raise
    return lab


def _claim(paths: LabPaths) -> None:
    """Making the folder is the lock: of two that bring up the same lab, one gets it."""
    paths.root.parent.mkdir(parents=True, exist_ok=True)
    try:
        paths.root.mkdir(mode=0o755)
    except FileExistsError:
        down = f"`enitide lab down --name {paths.name}`"
        if not paths.record.exists():
            raise LabFailed(f"the folder of a lab {paths.name} is there without a record; {down} clears it") from None
        alive = any(programs.alive(program) for program in record.read(paths).programs)
        state = f"is up: `enitide lab status --name {paths.name}` shows it" if alive else "has died and left its ruins"
        raise LabFailed(f"the lab {paths.name} {state}; {down} first, or choose another --name") from None


def _first_record(paths: LabPaths, options: LabOptions) -> LabRecord:
    cgroup = cgroups.create(cgroups.cgroup2_root() / paths.cgroup_name)
    return LabRecord(
        name=options.name,
        kubernetes=options.kubernetes,
        region=options.region,
        cgroup=str(cgroup),
        builder_pid=os.getpid(),
    )


async def _build(lab: Lab, options: LabOptions, report: Report) -> None:
    paths = lab.paths
    paths.control.mkdir(mode=0o700)
    report("a VPC as a network namespace; EC2 and Kubernetes start in it")
    build_router(paths.fabric, [CONTROL_ADDRESS, METADATA_ADDRESS])
    kube_port, ec2_port = free_port(None, "127.0.0.1"), free_port(None, "127.0.0.1")
    scheme = "https" if options.kubernetes == "real" else "http"
    endpoints = Endpoints(
        kube=f"{scheme}://127.0.0.1:{kube_port}",
        kube_nodes=f"{scheme}://{CONTROL_ADDRESS}:{KUBE_PORT}",
        ec2=f"http://127.0.0.1:{ec2_port}",
        ec2_nodes=f"http://{CONTROL_ADDRESS}:{EC2_PORT}",
    )
    lab.update(endpoints=endpoints)
    lab.start_kubernetes()
    lab.start_ec2()
    lab.start_door()
    await wait_until(lab, lambda: _answers(endpoints.ec2), START_S["embedded"], "EC2 does not answer")
    report(f"instances: {', '.join(options.types)}")
    await _make_nodes(lab, options)
    lab.start_node_doors()
    lab.start_fabric(options)
    report(f"Kubernetes ({options.kubernetes}) gets our kinds and the default ENIClass")
    await wait_until(lab, lambda: _exists(paths.node_kubeconfig), START_S[options.kubernetes], "no API server yet")
    kubernetes.write_host_kubeconfig(paths, endpoints.kube)
    if options.kubernetes == "embedded":
        kubernetes.share_credentials(paths, lab.record)
        async with HttpKube.connect(str(paths.kubeconfig), "lab") as kube:
            await kubernetes.install(kube, prefix_delegation=options.prefix_delegation)
    await wait_until(lab, lambda: _exists(paths.credentials("operator")), 60.0, "the operator has no credentials")
    lab.start_operator()
    lab.start_kubelet()
    report("operator, kubelets and agents start")
    for node in lab.record.nodes:
        credentials = paths.credentials("agent", node.name)
        await wait_until(lab, lambda file=credentials: _exists(file), 30.0, f"no credentials for {node.name}")  # type: ignore[misc]
        lab.start_agent(node)
    lab.update(phase="up")


async def _make_nodes(lab: Lab, options: LabOptions) -> None:
    ec2 = connect(lab.record.endpoints.ec2, options.region)
    instances = await asyncio.to_thread(make_vpc, ec2, options.region, options.types, options.name)
    nodes = tuple(
        NodeRecord(
            name=f"node-{number}",
            instance_id=each.id,
            instance_type=each.type,
            zone=each.zone,
            address=each.address,
            max_pods=max_pods(each.type, prefix_delegation=options.prefix_delegation),
        )
        for number, each in enumerate(instances, 1)
    )
    lab.update(nodes=nodes)
    for node in nodes:
        make_node(lab, node)


def make_node(lab: Lab, node: NodeRecord) -> None:
    """Everything a node is before anything runs on it."""
    folders = lab.paths.node(node.name)
    mounts.make_namespace(lab.netns(node), NODE_SYSCTLS)
    mounts.mount("tmpfs", folders.run_dir, "size=64m,mode=755")
    mounts.mount("bpf", folders.pin_dir)
    for folder in (folders.cni_conf_dir, folders.cni_bin_dir, folders.pods):
        folder.mkdir(parents=True, exist_ok=True)
    cgroups.create(lab.node_cgroup(node))


def reboot_node(lab: Lab, node: NodeRecord) -> None:
    """The node loses its processes, its devices, all of tmpfs and bpffs; files stay; then its agent starts anew."""
    folders = lab.paths.node(node.name)
    cgroups.kill(lab.node_cgroup(node))
    for sandbox in folders.pods.glob("*.netns"):
        mounts.drop_namespace(sandbox)
    # Connections of what was just killed keep the namespace for up to a minute: its devices must go now.
    mounts.in_namespace(lab.netns(node), kernel.remove_devices)
    mounts.drop_namespace(lab.netns(node))
    mounts.unmount(folders.run_dir)
    mounts.unmount(folders.pin_dir)
    lab.kill("door/nodes")
    make_node(lab, node)
    lab.start_node_doors()
    lab.start_agent(node)


async def await_ready(lab: Lab, report: Report) -> None:
    """Until each node takes pods."""
    said = ""
    async with HttpKube.connect(str(lab.paths.kubeconfig), "lab") as kube:

        async def ready() -> str:
            nonlocal said
            try:
                waiting = await kubernetes.unready_nodes(kube, lab.record)
            except KubeError as error:
                return str(error)
            text = "; ".join(f"{name}: {message}" for name, message in waiting.items())
            if len(waiting) != said.count(": ") or not said:
                said = text or " "
                report(f"{len(lab.record.nodes) - len(waiting)} of {len(lab.record.nodes)} nodes ready")
            return text

        await wait_until(lab, ready, READY_S[lab.record.kubernetes], "nodes are not ready", poll_s=0.2)


async def wait_until(
    lab: Lab, missing: Callable[[], Awaitable[str]], timeout_s: float, what: str, *, poll_s: float = _POLL_S
) -> None:
    """Until `missing` says nothing more. `LabFailed`: a program ended (and its log), or time is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while text := await missing():
        lab.require_alive()
        if loop.time() > deadline:
            logs = sorted(path.name for path in lab.paths.logs.iterdir())
            tails = "\n".join(f"--- {name}\n{programs.tail(lab.paths.logs / name)}" for name in logs)
            raise LabFailed(f"{what} after {timeout_s:g} s: {text}\n{tails}")
        await asyncio.sleep(poll_s)


async def _answers(endpoint: str) -> str:
    try:
        await asyncio.to_thread(Control(endpoint).state)
    except LabFailed as error:
        return str(error)
    return ""


async def _exists(path: Path) -> str:
    there = path.exists()  # noqa: ASYNC240 - a look at a tmpfs blocks nobody
    return "" if there else f"{path} is not there"
