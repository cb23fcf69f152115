"""Which identity each pod of this node has. Pure state: told by mirrors, asked by the life of a pod.

What the operator's records say of a pod counts. Before there is one, the identity is looked up by the pod's labels: the
operator made it when the pod was created, and both sides name it alike. So a pod never waits for its own record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from enitide_api.resources import SecurityIdentity
from enitide_kube.objects import Meta
from enitide_policy.identities import is_genuine, labels_of
from enitide_policy.labels import METADATA_NAME, IdentityLabels, PodFacts, Relevance
from enitide_policy.numbers import Reserved


@dataclass(frozen=True, slots=True)
class SlimIdentity:
    """A SecurityIdentity as it is kept. `labels` None: no operator wrote it."""

    metadata: Meta
    number: int
    retired: bool
    labels: IdentityLabels | None


_DECODER = msgspec.json.Decoder(SecurityIdentity)


def decode_identity(raw: bytes) -> SlimIdentity:
    """A SecurityIdentity's bytes."""
    found = _DECODER.decode(raw)
    meta = found.metadata
    slim = Meta(name=meta.name, uid=meta.uid, resource_version=meta.resource_version)
    labels = labels_of(found.spec) if is_genuine(found) else None
    return SlimIdentity(slim, found.spec.id, bool(found.status.retired), labels)


@dataclass(slots=True)
class Identities:
    """Identities in force, by number and by the name that their labels make.

    `learned(number, labels)`: one is there; `forgotten(number)`: one is gone or retired. `refused` counts objects that
    no operator wrote, and second claims to one number.
    """

    learned: Callable[[int, IdentityLabels], None]
    forgotten: Callable[[int], None]
    refused: int = 0
    by_name: dict[str, int] = field(default_factory=dict)
    labels: dict[int, IdentityLabels] = field(default_factory=dict)

    def on_object(self, name: str, _old: SlimIdentity | None, new: SlimIdentity | None) -> None:
        """For a reflector."""
        number = self.by_name.get(name)
        wanted = new.number if new is not None and not new.retired else None
        if wanted == number:
            return
        if number is not None:
            del self.by_name[name]
            del self.labels[number]
            self.forgotten(number)
        if new is None or wanted is None:
            return
        if new.labels is None or wanted in self.labels:
            self.refused += 1
            return
        self.by_name[name] = wanted
        self.labels[wanted] = new.labels
        self.learned(wanted, new.labels)


@dataclass(slots=True)
class OwnPods:
    """Pods of this node, by uid. `told(uid)`: the identity that the operator's records give, 0: none."""

    identities: Identities
    told: Callable[[str], int]
    namespaces: dict[str, Mapping[str, str]] = field(default_factory=dict)
    relevance: Relevance = field(default_factory=Relevance)
    _pods: dict[str, PodFacts] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)  # what its labels make, by uid; reckoned once

    def put(self, uid: str, facts: PodFacts | None) -> None:
        """A pod is bound here, changed, or (None) gone."""
        if facts is None:
            self._pods.pop(uid, None)
        else:
            self._pods[uid] = facts
        self._names.pop(uid, None)

    def set_relevance(self, relevance: Relevance) -> None:
        """Other keys count from now on."""
        self.relevance = relevance
        self._names.clear()

    def set_namespace(self, name: str, labels: Mapping[str, str] | None) -> None:
        """A namespace came, was relabelled, or (None) went."""
        if labels is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = labels
        for uid, facts in self._pods.items():
            if facts.namespace == name:
                self._names.pop(uid, None)

    def uids(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._pods)

    def labels_of(self, uid: str) -> IdentityLabels | None:
        """All labels of a pod, whatever counts; None while they are not all known."""
        facts = self._pods.get(uid)
        labels = self.namespaces.get(facts.namespace) if facts is not None else None
        if facts is None or labels is None:
            return None
        others = tuple(sorted((key, value) for key, value in labels.items() if key != METADATA_NAME))
        return IdentityLabels(facts.namespace, facts.service_account, facts.labels, others, facts.ports)

    def identity_of(self, uid: str) -> int:
        """0: not known yet."""
        told = self.told(uid)
        if told in self.identities.labels:
            return told
        return self.identities.by_name.get(self._name(uid), Reserved.UNKNOWN)

    def _name(self, uid: str) -> str:
        """Name of the SecurityIdentity that the pod's labels make; '' while they are not all known."""
        name = self._names.get(uid)
        if name is None:
            facts = self._pods.get(uid)
            labels = self.namespaces.get(facts.namespace) if facts is not None else None
            if facts is None or labels is None:
                return ""
            name = self._names[uid] = self.relevance.of(facts, labels).object_name()
        return name

    def why_not(self, uid: str) -> str:
        """What is missing for its identity, as a sentence."""
        facts = self._pods.get(uid)
        if facts is None:
            return "the API server has not told this node of the pod yet"
        if facts.namespace not in self.namespaces:
            return f"the API server has not told this node of the namespace {facts.namespace} yet"
        missing = f"the operator has not made the SecurityIdentity {self._name(uid)} of its labels yet"
        return f"{missing}; it makes none where its setting policy is off: operator and agents need the same"
