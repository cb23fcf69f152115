"""The four programs of a control plane: their flags, the order they start in, and when they count as ready.

As in production and unlike most test set-ups: TLS everywhere but between API server and its etcd (a Unix socket in a
private folder), Node and RBAC authorisation, NodeRestriction, service accounts with signed tokens, and each controller
with its own service account. Nothing is connected here that production separates.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from enitide_api.errors import KubeError, LabFailed
from enitide_lab.realkube.children import Children
from enitide_lab.realkube.kubeconfig import write_kubeconfig
from enitide_lab.realkube.netns import free_port
from enitide_lab.realkube.pki import Authority
from enitide_lab.realkube.programs import Programs
from enitide_lab.realkube.rest import Credentials, Rest

ADMIN_GROUP = "system:masters"
SERVICE_CIDR = "172.20.0.0/16"  # what EKS uses beside a 10.0.0.0/8 VPC
_ETCD = "unix://etcd.sock:0"  # relative to the working directory: a socket's path may be at most 107 bytes long
_ETCD_PEER = "unix://etcd-peer.sock:0"
_READY_WITHIN_S = 90.0
_POLL_S = 0.1
_PORT_ATTEMPTS = 3


@dataclass(slots=True)
class ControlPlane:
    """What runs in `directory`; `server` is its URL once `start` has returned."""

    directory: Path
    programs: Programs
    children: Children
    listen_address: str
    server_names: Sequence[str]
    netns: Path | None
    server: str = ""
    authority: Authority = field(init=False)

    def __post_init__(self) -> None:
        self.authority = Authority(self.directory / "pki")

    def start(self, port: int) -> None:
        """Start everything and return when it is ready. `port` 0 chooses a free one. `LabFailed` with a log's end."""
        self.authority.create()
        names = ("kubernetes", "kubernetes.default.svc", "localhost", "127.0.0.1", self.listen_address)
        self.authority.issue("apiserver", "kube-apiserver", hosts=tuple(dict.fromkeys((*names, *self.server_names))))
        self.children.start("etcd", (*self.programs.etcd, *_etcd_flags()))
        self._start_apiserver(port)
        for name, command, user in (
            ("controller-manager", self.programs.controller_manager, "system:kube-controller-manager"),
            ("scheduler", self.programs.scheduler, "system:kube-scheduler"),
        ):
            if command:
                kubeconfig = self.write_user(name, user)
                flags = self._manager_flags() if name == "controller-manager" else ()
                common = (f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0")
                self.children.start(name, (*command, *common, *flags))
        if self.programs.controller_manager:
            self._wait_for_default_accounts()

    def write_user(self, file: str, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig with a new client certificate of `user`."""
        pair = self.authority.issue(file, user, groups)
        path = self.directory / f"kubeconfig-{file}"
        return write_kubeconfig(
            path, server=self.server, authority=self.authority.pair.certificate, user=user, pair=pair
        )

    def admin(self) -> Rest:
        """The administrator's client; its certificate is made by `start`."""
        pki = self.authority.directory
        credentials = Credentials(pki / "admin.crt", pki / "admin.key")
        return Rest(self.server, self.authority.pair.certificate, credentials, self.netns)

    def _start_apiserver(self, port: int) -> None:
        attempts = 1 if port else _PORT_ATTEMPTS
        for attempt in range(1, attempts + 1):
            chosen = port or free_port(self.netns, self.listen_address)
            host = f"[{self.listen_address}]" if ":" in self.listen_address else self.listen_address
            self.server = f"https://{host}:{chosen}"
            self.write_user("admin", "admin", (ADMIN_GROUP,))
            self.children.start("apiserver", (*self.programs.apiserver, *self._apiserver_flags(chosen)))
            try:
                self._wait_until_ready()
            except LabFailed:
                if attempt == attempts or self.children.alive("apiserver"):
                    raise
            else:
                return

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            self.children.require_alive("etcd")
            self.children.require_alive("apiserver")
            try:
                return self.admin().raw("GET", "/readyz")[0] == 200
            except KubeError:
                return False

        wait_for(ready, _READY_WITHIN_S, f"the API server is not ready; see {self.children.log('apiserver')}")

    def _wait_for_default_accounts(self) -> None:
        """Pods are refused until their namespace has its service account, which the controller manager makes."""

        def present() -> bool:
            self.children.require_alive("controller-manager")
            return exists(self.admin(), "/api/v1/namespaces/default/serviceaccounts/default")

        log = self.children.log("controller-manager")
        wait_for(present, _READY_WITHIN_S, f"the controller manager made no service account; see {log}")

    def _apiserver_flags(self, port: int) -> tuple[str, ...]:
        pki = self.authority.directory
        loopback = ipaddress.ip_address(self.listen_address).is_loopback
        return (
            f"--etcd-servers={_ETCD}",
            f"--bind-address={self.listen_address}",
            f"--advertise-address={self.listen_address}",
            # a loopback address may not stand in an EndpointSlice, so the service `kubernetes` then has none
            *(("--endpoint-reconciler-type=none",) if loopback else ()),
            f"--secure-port={port}",
            f"--tls-cert-file={pki / 'apiserver.crt'}",
            f"--tls-private-key-file={pki / 'apiserver.key'}",
            f"--client-ca-file={self.authority.pair.certificate}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={pki / 'service-account.key'}",
            f"--service-account-key-file={pki / 'service-account.key'}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--allow-privileged=true",
            "--profiling=false",
        )

    def _manager_flags(self) -> tuple[str, ...]:
        pki = self.authority.directory
        return (
            f"--service-account-private-key-file={pki / 'service-account.key'}",
            f"--root-ca-file={self.authority.pair.certificate}",
            f"--cluster-signing-cert-file={self.authority.pair.certificate}",
            f"--cluster-signing-key-file={self.authority.pair.key}",
            "--use-service-account-credentials=true",
            "--profiling=false",
        )


def wait_for(condition: Callable[[], bool], within_s: float, otherwise: str) -> None:
    """Return once `condition` holds; `LabFailed(otherwise)` if it does not in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabFailed(f"{otherwise} (waited {within_s:.0f} s)")
        time.sleep(_POLL_S)


def exists(rest: Rest, path: str) -> bool:
    """Whether there is an object at `path`; any refusal but 404 is raised."""
    code, payload = rest.raw("GET", path)
    if code not in (200, 404):
        raise LabFailed(f"GET {path}: {code} {payload}")
    return code == 200


def _etcd_flags() -> tuple[str, ...]:
    return (
        "--name=etcd",
        "--data-dir=etcd",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_ETCD_PEER}",
        f"--initial-advertise-peer-urls={_ETCD_PEER}",
        f"--initial-cluster=etcd={_ETCD_PEER}",
    )
