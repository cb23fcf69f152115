"""Which nodes say that they run on the same instance. Only one can be right, and nothing here tells which.

A claim counts only where Node and ENINode agree on the instance: an ENINode alone, which an agent can write, keeps
nobody from anything. While two such nodes name one instance, neither is acted on.
"""

from __future__ import annotations

from collections.abc import Callable


class Claims:
    """Instance ids by node and nodes by instance id. `on_change(node)`: the node's rivals are others than before."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._instances: dict[str, str] = {}
        self._nodes: dict[str, set[str]] = {}

    def update(self, node: str, instance_id: str) -> None:
        """What the node claims now; '' for nothing."""
        before = self._instances.get(node, "")
        if before == instance_id:
            return
        others = self._leave(node, before) | self._nodes.get(instance_id, set())
        if instance_id:
            self._instances[node] = instance_id
            self._nodes.setdefault(instance_id, set()).add(node)
        for each in sorted(others - {node}):
            self._on_change(each)

    def rivals(self, node: str) -> tuple[str, ...]:
        """Other nodes that claim the same instance, by name."""
        return tuple(sorted(self._nodes.get(self._instances.get(node, ""), set()) - {node}))

    def _leave(self, node: str, instance_id: str) -> set[str]:
        self._instances.pop(node, None)
        members = self._nodes.get(instance_id, set())
        members.discard(node)
        if not members:
            self._nodes.pop(instance_id, None)
        return set(members)
