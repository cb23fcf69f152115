"""A lab for end-to-end tests: one for each module, pods by a few words, waits with a bound and never a blind sleep."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from enitide_api.errors import KubeNotFound
from enitide_kube.client import HttpKube
from enitide_kube.port import ENINODE, NODE, POD
from enitide_lab.demo.workload import NAMESPACE, create, pod, running
from enitide_lab.ec2server.control import Control
from enitide_lab.house import cgroups, teardown
from enitide_lab.house.layout import lab_paths
from enitide_lab.kubelet.sandbox import Sandbox
from enitide_lab.probe.matrix import Place
from enitide_lab.up.bring_up import bring_up
from enitide_lab.up.options import LabOptions
from enitide_lab.up.running import Lab

ENITIDE = Path(sys.executable).parent / "enitide"
ROOT = Path(__file__).resolve().parents[2]


def why_not() -> str:
    """Why no lab can run here; empty if one can."""
    if os.geteuid() != 0:
        return "needs root: a lab makes network namespaces"
    try:
        cgroups.cgroup2_root()
    except Exception as error:
        return str(error)
    if not (ROOT / "build" / "cni" / "enitide-cni").exists():
        return "the CNI plugin is not built: make build"
    return ""


@contextmanager
def lab_up(label: str, types: tuple[str, ...], **options: Any) -> Iterator[LabDriver]:
    """A lab of its own; taken down whatever happens, nothing of it may be left but its logs in build/lab-logs."""
    paths = lab_paths(f"t-{label}-{os.getpid()}")
    said: list[str] = []
    lab = asyncio.run(bring_up(LabOptions(paths.name, types, **options), said.append))
    try:
        yield LabDriver(lab)
    finally:
        shutil.copytree(paths.logs, ROOT / "build" / "lab-logs" / label, dirs_exist_ok=True)
        teardown.take_down(paths)
        assert not teardown.traces(paths)


async def until(done: Callable[[], Awaitable[Any]] | Callable[[], Any], timeout_s: float = 20.0, what: str = "") -> Any:
    """What `done` gives as soon as it is true; fails after `timeout_s` and says with what it ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        result = done()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        assert loop.time() < deadline, f"not within {timeout_s:g} s: {what or done}"
        await asyncio.sleep(0.05)


class LabDriver:
    """What tests do with a lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ec2 = Control(lab.record.endpoints.ec2)

    @asynccontextmanager
    async def kube(self) -> AsyncIterator[HttpKube]:
        async with HttpKube.connect(str(self.lab.paths.kubeconfig), "e2e") as kube:
            yield kube

    def node(self, name: str) -> Any:
        return self.lab.record.node(name)

    def sandbox(self, name: str) -> Sandbox | None:
        return next((each.sandbox for each in running(self.lab) if each.sandbox.name == name), None)

    def place(self, name: str) -> Place:
        sandbox = self.sandbox(name)
        assert sandbox is not None, f"{name} does not run"
        return Place(name, Path(sandbox.netns), sandbox.addresses)

    def node_place(self, name: str) -> Place:
        node = self.node(name)
        return Place(name, self.lab.netns(node), (node.address,))

    async def run(self, names: dict[str, str], timeout_s: float = 30.0) -> list[Sandbox]:
        """Start pods (name to node) and wait until they run, here and at the API server."""
        async with self.kube() as kube:
            await create(kube, [pod(name, node=node) for name, node in names.items()])
            for name in names:
                await until(lambda name=name: self._runs(kube, name), timeout_s, f"{name} runs")
        return [sandbox for name in names if (sandbox := self.sandbox(name))]

    async def _runs(self, kube: HttpKube, name: str) -> bool:
        found = msgspec.json.decode(await kube.get(POD, name, namespace=NAMESPACE))
        return found.get("status", {}).get("phase") == "Running" and self.sandbox(name) is not None

    async def remove_all(self) -> None:
        """Delete every pod and wait until each is gone."""
        async with self.kube() as kube:
            for raw in (await kube.list(POD, namespace=NAMESPACE)).items:
                await self.remove(kube, msgspec.json.decode(raw)["metadata"]["name"])

            async def gone() -> bool:
                return not (await kube.list(POD, namespace=NAMESPACE)).items

            await until(gone, 30.0, "all pods gone")

    async def remove(self, kube: HttpKube, name: str) -> None:
        try:
            await kube.delete(POD, name, namespace=NAMESPACE)
        except KubeNotFound:
            return

    async def eninode(self, name: str) -> dict[str, Any]:
        async with self.kube() as kube:
            return msgspec.json.decode(await kube.get(ENINODE, name))

    async def reasons(self, name: str) -> set[str]:
        """Reasons of the node's conditions."""
        status = (await self.eninode(name)).get("status", {})
        return {condition["reason"] for condition in status.get("conditions", ())}

    async def node_ready(self, name: str) -> bool:
        async with self.kube() as kube:
            try:
                found = msgspec.json.decode(await kube.get(NODE, name))
            except KubeNotFound:
                return False
        conditions = found.get("status", {}).get("conditions", ())
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def enis(self, name: str = "") -> list[dict[str, Any]]:
        """ENIs in EC2: those of a node, or all."""
        found = self.ec2.state()["interfaces"]
        if not name:
            return found
        instance = self.node(name).instance_id
        return [eni for eni in found if (eni["attachment"] or {}).get("instance_id") == instance]

    def agent(self, name: str, path: str) -> Any:
        """What the node's agent says at `path` of its socket."""
        socket = self.lab.paths.node(name).socket
        command = ["curl", "-sS", "--max-time", "5", "--unix-socket", str(socket), f"http://agent{path}"]
        reply = subprocess.run(command, capture_output=True, text=True, check=False)
        return json.loads(reply.stdout) if reply.returncode == 0 else None

    def kube_fault(self, **command: Any) -> None:
        """A fault of the embedded API server, on command."""
        url = f"{self.lab.record.endpoints.kube}/_lab/faults"
        request = urllib.request.Request(url, json.dumps(command).encode(), method="POST")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as reply:
            assert reply.status == 200

    def enitide(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this lab."""
        environment = {**os.environ, "KUBECONFIG": str(self.lab.paths.kubeconfig), "COLUMNS": "200"}
        return subprocess.run([str(ENITIDE), *arguments], capture_output=True, text=True, env=environment, check=False)
