"""Every setting, once: meaning, unit, default, bounds. Flags, environment names, Helm schema and docs come from here.

A value is taken from the flag (`--add-wait 20s`), else the environment (`ENITIDE_ADD_WAIT`), else the file given by
`--config` (YAML, keys as below under `operator:` and `agent:`), else the default. Unknown keys are errors that name the
closest right one. Durations are written `30s`, `10m`, `1h30m` and held in seconds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from enitide_api.durations import duration, seconds
from enitide_api.places import PIN_DIR, RUN_DIR


def _to_seconds(value: Any) -> Any:
    if isinstance(value, str):
        return seconds(value)
    return value


Duration = Annotated[
    float,
    BeforeValidator(_to_seconds),
    PlainSerializer(duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h))+$", "examples": ["30s", "10m", "1h30m"]}),
]


def _written(pattern: str, example: str) -> tuple[AfterValidator, WithJsonSchema]:
    """A string of this form; the refusal says what to write instead."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"write {example}")
        return value

    return AfterValidator(check), WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


def _mtu(value: int) -> int:
    if value != 0 and value < LEAST_MTU:
        raise ValueError(f"write 0 for that of the ENI, or {LEAST_MTU} to 9001: IPv6 does not work below (RFC 8200)")
    return value


LEAST_MTU = 1280
_PORT = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})"
Address = Annotated[str, *_written(rf"([^:\s\[\]]*|\[[0-9a-fA-F:]+\]):{_PORT}", "HOST:PORT, such as 127.0.0.1:9808")]
Url = Annotated[str, *_written(r"https?://[^\s/]+\S*", "a URL such as http://169.254.169.254")]
OptionalUrl = Annotated[str, *_written(r"(https?://[^\s/]+\S*)?", "a URL such as https://ec2.us-west-2.amazonaws.com")]
Region = Annotated[str, *_written(r"([a-z0-9]+(-[a-z0-9]+)*)?", "a region such as us-west-2")]


class Frozen(BaseModel):
    """Immutable, no unknown keys; a field's docstring is its description everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Bucket(Frozen):
    """A token bucket for one EC2 verb."""

    rate: float = Field(gt=0)
    """Calls per second that flow in."""
    burst: float = Field(ge=1)
    """Calls it holds at most."""


class CommonSettings(Frozen):
    """What operator and agent share."""

    kubeconfig: str = ""
    """File with the cluster's address and credentials; empty: in-cluster, else KUBECONFIG, else ~/.kube/config."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """auto: console at a terminal, JSON elsewhere."""
    policy: Literal["enforce", "audit", "off"] = "enforce"
    """enforce: network policies hold; audit: what they would drop passes and is told; off: none is read and pods have
    no identity. The default is what whoever writes a policy expects. The same for operator and agents."""
    host_policy: bool = False
    """Let policies with a nodeSelector hold for the nodes themselves (see docs/policy.md). Off: they are not in force,
    and say so. The same for operator and agents."""
    identity_labels: list[str] = Field(default_factory=list)
    """Label keys that are part of a pod's identity though no policy names them, `namespace:KEY` for labels of
    namespaces. What policies name is part of it anyway."""


