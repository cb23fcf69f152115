"""What the stand-in writes into the status of pods and nodes. Pure: facts and a time in, patches out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enitide_lab.house.record import NodeRecord
from enitide_lab.kubelet.objects import KubeletPod
from enitide_lab.kubelet.sandbox import Sandbox


def condition(kind: str, is_true: bool, now: str, reason: str = "", message: str = "") -> dict[str, Any]:
    """A condition as pods and nodes have them."""
    found = {"type": kind, "status": "True" if is_true else "False", "lastTransitionTime": now}
    return found | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})


def running(pod: KubeletPod, sandbox: Sandbox, host_address: str, now: str) -> dict[str, Any]:
    """A pod that runs."""
    addresses: Sequence[str] = (host_address,) if sandbox.host_network else sandbox.addresses
    kinds = ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready")
    return {
        "status": {
            "phase": "Running",
            "hostIP": host_address,
            "hostIPs": [{"ip": host_address}],
            "podIP": addresses[0] if addresses else None,
            "podIPs": [{"ip": address} for address in addresses],
            "startTime": now,
            "conditions": [condition(kind, True, now) for kind in kinds],
            "containerStatuses": [
                {
                    "name": container.name,
                    "image": container.image,
                    "imageID": "",
                    "containerID": f"lab://{sandbox.container_id}",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                }
                for container in pod.spec.containers
            ],
        }
    }


def new_node(node: NodeRecord, region: str) -> dict[str, Any]:
    """The Node object as a kubelet with the AWS cloud provider registers it."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": {
                "kubernetes.io/hostname": node.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": node.instance_type,
                "topology.kubernetes.io/region": region,
                "topology.kubernetes.io/zone": node.zone,
            },
        },
        "spec": {"providerID": f"aws:///{node.zone}/{node.instance_id}"},
    }


def node_status(node: NodeRecord, now: str, changed: str, reason: str, message: str) -> dict[str, Any]:
    """A node's status; `reason` empty means ready. `changed`: since when it is as it is."""
    capacity = {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "20Gi", "pods": str(node.max_pods)}
    ready = condition("Ready", not reason, changed, reason or "KubeletReady", message or "the network takes pods")
    others = [condition(kind, False, changed) for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")]
    return {
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": node.address},
                {"type": "Hostname", "address": node.name},
            ],
            "conditions": [{**each, "lastHeartbeatTime": now} for each in (*others, ready)],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "enitide-lab://1",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.34.0",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "enitide lab",
                "systemUUID": "",
            },
        }
    }
