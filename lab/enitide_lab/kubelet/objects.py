"""The parts of pods and nodes that a kubelet and a scheduler read, as slim structs."""

from __future__ import annotations

import msgspec

from enitide_kube.objects import Meta, PodStatus, Slim, Taint


class Container(Slim, frozen=True, kw_only=True):
    """A container: what to run, if it says so."""

    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()


class Toleration(Slim, frozen=True, kw_only=True):
    """A toleration; an empty key with `Exists` tolerates everything."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class KubeletPodSpec(Slim, frozen=True, kw_only=True):
    """What there is to run and where."""

    node_name: str = ""
    host_network: bool = False
    containers: tuple[Container, ...] = ()
    node_selector: dict[str, str] | None = None
    tolerations: tuple[Toleration, ...] | None = None
    scheduler_name: str = "default-scheduler"


class KubeletPod(Slim, frozen=True, kw_only=True):
    """A pod as its node's kubelet sees it."""

    metadata: Meta = Meta()
    spec: KubeletPodSpec = KubeletPodSpec()
    status: PodStatus = PodStatus()

    @property
    def leaving(self) -> bool:
        """Whether somebody has deleted it."""
        return self.metadata.deletion_timestamp is not None

    @property
    def ended(self) -> bool:
        """Whether its work is over."""
        return self.status.phase in ("Succeeded", "Failed")


class NodeCondition(Slim, frozen=True, kw_only=True):
    """A node's condition."""

    type: str = ""
    status: str = ""


class ScheduledNodeStatus(Slim, frozen=True, kw_only=True):
    """What a scheduler needs of a node's status."""

    allocatable: dict[str, str] | None = None
    conditions: tuple[NodeCondition, ...] | None = None


class ScheduledNodeSpec(Slim, frozen=True, kw_only=True):
    """What a scheduler needs of a node's spec."""

    taints: tuple[Taint, ...] | None = None
    unschedulable: bool = False


class ScheduledNode(Slim, frozen=True, kw_only=True):
    """A node as a scheduler sees it."""

    metadata: Meta = Meta()
    spec: ScheduledNodeSpec = ScheduledNodeSpec()
    status: ScheduledNodeStatus = ScheduledNodeStatus()

    @property
    def ready(self) -> bool:
        """Whether its Ready condition is true."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions or ())

    @property
    def max_pods(self) -> int:
        """How many pods it takes."""
        return int((self.status.allocatable or {}).get("pods", "0"))


_POD = msgspec.json.Decoder(KubeletPod)
_NODE = msgspec.json.Decoder(ScheduledNode)


def decode_pod(raw: bytes) -> KubeletPod:
    """A pod's bytes."""
    return _POD.decode(raw)


def decode_node(raw: bytes) -> ScheduledNode:
    """A node's bytes."""
    return _NODE.decode(raw)
