"""Where everything of a lab lies: one folder and one cgroup, both named after it, and nothing anywhere else.

That is what makes teardown complete: whatever a lab mounts is mounted below its folder, whatever it starts runs in its
cgroup, and whatever it calls into being in the network hangs in a namespace that is held by one of these two. A lab
that died can therefore be cleaned without any record. Nothing here touches the disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from enitide_api.errors import UsageError

LABS = Path("/run/enitide-lab")
DEFAULT_NAME = "lab"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class NodePaths:
    """Folders of one lab node, all below `root`."""

    root: Path

    @property
    def run_dir(self) -> Path:
        """The agent's `--run-dir`; a tmpfs of its own, so that it can vanish as at a reboot."""
        return self.root / "run"

    @property
    def pin_dir(self) -> Path:
        """The agent's `--pin-dir`; a bpffs of its own outside /sys, which tools that remount /sys cannot hide."""
        return self.root / "bpf"

    @property
    def cni_conf_dir(self) -> Path:
        """Where the agent installs its conflist."""
        return self.root / "cni" / "net.d"

    @property
    def cni_bin_dir(self) -> Path:
        """Where the agent installs its plugin."""
        return self.root / "cni" / "bin"

    @property
    def pods(self) -> Path:
        """One record and one network namespace for each pod sandbox."""
        return self.root / "pods"

    @property
    def socket(self) -> Path:
        """The agent's socket."""
        return self.run_dir / "agent.sock"


@dataclass(frozen=True, slots=True)
class LabPaths:
    """Folders of the lab `name`."""

    name: str

    @property
    def root(self) -> Path:
        """The lab's folder."""
        return LABS / self.name

    @property
    def record(self) -> Path:
        """What the lab says of itself (see `record`)."""
        return self.root / "lab.json"

    @property
    def namespaces(self) -> Path:
        """Named network namespaces: `fabric`, and one for each EC2 instance under the instance's id."""
        return self.root / "netns"

    @property
    def fabric(self) -> Path:
        """The network namespace that is the VPC."""
        return self.namespaces / "fabric"

    @property
    def logs(self) -> Path:
        """One log for each program."""
        return self.root / "logs"

    @property
    def control(self) -> Path:
        """The control plane's files."""
        return self.root / "control"

    @property
    def kubeconfig(self) -> Path:
        """For `kubectl` on this machine: by loopback, with all rights."""
        return self.root / "kubeconfig"

    @property
    def node_kubeconfig(self) -> Path:
        """The same, by the address that every node can reach."""
        return self.control / "kubeconfig-nodes"

    def credentials(self, role: str, node: str = "") -> Path:
        """The kubeconfig with which `role` (operator, agent, kubelet, scheduler) of a node speaks to the API server."""
        return self.control / "-".join(filter(None, ("kubeconfig", role, node)))

    @property
    def cgroup_name(self) -> str:
        """The lab's cgroup, relative to the root of the cgroup v2 tree."""
        return f"{LABS.name}/{self.name}"

    def node(self, node: str) -> NodePaths:
        """Folders of a node."""
        return NodePaths(self.root / "nodes" / node)

    def log(self, program: str) -> Path:
        """The program's log; programs of nodes are called `agent/node-1`."""
        return self.logs / f"{program.replace('/', '-')}.log"


def lab_paths(name: str) -> LabPaths:
    """`UsageError` unless the name can be part of a file name, a host name and a socket path of at most 108 bytes."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"a lab cannot be called {name!r}: write 1 to 24 lower-case letters, digits or dashes")
    return LabPaths(name)


def known_labs() -> list[LabPaths]:
    """Every lab that has a folder, alive or dead."""
    if not LABS.is_dir():
        return []
    return [LabPaths(path.name) for path in sorted(LABS.iterdir()) if _NAME.fullmatch(path.name) and path.is_dir()]
