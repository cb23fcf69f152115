"""What a lab says of itself, in one file that is always whole: nodes, programs, where the control plane listens.

Others read it (`status`, `exec`, `env`); teardown does not need it. Written by rename, so that a reader or a crash
never meets half of it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from enitide_api.errors import LabFailed, UsageError
from enitide_lab.house.layout import LabPaths, known_labs


class ProgramRecord(msgspec.Struct, frozen=True):
    """A started program: `start_ticks` since boot makes the pid unmistakable."""

    name: str
    pid: int
    start_ticks: int
    cgroup: str


class NodeRecord(msgspec.Struct, frozen=True):
    """A lab node and the EC2 instance that it is."""

    name: str
    instance_id: str
    instance_type: str
    zone: str
    address: str
    max_pods: int


class Endpoints(msgspec.Struct, frozen=True):
    """URLs of the control plane: `*_nodes` from the fabric and every node, the others on this machine's loopback."""

    kube: str = ""
    kube_nodes: str = ""
    ec2: str = ""
    ec2_nodes: str = ""


class LabRecord(msgspec.Struct, frozen=True):
    """The lab. `phase` is `starting` until `up` has ended well. `builder_pid`: the process that builds it."""

    name: str
    kubernetes: Literal["embedded", "real"]
    region: str
    cgroup: str
    builder_pid: int
    phase: Literal["starting", "up"] = "starting"
    endpoints: Endpoints = Endpoints()
    nodes: tuple[NodeRecord, ...] = ()
    programs: tuple[ProgramRecord, ...] = ()

    def node(self, name: str) -> NodeRecord:
        """The node called `name`, or `UsageError` that lists those there are."""
        for node in self.nodes:
            if name in (node.name, node.instance_id):
                return node
        known = ", ".join(node.name for node in self.nodes) or "none"
        raise UsageError(f"the lab {self.name} has no node {name!r}; it has: {known}")

    def program(self, name: str) -> ProgramRecord | None:
        """The latest program of this name."""
        return next((program for program in reversed(self.programs) if program.name == name), None)


def write(paths: LabPaths, record: LabRecord) -> None:
    """Replace the file as a whole."""
    unfinished = paths.record.with_suffix(".unfinished")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    unfinished.rename(paths.record)


def read(paths: LabPaths) -> LabRecord:
    """`UsageError` if there is no such lab; `LabFailed` if it died before it could say anything."""
    try:
        return msgspec.json.decode(paths.record.read_bytes(), type=LabRecord)
    except FileNotFoundError:
        others = ", ".join(lab.name for lab in known_labs())
        if paths.root.exists():
            raise LabFailed(f"the lab {paths.name} is a ruin: `enitide lab down --name {paths.name}`") from None
        hint = f"there are: {others}; choose with --name" if others else "start one with `enitide lab up`"
        raise UsageError(f"there is no lab {paths.name!r}; {hint}") from None
    except msgspec.DecodeError as error:
        hint = f"`enitide lab down --name {paths.name}` clears it away"
        raise LabFailed(f"{paths.record} cannot be read ({error}); {hint}") from error
