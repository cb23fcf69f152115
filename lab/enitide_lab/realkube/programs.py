"""Which programs make the control plane: those of `KUBEBUILDER_ASSETS`, else the distribution's etcd and our build.

Decided once, before anything is started, so that a missing program is reported before half a cluster runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enitide_api.errors import LabFailed
from enitide_lab.realkube.build import KUBE, built, ensure_built, why_not_buildable


@dataclass(frozen=True, slots=True)
class Programs:
    """Command prefixes. `controller_manager` and `scheduler` are empty where the assets have none."""

    etcd: tuple[str, ...]
    apiserver: tuple[str, ...]
    controller_manager: tuple[str, ...]
    scheduler: tuple[str, ...]
    origin: str

    @property
    def complete(self) -> bool:
        """Whether Deployments get pods and pods get nodes here."""
        return bool(self.controller_manager and self.scheduler)


def find_programs(environ: Mapping[str, str]) -> Programs:
    """The programs, built first if they have to be. `LabFailed` names what is missing."""
    assets = environ.get("KUBEBUILDER_ASSETS", "")
    if assets:
        return _from_assets(Path(assets))
    etcd = shutil.which("etcd")
    if etcd is None:
        raise LabFailed(
            "etcd is not installed: install the package etcd-server, or set KUBECONFIG or KUBEBUILDER_ASSETS"
        )
    kube = str(ensure_built(KUBE))
    return Programs(
        (etcd,),
        (kube, "kube-apiserver"),
        (kube, "kube-controller-manager"),
        (kube, "kube-scheduler"),
        f"built from lab/kubernetes ({kube})",
    )


def why_unavailable(environ: Mapping[str, str], *, may_build: bool = False) -> str:
    """Why no real control plane can be had here, or ''. Without `may_build` one not yet built counts as absent."""
    if environ.get("KUBECONFIG") or environ.get("KUBEBUILDER_ASSETS"):
        return ""
    if shutil.which("etcd") is None:
        return "etcd is not installed (package etcd-server)"
    if built(KUBE) is not None:
        return ""
    if not may_build:
        return "the control plane is not built yet (`make test-real` builds it)"
    return why_not_buildable()


def _from_assets(folder: Path) -> Programs:
    found = {name: folder / name for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")}
    missing = [name for name in ("etcd", "kube-apiserver") if not found[name].exists()]
    if missing:
        raise LabFailed(f"KUBEBUILDER_ASSETS={folder} holds no {' and no '.join(missing)}")
    command = {name: (str(path.resolve()),) if path.exists() else () for name, path in found.items()}
    return Programs(
        command["etcd"],
        command["kube-apiserver"],
        command["kube-controller-manager"],
        command["kube-scheduler"],
        f"KUBEBUILDER_ASSETS={folder}",
    )
