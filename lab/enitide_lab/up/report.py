"""What `enitide lab status` says: from the record, the kernel, EC2 and the API server, each of which may be away."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from enitide_api.errors import KubeError, LabFailed
from enitide_kube.client import HttpKube
from enitide_kube.port import ENINODE, NODE
from enitide_lab.ec2server.control import Control
from enitide_lab.house import programs
from enitide_lab.kubelet.sandbox import read_all
from enitide_lab.up.running import Lab


@dataclass(slots=True)
class NodeReport:
    """One node. `ready` None: the API server is away. `enis` None: EC2 is away."""

    name: str
    instance: str
    type: str
    address: str
    ready: bool | None = None
    message: str = ""
    pods: int = 0
    enis: int | None = None
    addresses: int | None = None


@dataclass(slots=True)
class LabReport:
    """The lab. `healthy`: every program lives and every node takes pods."""

    name: str
    kubernetes: str
    phase: str
    healthy: bool = False
    kubeconfig: str = ""
    endpoints: dict[str, str] = field(default_factory=dict)
    programs: dict[str, bool] = field(default_factory=dict)
    nodes: list[NodeReport] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


async def gather(lab: Lab) -> LabReport:
    """Look at everything once; what does not answer is a trouble, not an error."""
    record = lab.record
    report = LabReport(record.name, record.kubernetes, record.phase, kubeconfig=str(lab.paths.kubeconfig))
    report.endpoints = msgspec.to_builtins(record.endpoints)
    report.programs = {program.name: programs.alive(program) for program in record.programs}
    report.troubles = [f"{name} has ended: {lab.paths.log(name)}" for name, up in report.programs.items() if not up]
    report.nodes = [
        NodeReport(n.name, n.instance_id, n.instance_type, n.address, pods=len(read_all(lab.paths.node(n.name).pods)))
        for n in record.nodes
    ]
    _ask_ec2(lab, report)
    await _ask_kubernetes(lab, report)
    waiting = [f"{node.name} is not ready: {node.message}" for node in report.nodes if node.ready is False]
    report.troubles += waiting
    report.healthy = record.phase == "up" and not report.troubles
    return report


def _ask_ec2(lab: Lab, report: LabReport) -> None:
    try:
        state = Control(lab.record.endpoints.ec2).state()
    except LabFailed as error:
        report.troubles.append(str(error))
        return
    for node in report.nodes:
        own = [eni for eni in state["interfaces"] if (eni["attachment"] or {}).get("instance_id") == node.instance]
        node.enis = len(own)
        node.addresses = sum(max(0, len(eni["addresses"]) - 1) + 16 * len(eni["prefixes"]) for eni in own)


async def _ask_kubernetes(lab: Lab, report: LabReport) -> None:
    if not lab.paths.kubeconfig.exists():
        report.troubles.append("the API server has not started")
        return
    try:
        async with HttpKube.connect(str(lab.paths.kubeconfig), "lab-status") as kube:
            nodes = [msgspec.json.decode(raw) for raw in (await kube.list(NODE)).items]
            ours = [msgspec.json.decode(raw) for raw in (await kube.list(ENINODE)).items]
    except KubeError as error:
        report.troubles.append(f"{error.reason}: {error}")
        return
    conditions = {node["metadata"]["name"]: _ready(node) for node in nodes}
    waits = {node["metadata"]["name"]: _reasons(node) for node in ours}
    for node in report.nodes:
        condition = conditions.get(node.name, {})
        node.ready = condition.get("status") == "True"
        node.message = waits.get(node.name) or ("" if node.ready else condition.get("message", "not registered"))


def _ready(obj: dict[str, Any]) -> dict[str, Any]:
    found = [each for each in obj.get("status", {}).get("conditions", ()) if each["type"] == "Ready"]
    return found[0] if found else {}


def _reasons(obj: dict[str, Any]) -> str:
    """Reasons of what is not as it should be, from the ENINode."""
    conditions = obj.get("status", {}).get("conditions", ())
    return "; ".join(
        f"{c['reason']}: {c['message']}" for c in conditions if c["type"] == "Ready" and c["status"] != "True"
    )
