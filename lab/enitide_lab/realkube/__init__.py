"""The real Kubernetes control plane for the lab and the tests; see `lab/kubernetes/README.md`.

`start_real` gives a running cluster (or the one that `KUBECONFIG` names), `attach_real` one that another process runs
(`python -m enitide_lab.realkube run`), `RealCluster` what can be done with it.
"""

from enitide_lab.realkube.children import stop_leftovers
from enitide_lab.realkube.cluster import RealCluster, attach_real, start_real
from enitide_lab.realkube.programs import why_unavailable

__all__ = ["RealCluster", "attach_real", "start_real", "stop_leftovers", "why_unavailable"]
