"""A stand-in for kubelet, container runtime and, beside the embedded API server, the scheduler."""