class OperatorSettings(CommonSettings):
    """`enitide operator`."""

    cluster_name: str = ""
    """Name on the tags of every ENI made. Empty: ENIs carry no cluster tag and the leak sweep is off, and says so."""
    aws_region: Region = ""
    """AWS region; empty: AWS_REGION, else the AWS configuration."""
    aws_endpoint_url: OptionalUrl = ""
    """EC2 endpoint; empty: AWS_ENDPOINT_URL, else AWS's own."""
    call_timeout: Duration = Field(default=15.0, ge=1, le=15)
    """How long one EC2 call may take. After that its outcome counts as unknown and is re-read."""
    cluster_id: int = Field(default=0, ge=0, le=511)
    """Number of this cluster in the identities that it gives; fixed at its birth, another in each cluster of a mesh."""
    budget: dict[str, Bucket] = Field(default_factory=dict)
    """Token buckets by EC2 verb, such as {"CreateNetworkInterface": {"rate": 5, "burst": 50}}; `all`: one bucket that
    every call passes. Verbs not named keep AWS's documented sizes."""
    lease_namespace: str = "kube-system"
    """Namespace of the leader's Lease."""
    lease_name: str = "enitide-operator"
    """Name of the leader's Lease."""
    lease_duration: Duration = Field(default=45.0, ge=45)
    """How long a silent leader keeps the Lease, at least 45s: two leaders' terms are kept apart by that."""
    lease_renew: Duration = Field(default=10.0, gt=0, le=20)
    """How often the leader renews it, at most 20s."""
    identity: str = ""
    """Name on the Lease; empty: host name and a random part."""
    metrics_address: Address = "127.0.0.1:9808"
    """Address of /metrics, /healthz, /readyz and /debug/plan (what the next pass would do; read-only)."""
    discovery_interval: Duration = Field(default=3600.0, ge=60)
    """How often subnets, security groups and route tables are read again without a cause."""
    drift_interval: Duration = Field(default=600.0, ge=60)
    """How often each node's ENIs are read again without a cause; spread evenly over the nodes."""
    sweep_interval: Duration = Field(default=300.0, ge=60)
    """How often leaked ENIs and ENINodes of instances that are gone are looked for."""
    report_interval: Duration = Field(default=30.0, ge=1)
    """Base of the agents' report interval; multiplied by ln(1 + nodes)."""
    subnet_reports: bool = True
    """Read the /28 map of each subnet that nodes can use (by its id, hourly) and keep a SubnetReport of it."""
    taint_nodes: bool = False
    """Taint a node that has no address to give `enitide.io/no-address:NoSchedule`, and take the taint away when it has.
    See docs/scheduling.md for the pods that must tolerate it."""
    node_metrics: bool = False
    """Also export gauges with a label for each node: four series a node and more."""


class AgentSettings(CommonSettings):
    """`enitide agent`."""

    node_name: str = ""
    """Name of this node in Kubernetes; empty: NODE_NAME, else the host name."""
    run_dir: Path = RUN_DIR
    """Socket, journal and queued calls; on tmpfs, so that it goes with the pods at a reboot."""
    pin_dir: Path = PIN_DIR
    """Where maps and programs are pinned; a bpffs is mounted if there is none."""
    cgroup: Path = Path("/sys/fs/cgroup")
    """Root of the cgroup v2 tree that holds this node's pods."""
    metadata_endpoint: Url = "http://169.254.169.254"
    """Instance metadata service (version 2)."""
    cni_conf_dir: Path = Path("/etc/cni/net.d")
    """Where the conflist is installed once the node can serve a pod."""
    cni_bin_dir: Path = Path("/opt/cni/bin")
    """Where the CNI plugin is installed."""
    cni_version: Literal["0.3.1", "0.4.0", "1.0.0", "1.1.0"] = "1.0.0"
    """cniVersion of the conflist; raise it only when every runtime in use accepts it, and on empty nodes."""
    network_name: str = "enitide"
    """Name of the network in the conflist."""
    add_wait: Duration = Field(default=20.0, ge=0)
    """How long ADD waits for an address before it fails with the node's reason."""
    mtu: Annotated[int, AfterValidator(_mtu)] = Field(default=0, ge=0, le=9001)
    """MTU of pods, at least 1280; 0: that of the ENI."""
    forwarding: Literal["redirect", "stack"] = "redirect"
    """redirect: packets of pods go by eBPF redirect, past the node's netfilter; stack: through the kernel's routing.
    Choose stack where kube-proxy serves Services: it needs to see both directions."""
    metrics_address: Address = "127.0.0.1:9809"
    """Address of /metrics and /healthz."""


class Settings(Frozen):
    """The whole: what a configuration file holds."""

    operator: OperatorSettings = OperatorSettings()
    agent: AgentSettings = AgentSettings()
