"""`python -m enitide_lab.up.realplane --lab NAME`: the real control plane as one program of a lab.

It runs in the lab's cgroup like everything else and holds what `start_real` starts. When the API server answers it
installs the chart, and then hands out credentials as files: the operator's, each node's kubelet, and each agent's as
soon as its Node exists, because an agent's token is bound to it. A lab always has its own cluster: its nodes can reach
no other, so `KUBECONFIG` is not looked at.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import click
import yaml

from enitide_api.errors import KubeNotFound
from enitide_api.logging import configure, get_logger
from enitide_lab.fabric.router import CONTROL_ADDRESS
from enitide_lab.house import record
from enitide_lab.house.layout import LabPaths, lab_paths
from enitide_lab.realkube import RealCluster, start_real
from enitide_lab.up.running import KUBE_PORT

_POLL_S = 0.3
log = get_logger(__name__)


def hand_out(source: Path, target: Path) -> None:
    """Put a kubeconfig where the lab expects it, whole and with absolute paths."""
    unfinished = target.with_suffix(".unfinished")
    document = yaml.safe_load(source.read_text())
    for section in ("clusters", "users"):
        for entry in document[section]:
            _absolute(next(value for key, value in entry.items() if key != "name"), source.parent)
    unfinished.touch(mode=0o600)
    unfinished.write_text(yaml.safe_dump(document, sort_keys=False))
    unfinished.rename(target)


def _absolute(entry: dict[str, str], folder: Path) -> None:
    for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        if key in entry:
            entry[key] = str((folder / entry[key]).resolve())


def serve(paths: LabPaths, cluster: RealCluster, ended: threading.Event) -> None:
    """Hand out what can be handed out, until ended."""
    cluster.install_chart()
    hand_out(cluster.kubeconfig_for("operator"), paths.credentials("operator"))
    missing: set[str] | None = None
    while not ended.wait(_POLL_S):
        if missing is None and (nodes := record.read(paths).nodes):
            for node in nodes:
                hand_out(cluster.kubeconfig_for("kubelet", node=node.name), paths.credentials("kubelet", node.name))
            missing = {node.name for node in nodes}
            hand_out(cluster.kubeconfig, paths.node_kubeconfig)
        for name in sorted(missing or ()):
            try:
                hand_out(cluster.kubeconfig_for("agent", node=name), paths.credentials("agent", name))
            except KubeNotFound:
                continue  # its kubelet has not registered it yet
            log.info("credentials of the agent handed out", node=name)
            assert missing is not None
            missing.discard(name)


@click.command()
@click.option("--lab", "name", required=True, help="Name of the lab.")
def main(name: str) -> None:
    """Run until ended."""
    configure("info", component="kubernetes")
    paths = lab_paths(name)
    folder = paths.control / "kubernetes"
    shutil.rmtree(folder, ignore_errors=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with start_real(
        folder,
        listen_address=CONTROL_ADDRESS,
        port=KUBE_PORT,
        netns=paths.fabric,
        server_names=["127.0.0.1", "localhost"],
        environ={key: value for key, value in os.environ.items() if key != "KUBECONFIG"},
    ) as cluster:
        serve(paths, cluster, ended)


if __name__ == "__main__":
    main()
