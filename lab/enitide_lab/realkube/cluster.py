"""A real cluster to work with: one that we start, or the one that `KUBECONFIG` names; only `origin` tells which.

`start_real` blocks for about ten seconds; asynchronous callers run it in a thread. What it starts ends with `stop`, at
the latest with this process; after a kill of the whole machine's session `stop_leftovers(directory)` cleans up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from enitide_api.errors import LabFailed
from enitide_lab.realkube import chart
from enitide_lab.realkube.access import NODES_GROUP, account_token, node_certificate
from enitide_lab.realkube.children import Children, stop_leftovers
from enitide_lab.realkube.control_plane import ControlPlane, exists
from enitide_lab.realkube.existing import bring_inside, rest_of
from enitide_lab.realkube.kubeconfig import write_kubeconfig, write_private
from enitide_lab.realkube.pki import Authority, Pair
from enitide_lab.realkube.programs import find_programs
from enitide_lab.realkube.relay import Relay
from enitide_lab.realkube.rest import Credentials, Rest

Role = Literal["operator", "agent", "kubelet"]


@dataclass(slots=True)
class RealCluster:
    """A running cluster.

    `kubeconfig` is the administrator's. `complete`: there are a controller manager and a scheduler, so Deployments get
    pods and pods get nodes. `origin` says in words what this cluster is.
    """

    directory: Path
    kubeconfig: Path
    admin: Rest
    origin: str
    complete: bool
    namespace: str = "kube-system"
    _authority: Authority | None = None
    _children: Children | None = None
    _relay: Relay | None = None
    _joined: set[str] = field(default_factory=set)
    _installed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self.admin.server

    def render_chart(self, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The objects that charts/enitide makes of `values` for this cluster."""
        version = self.admin.get("/version")["gitVersion"]
        return chart.render(self.namespace, values or {}, kube_version=version)

    def install_chart(self, values: Mapping[str, Any] | None = None, *, workloads: bool = False) -> None:
        """Render charts/enitide with helm and apply it; returns when its CRDs are served and its policy is enforced.

        Without `workloads` the Deployment and the DaemonSet are left out: in the lab their programs run as processes.
        """
        objects = self.render_chart(values)
        kept = objects if workloads else [item for item in objects if item["kind"] not in chart.WORKLOADS]
        ours = [item for item in kept if not chart.present(self.admin, item)]
        self._installed += ours
        chart.install(self.admin, kept)

    def kubeconfig_for(self, role: Role, *, node: str = "") -> Path:
        """A kubeconfig with the rights that `role` has in production; call it again after a Node was made anew.

        `operator`, `agent`: the chart's service accounts (install it first), the agent's token bound to Node `node`,
        which must exist. `kubelet`: the user of Node `node`, which need not exist yet.
        """
        if role != "operator" and not node:
            raise LabFailed(f"a kubeconfig for the {role} needs the name of its node")
        if role == "kubelet":
            user = f"system:node:{node}"
            return write_kubeconfig(
                self.directory / f"kubeconfig-kubelet-{node}",
                server=self.server,
                authority=self.admin.authority,
                user=user,
                pair=self._kubelet_pair(node),
                tls_server_name=self.admin.tls_server_name,
            )
        account = f"enitide-{role}"
        name = account if role == "operator" else f"{account}-{node}"
        token_file = self.directory / f"token-{name}"
        write_private(token_file, account_token(self.admin, self.namespace, account, node=node))
        return write_kubeconfig(
            self.directory / f"kubeconfig-{name}",
            server=self.server,
            authority=self.admin.authority,
            user=name,
            token_file=token_file,
            tls_server_name=self.admin.tls_server_name,
        )

    def rest_for(self, role: Role, *, node: str = "") -> Rest:
        """A client with the same rights as `kubeconfig_for`, for tests of those rights."""
        if role == "kubelet":
            pair = self._kubelet_pair(node)
            return self._rest(Credentials(pair.certificate, pair.key))
        return self._rest(Credentials(token=account_token(self.admin, self.namespace, f"enitide-{role}", node=node)))

    def _rest(self, credentials: Credentials) -> Rest:
        admin = self.admin
        return Rest(admin.server, admin.authority, credentials, admin.netns, admin.tls_server_name)

    def _kubelet_pair(self, node: str) -> Pair:
        """Signed by our CA; in an existing cluster by that cluster, on request."""
        if self._authority is None:
            if not exists(self.admin, f"/api/v1/nodes/{node}"):
                self._joined.add(node)
            return node_certificate(self.admin, self.directory / "pki", node)
        return self._authority.issue(f"kubelet-{node}", f"system:node:{node}", (NODES_GROUP,))

    def pids(self) -> dict[str, int]:
        """The programs that we started for it, by name."""
        return {} if self._children is None else self._children.pids()

    def stop(self) -> None:
        """End what we started; in an existing cluster, remove what we brought. Safe to repeat."""
        if self._children is not None:
            self._children.stop()
        else:
            nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}} for node in self._joined]
            chart.uninstall(self.admin, [*self._installed, *nodes])
        if self._relay is not None:
            self._relay.close()
        self._installed = []
        self._joined.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_real(
    directory: Path,
    *,
    listen_address: str = "127.0.0.1",
    port: int = 0,
    netns: Path | None = None,
    server_names: Sequence[str] = (),
    die_with_parent: bool = True,
    environ: Mapping[str, str] | None = None,
) -> RealCluster:
    """Start a control plane whose files and logs are in `directory`, or take the one that `KUBECONFIG` names.

    `netns` is the path of the network namespace it runs in; `listen_address` an address there; `server_names` more
    names or addresses by which clients call it (for its certificate). An existing cluster appears at that address of
    `netns` too. `environ` (default: ours) is asked for
    `KUBECONFIG` and `KUBEBUILDER_ASSETS`. `LabFailed`: what is missing, or the end of the log of what failed; then
    nothing is left running.
    """
    environment = os.environ if environ is None else environ
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    existing = environment.get("KUBECONFIG", "")
    if existing:
        return _existing(directory, Path(existing).resolve(), netns, listen_address, port)
    programs = find_programs(environment)
    stop_leftovers(directory)
    _refuse_old_state(directory)
    children = Children(directory, netns, die_with_parent)
    plane = ControlPlane(directory, programs, children, listen_address, server_names, netns)
    try:
        plane.start(port)
    except BaseException:
        children.stop()
        raise
    kubeconfig = directory / "kubeconfig-admin"
    return RealCluster(
        directory,
        kubeconfig,
        plane.admin(),
        programs.origin,
        programs.complete,
        _authority=plane.authority,
        _children=children,
    )


def _existing(directory: Path, kubeconfig: Path, netns: Path | None, address: str, port: int) -> RealCluster:
    origin = f"the cluster of KUBECONFIG={kubeconfig}"
    admin = rest_of(kubeconfig, directory)
    if netns is None:
        return RealCluster(directory, kubeconfig, admin, origin, complete=True)
    admin, inside, relay = bring_inside(admin, kubeconfig, directory, netns=netns, address=address, port=port)
    return RealCluster(directory, inside, admin, origin, complete=True, _relay=relay)


def _refuse_old_state(directory: Path) -> None:
    if (directory / "etcd").exists():
        raise LabFailed(f"{directory} holds the data of an earlier cluster: remove it, or name another folder")
