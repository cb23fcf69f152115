"""The real Kubernetes control plane for the lab and the tests; see `lab/kubernetes/README.md`.

`start_real` gives a running cluster (or the one that `KUBECONFIG` names), `RealCluster` what can be done with it.
"""

from enitide_lab.realkube.children import stop_leftovers
from enitide_lab.realkube.cluster import RealCluster, start_real
from enitide_lab.realkube.programs import why_unavailable

__all__ = ["RealCluster", "start_real", "stop_leftovers", "why_unavailable"]
