"""Runs a command where a node or a pod of the lab is: its network namespace, its cgroup, its environment.

By system call in this very process, then exec: /sys stays as it is, signals and exit code are the command's own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from enitide_api.errors import LabFailed, UsageError
from enitide_lab.house import cgroups
from enitide_lab.house.record import NodeRecord
from enitide_lab.kubelet.sandbox import Sandbox, read_all
from enitide_lab.up.running import Lab, enitide

_CLONE_NEWNET = 0x40000000


def find_pod(lab: Lab, name: str) -> tuple[NodeRecord, Sandbox]:
    """The running pod called `namespace/name` or `name`; `UsageError` if there is none, or more than one."""
    found = [
        (node, sandbox)
        for node in lab.record.nodes
        for sandbox in read_all(lab.paths.node(node.name).pods)
        if name in (sandbox.key, sandbox.name) and sandbox.state == "ready"
    ]
    if len(found) > 1:
        raise UsageError(f"several pods are called {name!r}: write one of {', '.join(s.key for _, s in found)}")
    if not found:
        nodes = ", ".join(node.name for node in lab.record.nodes)
        raise UsageError(f"{name!r} is neither a node ({nodes}) nor a running pod of the lab {lab.paths.name}")
    return found[0]


def run_inside(lab: Lab, place: str, command: Sequence[str]) -> NoReturn:
    """Become `command` at the node or pod `place`."""
    names = {node.name for node in lab.record.nodes} | {node.instance_id for node in lab.record.nodes}
    if place in names:
        node = lab.record.node(place)
        netns, cgroup = lab.netns(node), lab.node_cgroup(node)
    else:
        node, sandbox = find_pod(lab, place)
        netns, cgroup = Path(sandbox.netns), lab.node_cgroup(node) / f"pod-{sandbox.uid}"
    folders = lab.paths.node(node.name)
    environment = {
        **os.environ,
        **lab.environment(node),
        # so that `enitide` itself speaks of this node
        "ENITIDE_RUN_DIR": str(folders.run_dir),
        "ENITIDE_PIN_DIR": str(folders.pin_dir),
        "ENITIDE_CGROUP": str(lab.node_cgroup(node)),
        "PATH": f"{Path(enitide()).parent}:{os.environ.get('PATH', os.defpath)}",
    }
    cgroups.enter(cgroup)
    _enter(netns)
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - what the person asked for
    except FileNotFoundError:
        raise UsageError(f"there is no command {command[0]!r}") from None


def _enter(netns: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    if libc.setns(handle, _CLONE_NEWNET) != 0:
        raise LabFailed(f"cannot enter {netns}: {os.strerror(ctypes.get_errno())}")
    os.close(handle)
