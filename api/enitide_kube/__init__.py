"""enitide_kube."""
