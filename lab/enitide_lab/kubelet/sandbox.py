"""A pod's sandbox on a lab node: its network namespace, its processes, and the record by which both are found again.

The record is written before anything is made and removed after everything is gone, so a kubelet that was killed finds
each sandbox again, half-made ones included, and takes those down.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from enitide_lab.house import mounts, programs
from enitide_lab.house.record import ProgramRecord

PAUSE = ("sleep", "infinity")


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """`container_id` is new for every attempt. `result` is what ADD answered. Times of the pod's start in ms.

    `wait_ms`: from when the pod was seen bound here until it ran, all attempts included; `add_ms`: the last ADD alone.
    """

    uid: str
    namespace: str
    name: str
    container_id: str
    netns: str
    state: Literal["making", "ready", "leaving"] = "making"
    host_network: bool = False
    attempt: int = 1
    result: dict[str, Any] = {}
    addresses: tuple[str, ...] = ()
    add_ms: float = 0.0
    wait_ms: float = 0.0
    started: str = ""
    processes: tuple[ProgramRecord, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/name` of the pod."""
        return f"{self.namespace}/{self.name}"

    def call(self, *, netns: str | None = None) -> dict[str, str]:
        """The CNI variables of this sandbox, as kubelet and containerd fill them."""
        names = f"K8S_POD_NAMESPACE={self.namespace};K8S_POD_NAME={self.name}"
        ids = f"K8S_POD_INFRA_CONTAINER_ID={self.container_id};K8S_POD_UID={self.uid}"
        return {
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns if netns is None else netns,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;{names};{ids}",
        }


class Sandboxes:
    """All sandboxes of one node. `folder` holds their records, `cgroup` their processes."""

    def __init__(self, folder: Path, cgroup: Path, netns: Path) -> None:
        self.folder = folder
        self._cgroup = cgroup
        self._netns = netns
        folder.mkdir(parents=True, exist_ok=True)
        self._by_uid = {sandbox.uid: sandbox for sandbox in read_all(folder)}

    def of(self, uid: str) -> Sandbox | None:
        """The pod's sandbox."""
        return self._by_uid.get(uid)

    def all(self) -> list[Sandbox]:
        """Every sandbox."""
        return list(self._by_uid.values())

    def put(self, sandbox: Sandbox) -> Sandbox:
        """Record it."""
        unfinished = self.folder / f"{sandbox.uid}.unfinished"
        unfinished.write_bytes(msgspec.json.encode(sandbox))
        unfinished.rename(self.folder / f"{sandbox.uid}.json")
        self._by_uid[sandbox.uid] = sandbox
        return sandbox

    def make(self, uid: str, namespace: str, name: str, *, attempt: int, host_network: bool) -> Sandbox:
        """A new sandbox: recorded, then its namespace made with the loopback up. In the host's network: the node's."""
        path = self._netns if host_network else self.folder / f"{uid}.netns"
        sandbox = Sandbox(
            uid=uid,
            namespace=namespace,
            name=name,
            container_id=os.urandom(32).hex(),
            netns=str(path),
            attempt=attempt,
            host_network=host_network,
        )
        self.put(sandbox)
        if not host_network:
            mounts.drop_namespace(path)
            mounts.make_namespace(path)
        return sandbox

    def start(self, sandbox: Sandbox, commands: Mapping[str, tuple[str, ...]]) -> Sandbox:
        """Start the pod's processes, one for each container: its command, else one that only waits."""
        started = tuple(
            programs.start(
                f"{sandbox.key}/{container}",
                command or PAUSE,
                cgroup=self._cgroup / f"pod-{sandbox.uid}",
                log=self.folder / f"{sandbox.uid}.log",
                netns=Path(sandbox.netns),
            )
            for container, command in commands.items()
        )
        return self.put(msgspec.structs.replace(sandbox, processes=started))

    def stop(self, sandbox: Sandbox, grace_s: float) -> Sandbox:
        """End the pod's processes; blocks up to the grace period each."""
        for process in sandbox.processes:
            programs.end(process, number=signal.SIGTERM, grace_s=grace_s)
        return self.put(msgspec.structs.replace(sandbox, processes=(), state="leaving"))

    def remove_namespace(self, sandbox: Sandbox) -> None:
        """Let go of the namespace; not there is fine."""
        if not sandbox.host_network:
            mounts.drop_namespace(Path(sandbox.netns))

    def forget(self, sandbox: Sandbox) -> None:
        """All is gone: remove cgroup, log and record."""
        group = self._cgroup / f"pod-{sandbox.uid}"
        if group.is_dir():
            group.rmdir()
        (self.folder / f"{sandbox.uid}.log").unlink(missing_ok=True)
        (self.folder / f"{sandbox.uid}.json").unlink(missing_ok=True)
        self._by_uid.pop(sandbox.uid, None)


def read_all(folder: Path) -> list[Sandbox]:
    """Every recorded sandbox of a node; one that vanishes meanwhile is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Sandbox))
        except FileNotFoundError:
            continue
    return found
