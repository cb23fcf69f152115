"""The agent's paths as data; the reference page is generated from this table. `/v1` only ever grows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Path:
    """`handler` names the method of `Api` that answers; `help` is one line for the reference page."""

    method: str
    path: str
    handler: str
    help: str


CNI_COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS")

PATHS: tuple[Path, ...] = (
    Path("POST", "/v1/cni/ADD", "cni", "Wire a container; the body of 200 is the CNI result."),
    Path("POST", "/v1/cni/DEL", "cni", "Unwire it; succeeds as often as it is repeated."),
    Path("POST", "/v1/cni/CHECK", "cni", "Whether the container's network is as ADD left it."),
    Path("POST", "/v1/cni/GC", "cni", "Release all but cni.dev/valid-attachments."),
    Path("POST", "/v1/cni/STATUS", "cni", "200 while the agent answers; a node at capacity is no error."),
    Path("GET", "/v1/status", "status", "Node, instance, readiness, and what it waits for, with reasons."),
    Path("GET", "/v1/addresses", "addresses", "Every address: owner, ENI, state, since."),
    Path("GET", "/v1/endpoints", "endpoints", "Every wired container: addresses, ENI, devices."),
    Path("GET", "/v1/interfaces", "interfaces", "Every published ENI: device, number, table, readiness."),
    Path("GET", "/v1/drops", "drops", "Packets that the datapath dropped, by reason."),
    Path("GET", "/metrics", "metrics", "Prometheus metrics."),
    Path("GET", "/healthz", "healthz", "200 while the agent's passes go on."),
)

# What the TCP address of --metrics-address answers; everything else is for root on the socket alone.
PUBLIC = frozenset({"/metrics", "/healthz"})
