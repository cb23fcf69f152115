"""Whether this node and the ENINode it is about to write are the same machine. Pure.

One stolen node token must not aim the operator at other nodes: the Node's providerID, which the cloud's own controller
wrote, must name the instance that metadata speaks of.
"""

from __future__ import annotations

from enitide_api.errors import InstanceMismatch
from enitide_kube.objects import instance_of


def verify(provider_id: str, instance_id: str, node: str) -> None:
    """`InstanceMismatch` unless the Node's providerID names this instance."""
    named = instance_of(provider_id)
    if not named or named != instance_id:
        said = f"names instance {named}" if named else f"is {provider_id!r}, which names no EC2 instance"
        raise InstanceMismatch(
            f"Node {node}: spec.providerID {said}, but instance metadata says {instance_id}: nothing is published"
        )
