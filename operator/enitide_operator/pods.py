"""How many pods bound to each node want an address: counted by difference, so that one pod's change costs one node.

A pod is kept as seven short fields (no labels): with 100,000 pods the operator must stay small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from enitide_kube.objects import PodSpec, Slim, wants_address


class PodMeta(Slim, frozen=True, kw_only=True):
    """What a reflector needs of a pod's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class PodPhase(Slim, frozen=True, kw_only=True):
    """Whether it has ended."""

    phase: str = ""


class SlimPod(Slim, frozen=True, kw_only=True):
    """A pod as this operator keeps it."""

    metadata: PodMeta = PodMeta()
    spec: PodSpec = PodSpec()
    status: PodPhase = PodPhase()

    @property
    def wants_on(self) -> str:
        """The node on which it holds or wants an address; '' for none: not bound, host network, or ended."""
        return self.spec.node_name if wants_address(self.spec, self.status.phase) else ""


_DECODER = msgspec.json.Decoder(SlimPod)


def decode_slim(raw: bytes) -> SlimPod:
    """A pod's bytes."""
    return _DECODER.decode(raw)


class BoundPods:
    """`on_change` is a reflector's callback; `on_count(node)` is told when a node's number changes."""

    def __init__(self, on_count: Callable[[str], None]) -> None:
        self._counts: Counter[str] = Counter()
        self._on_count = on_count

    def count(self, node: str) -> int:
        """Non-terminal pods bound to the node that are not in the host's network."""
        return self._counts[node]

    def on_change(self, _key: str, old: SlimPod | None, new: SlimPod | None) -> None:
        """One pod came, changed or went."""
        before = old.wants_on if old is not None else ""
        after = new.wants_on if new is not None else ""
        if before == after:
            return
        if before:
            self._counts[before] -= 1
            if not self._counts[before]:
                del self._counts[before]
            self._on_count(before)
        if after:
            self._counts[after] += 1
            self._on_count(after)
