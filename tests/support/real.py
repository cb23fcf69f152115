"""What the tests on a real control plane share: a cluster or the reason there is none, nodes, and waiting."""

import os
import time
from datetime import UTC, datetime

import pytest

from enitide_lab.realkube import start_real, why_unavailable

ENINODES = "/apis/enitide.io/v1alpha1/eninodes"
ENICLASSES = "/apis/enitide.io/v1alpha1/eniclasses"
STRATEGIC = "application/strategic-merge-patch+json"


def cluster_in(directory, **arguments):
    """A real control plane, or a skip that says why there is none."""
    reason = why_unavailable(arguments.get("environ", os.environ))
    if reason:
        pytest.skip(f"no real control plane: {reason}")
    return start_real(directory, **arguments)


def make_node(cluster, name, instance="i-0123456789abcdef0"):
    """A Node as a kubelet makes it, with that kubelet's own rights; returns once pods may be bound to it."""
    kubelet = cluster.rest_for("kubelet", node=name)
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    provider = f"aws:///us-west-2a/{instance}"
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
    kubelet.call("POST", "/api/v1/nodes", node | {"spec": {"providerID": provider}})
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}
    resources = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    status = {
        "capacity": resources,
        "allocatable": resources,
        "conditions": [ready | {"lastHeartbeatTime": now, "lastTransitionTime": now}],
    }
    kubelet.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC)
    if cluster.complete:
        until(lambda: not kubelet.get(f"/api/v1/nodes/{name}")["spec"].get("taints"), f"{name} keeps its taints")
    return kubelet


def until(condition, otherwise, within_s=30.0):
    """What `condition` returns once that is true; fails with `otherwise` if it does not become so in time."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{otherwise} (waited {within_s:.0f} s)"
        time.sleep(0.05)


def eninode(name, **spec):
    """The body of an ENINode."""
    return {"apiVersion": "enitide.io/v1alpha1", "kind": "ENINode", "metadata": {"name": name}, "spec": spec}


def deployment(name, replicas, **pod):
    """The body of a Deployment whose pods have one container and `pod`'s other fields."""
    labels = {"app": name}
    spec = {"containers": [{"name": "main", "image": "pause"}], **pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
