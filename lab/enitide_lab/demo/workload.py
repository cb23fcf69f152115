"""Pods for demonstrations and measurements, and what their start has cost."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from enitide_api.errors import LabFailed
from enitide_kube.client import HttpKube
from enitide_kube.port import POD
from enitide_lab.ec2server.control import Control
from enitide_lab.kubelet.sandbox import Sandbox, read_all
from enitide_lab.up.running import Lab

NAMESPACE = "default"
OURS = ("enitide-agent", "enitide-operator")
_WRITES = ("create", "update", "patch", "delete")
# what the operator writes whether or not a pod starts
_HOUSEKEEPING = ("Lease",)


@dataclass(frozen=True, slots=True)
class Running:
    """A running pod: its node, and the sandbox's record with addresses and times."""

    node: str
    sandbox: Sandbox


@dataclass(frozen=True, slots=True)
class Cost:
    """What happened between two moments: EC2 calls by verb, and writes of API objects by us, by kind."""

    ec2: Counter[str]
    writes: Counter[str]

    @property
    def mutations(self) -> Counter[str]:
        """EC2 calls that change something."""
        return Counter({verb: n for verb, n in self.ec2.items() if not verb.startswith(("Describe", "Get"))})


def pod(name: str, *, node: str = "", labels: dict[str, str] | None = None) -> dict[str, Any]:
    """A pod that only waits; on `node` if given."""
    spec: dict[str, Any] = {"containers": [{"name": "main", "image": "registry.k8s.io/pause"}]}
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def create(kube: HttpKube, pods: Iterable[dict[str, Any]]) -> None:
    """Create all at once."""
    await asyncio.gather(*(kube.create(POD, each, namespace=NAMESPACE, field_manager="demo") for each in pods))


def running(lab: Lab) -> list[Running]:
    """Every pod that runs in the lab, by name."""
    found = [
        Running(node.name, sandbox)
        for node in lab.record.nodes
        for sandbox in read_all(lab.paths.node(node.name).pods)
        if sandbox.state == "ready"
    ]
    return sorted(found, key=lambda each: (each.node, each.sandbox.name))


async def phases(kube: HttpKube) -> Counter[str]:
    """How many pods are in which phase, as the API server has it."""
    pods = [msgspec.json.decode(raw) for raw in (await kube.list(POD, namespace=NAMESPACE)).items]
    return Counter(each.get("status", {}).get("phase", "Pending") for each in pods)


async def spent(lab: Lab) -> Cost:
    """All that has been spent since the lab began."""
    calls = (await asyncio.to_thread(Control(lab.record.endpoints.ec2).calls))["calls"]
    ec2 = Counter({verb: sum(outcomes.values()) for verb, outcomes in calls.items()})
    return Cost(ec2, await asyncio.to_thread(_writes, lab))


def between(before: Cost, after: Cost) -> Cost:
    """What was spent from `before` to `after`."""
    return Cost(after.ec2 - before.ec2, after.writes - before.writes)


def _writes(lab: Lab) -> Counter[str]:
    """The embedded API server counts for itself; a real one does not tell."""
    if lab.record.kubernetes != "embedded":
        return Counter()
    url = f"{lab.record.endpoints.kube}/_lab/requests"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as reply:
            rows = msgspec.json.decode(reply.read())
    except OSError as error:
        raise LabFailed(f"the API server does not answer {url}: {error}") from error
    counted: Counter[str] = Counter()
    for row in rows:
        ours = row["client"].split("/")[0] in OURS
        if ours and row["verb"] in _WRITES and row["kind"] not in _HOUSEKEEPING:
            counted[row["kind"]] += row["count"]
    return counted
