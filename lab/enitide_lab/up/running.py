"""A lab that exists: starts, ends and finds its programs, and knows by which command line each is started.

Everything that runs here is the real program with its real command; what a lab changes are folders and addresses.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import msgspec

from enitide_api.errors import LabFailed
from enitide_lab.fabric.router import CONTROL_ADDRESS, METADATA_ADDRESS
from enitide_lab.house import programs, record
from enitide_lab.house.layout import LabPaths
from enitide_lab.house.record import LabRecord, NodeRecord, ProgramRecord
from enitide_lab.up.options import LabOptions
from enitide_lab.up.vpc import CREDENTIALS

EC2_PORT = 4566
KUBE_PORT = 6443

# Nothing of the person's own AWS set-up or proxies may leak into the lab, nor the lab's calls out of it.
ISOLATION = {
    **CREDENTIALS,
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "*",
    "no_proxy": "*",
}


def enitide() -> str:
    """The `enitide` of this very installation."""
    path = Path(sys.executable).parent / "enitide"
    if not path.exists():
        raise LabFailed(f"there is no {path}: install the project into this environment (make setup)")
    return str(path)


class Lab:
    """Handle of a lab. `record` is what was last written or read."""

    def __init__(self, paths: LabPaths, lab: LabRecord) -> None:
        self.paths = paths
        self.record = lab

    @classmethod
    def open(cls, paths: LabPaths) -> Lab:
        """The lab that is there; errors of `record.read`."""
        return cls(paths, record.read(paths))

    def update(self, **changes: object) -> None:
        """Change the record and write it."""
        self.record = msgspec.structs.replace(self.record, **changes)
        record.write(self.paths, self.record)

    # --- programs --------------------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        command: list[str],
        *,
        cgroup: str,
        netns: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> ProgramRecord:
        """Start a program of the lab under `name`, in the place of an earlier one of that name, and record it."""
        started = programs.start(
            name,
            command,
            cgroup=Path(self.record.cgroup) / cgroup,
            log=self.paths.log(name),
            netns=netns,
            environment=ISOLATION | (environment or {}),
        )
        others = tuple(program for program in self.record.programs if program.name != name)
        self.update(programs=(*others, started))
        return started

    def program(self, name: str) -> ProgramRecord:
        """The program of this name; `LabFailed` if none was ever started."""
        found = self.record.program(name)
        if found is None:
            raise LabFailed(f"the lab {self.paths.name} has no program {name!r}")
        return found

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a program and wait until it has ended, for tests of crashes."""
        programs.end(self.program(name), number=number)

    def require_alive(self) -> None:
        """`LabFailed` with the end of the log of the first program that has ended."""
        for program in self.record.programs:
            programs.require_alive(program, self.paths.log(program.name))

    # --- which programs there are ----------------------------------------------------------------------------

    def start_ec2(self) -> None:
        """EC2 and the instance metadata service."""
        listen = f"{CONTROL_ADDRESS}:{EC2_PORT}"
        metadata = f"{METADATA_ADDRESS}:80"
        fabric = str(self.paths.fabric)
        arguments = ["--listen", listen, "--netns", fabric, "--metadata-listen", metadata, "--metadata-netns", fabric]
        command = [sys.executable, "-m", "enitide_lab.ec2server", *arguments, "--region", self.record.region]
        self.start("ec2", command, cgroup="control/ec2")

    def start_kubernetes(self) -> None:
        """The control plane: the embedded API server, or the real programs."""
        if self.record.kubernetes == "real":
            command = [sys.executable, "-m", "enitide_lab.up.realplane", "--lab", self.paths.name]
            self.start("kubernetes", command, cgroup="control/kubernetes")
            return
        listen = f"{CONTROL_ADDRESS}:{KUBE_PORT}@{self.paths.fabric}"
        written = ["--kubeconfig-out", str(self.paths.node_kubeconfig)]
        command = [sys.executable, "-m", "enitide_lab.apiserver", "--listen", listen, *written]
        self.start("kubernetes", command, cgroup="control/kubernetes")

    def start_door(self) -> None:
        """The way in from this machine's loopback."""
        self._open_door("door", ())

    def start_node_doors(self) -> None:
        """The same addresses in the loopback of every node."""
        self._open_door("door/nodes", tuple(self.netns(node) for node in self.record.nodes))

    def _open_door(self, name: str, rooms: tuple[Path, ...]) -> None:
        endpoints = self.record.endpoints
        options = [option for room in rooms for option in ("--in", str(room))]
        for url, inner in ((endpoints.kube, KUBE_PORT), (endpoints.ec2, EC2_PORT)):
            options += ["--door", f"{url.rpartition('/')[2]}={CONTROL_ADDRESS}:{inner}"]
        command = [sys.executable, "-m", "enitide_lab.fabric.door", "--netns", str(self.paths.fabric), *options]
        self.start(name, command, cgroup="control/door")

    def start_fabric(self, options: LabOptions) -> None:
        """The VPC's router follows EC2."""
        where = ["--endpoint", self.record.endpoints.ec2_nodes, "--namespaces", str(self.paths.namespaces)]
        delay = ["--appear-delay", str(options.appear_delay_s)]
        command = [sys.executable, "-m", "enitide_lab.fabric", *where, *delay]
        self.start("fabric", command, cgroup="control/fabric", netns=self.paths.fabric)

    def start_kubelet(self) -> None:
        """The kubelets of all nodes; in the fabric, from where the API server is reached."""
        command = [sys.executable, "-m", "enitide_lab.kubelet", "--lab", self.paths.name]
        self.start("kubelet", command, cgroup="control/kubelet", netns=self.paths.fabric)

    def start_operator(self) -> None:
        """`enitide operator`."""
        options = {
            "--kubeconfig": str(self.paths.credentials("operator")),
            "--cluster-name": self.paths.name,
            "--aws-region": self.record.region,
            "--aws-endpoint-url": self.record.endpoints.ec2_nodes,
            "--log-format": "json",
        }
        self.start("operator", _command("operator", options), cgroup="control/operator", netns=self.paths.fabric)

    def start_agent(self, node: NodeRecord) -> None:
        """`enitide agent` on its node."""
        folders = self.paths.node(node.name)
        options = {
            "--kubeconfig": str(self.paths.credentials("agent", node.name)),
            "--node-name": node.name,
            "--run-dir": str(folders.run_dir),
            "--pin-dir": str(folders.pin_dir),
            "--cgroup": str(self.node_cgroup(node)),
            "--cni-conf-dir": str(folders.cni_conf_dir),
            "--cni-bin-dir": str(folders.cni_bin_dir),
            "--cni-version": "1.1.0",  # the stand-in speaks it, and asks STATUS only of those that do
            "--log-format": "json",
        }
        name = f"agent/{node.name}"
        self.start(name, _command("agent", options), cgroup=f"nodes/{node.name}/agent", netns=self.netns(node))

    # --- places ----------------------------------------------------------------------------------------------

    def netns(self, node: NodeRecord) -> Path:
        """The node's network namespace."""
        return self.paths.namespaces / node.instance_id

    def node_cgroup(self, node: NodeRecord) -> Path:
        """The cgroup that is the root for everything on the node."""
        return Path(self.record.cgroup) / "nodes" / node.name

    def environment(self, node: NodeRecord) -> dict[str, str]:
        """What a foreign client needs to use the node, in its namespace or outside. The keys are an API."""
        folders = self.paths.node(node.name)
        return {
            "NETCONFPATH": str(folders.cni_conf_dir),
            "CNI_PATH": str(folders.cni_bin_dir),
            "ENITIDE_NETWORK": "enitide",
            "ENITIDE_NETNS": str(self.netns(node)),
            "ENITIDE_SOCKET": str(folders.socket),
            "KUBECONFIG": str(self.paths.kubeconfig),
            "AWS_ENDPOINT_URL": self.record.endpoints.ec2,
            "AWS_REGION": self.record.region,
        }


def _command(name: str, options: dict[str, str]) -> list[str]:
    return [enitide(), name, *(word for option in options.items() for word in option)]
