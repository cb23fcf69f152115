"""What makes an identity: the labels of a pod and its namespace that some policy can see, in one canonical form.

Two pods whose relevant labels are equal have one identity. Relevant is what a policy or a setting names, nothing else:
a label that no policy can ask for would only multiply identities. Operator (allocation) and agent (look-up) call the
same functions, so both find the same identity for the same pod.

The namespace's name is always part. The label `kubernetes.io/metadata.name` follows from it and is left out. Container
ports are part as far as a policy names them, so that a named port has one number for each identity.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

METADATA_NAME = "kubernetes.io/metadata.name"
_NAME_LENGTH = 32  # characters of base32: 160 bits, so that nobody finds two label sets of one name

Pairs = tuple[tuple[str, str], ...]
Ports = tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True, order=True)
class IdentityLabels:
    """One identity's labels, sorted. `ports`: (name, protocol, number) of named container ports.

    `service_account` is empty where no policy asks for it.
    """

    namespace: str
    service_account: str = ""
    pod: Pairs = ()
    namespace_labels: Pairs = ()
    ports: Ports = ()

    @property
    def pod_labels(self) -> dict[str, str]:
        """Relevant labels of the pod."""
        return dict(self.pod)

    @property
    def all_namespace_labels(self) -> dict[str, str]:
        """Relevant labels of the namespace, with the one that follows from its name."""
        return {**dict(self.namespace_labels), METADATA_NAME: self.namespace}

    def key(self) -> str:
        """The canonical text: equal for equal labels, different for different ones."""
        parts = [self.namespace, self.service_account, self.pod, self.namespace_labels, self.ports]
        return json.dumps(parts, separators=(",", ":"), ensure_ascii=True)

    def object_name(self) -> str:
        """Name of the SecurityIdentity: whoever makes one for these labels makes this one; a conflict is adoption."""
        digest = hashlib.sha256(self.key().encode()).digest()
        return base64.b32encode(digest).decode().lower()[:_NAME_LENGTH]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class PodFacts:
    """What of a pod can become part of its identity. `ports`: named container ports."""

    namespace: str
    service_account: str = "default"
    labels: Pairs = ()
    ports: Ports = ()


@dataclass(frozen=True, slots=True)
class Relevance:
    """Which keys policies and settings name. `service_account`: some policy selects by it."""

    pod_keys: frozenset[str] = frozenset()
    namespace_keys: frozenset[str] = frozenset()
    port_names: frozenset[str] = frozenset()
    service_account: bool = False

    def __or__(self, other: Relevance) -> Relevance:
        return Relevance(
            self.pod_keys | other.pod_keys,
            self.namespace_keys | other.namespace_keys,
            self.port_names | other.port_names,
            self.service_account or other.service_account,
        )

    def __and__(self, other: Relevance) -> Relevance:
        return Relevance(
            self.pod_keys & other.pod_keys,
            self.namespace_keys & other.namespace_keys,
            self.port_names & other.port_names,
            self.service_account and other.service_account,
        )

    def of(self, pod: PodFacts, namespace_labels: Mapping[str, str]) -> IdentityLabels:
        """The labels of this pod's identity."""
        return IdentityLabels(
            namespace=pod.namespace,
            service_account=pod.service_account if self.service_account else "",
            pod=tuple(sorted(pair for pair in pod.labels if pair[0] in self.pod_keys)),
            namespace_labels=tuple(
                sorted((key, namespace_labels[key]) for key in self.namespace_keys & namespace_labels.keys())
            ),
            ports=tuple(sorted(port for port in pod.ports if port[0] in self.port_names)),
        )


def union(parts: Iterable[Relevance]) -> Relevance:
    """All of them together."""
    found = Relevance()
    for part in parts:
        found |= part
    return found
