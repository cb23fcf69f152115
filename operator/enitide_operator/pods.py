"""Pods as the operator keeps them, and how many of each node want an address.

A pod is kept as seven short fields and one reference: pods of one template share what can make an identity (labels,
service account, named ports), so that the operator stays small with 100,000 pods. Counts are kept by difference: one
pod's change costs one node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from sys import intern
from weakref import WeakValueDictionary

import msgspec

from enitide_kube.objects import TERMINAL_PHASES, Container, PodSpec, Slim, named_ports, wants_address
from enitide_policy.labels import PodFacts


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
    facts: PodFacts = PodFacts("")

    @property
    def wants_on(self) -> str:
        """The node on which it holds or wants an address; '' for none: not bound, host network, or ended."""
        return self.spec.node_name if wants_address(self.spec, self.status.phase) else ""

    @property
    def wants_identity(self) -> bool:
        """From its creation to its end; a pod in the host's network has its node's."""
        return not self.spec.host_network and self.status.phase not in TERMINAL_PHASES


class _WireSpec(Slim, frozen=True, kw_only=True):
    node_name: str = ""
    host_network: bool = False
    service_account_name: str = "default"
    containers: tuple[Container, ...] = ()


class _WireMeta(PodMeta, frozen=True, kw_only=True):
    labels: dict[str, str] | None = None


class _WirePod(Slim, frozen=True, kw_only=True):
    metadata: _WireMeta = _WireMeta()
    spec: _WireSpec = _WireSpec()
    status: PodPhase = PodPhase()


_DECODER = msgspec.json.Decoder(_WirePod)
_KNOWN: WeakValueDictionary[PodFacts, PodFacts] = WeakValueDictionary()


def decode_slim(raw: bytes) -> SlimPod:
    """A pod's bytes."""
    wire = _DECODER.decode(raw)
    meta, spec = wire.metadata, wire.spec
    facts = PodFacts(
        namespace=intern(meta.namespace),
        service_account=intern(spec.service_account_name),
        labels=tuple(sorted((intern(key), intern(value)) for key, value in (meta.labels or {}).items())),
        ports=named_ports(spec.containers),
    )
    return SlimPod(
        metadata=PodMeta(
            name=meta.name, namespace=facts.namespace, uid=meta.uid, resource_version=meta.resource_version
        ),
        spec=PodSpec(node_name=intern(spec.node_name), host_network=spec.host_network),
        status=wire.status,
        facts=_KNOWN.setdefault(facts, facts),
    )


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
