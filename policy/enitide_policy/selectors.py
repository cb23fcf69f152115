"""Label selectors over identities, in one canonical form.

The facts about a pod share one flat name space, so that no pod can name itself into another namespace: `pod:KEY` its
labels, `ns:KEY` its namespace's labels, `port:NAME` its named ports, `namespace` and `serviceaccount` their names.
Selectors of Kubernetes and of Cilium become the same requirements; equal selectors have equal text. Nodes that
policies select are selected by `node:KEY`, their own labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from enitide_policy.labels import METADATA_NAME, IdentityLabels

NAMESPACE = "namespace"
SERVICE_ACCOUNT = "serviceaccount"
POD = "pod:"
NAMESPACE_LABEL = "ns:"
PORT = "port:"
NODE_LABEL = "node:"


class Operator(StrEnum):
    """As in Kubernetes; `NotIn` and `DoesNotExist` also hold where the key is absent."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One condition on one key. `values` is sorted and empty for the two operators that take none."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Of the flat labels of a pod."""
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value is not None and value in self.values
        if self.operator is Operator.NOT_IN:
            return value is None or value not in self.values
        return (value is not None) == (self.operator is Operator.EXISTS)

    def __str__(self) -> str:
        if self.operator is Operator.EXISTS:
            return self.key
        if self.operator is Operator.DOES_NOT_EXIST:
            return f"!{self.key}"
        if self.operator is Operator.IN and len(self.values) == 1:
            return f"{self.key}={self.values[0]}"
        return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; none at all selects every pod. Build with `selector()`, which makes it canonical."""

    requirements: tuple[Requirement, ...] = ()
    text: str = field(default="", compare=False)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the pod with these flat labels is selected."""
        return all(requirement.holds(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        return self.text or "*"


def selector(requirements: Iterable[Requirement]) -> Selector:
    """The canonical selector: sorted, each requirement once."""
    unique = tuple(sorted(set(requirements)))
    return Selector(unique, ", ".join(str(r) for r in unique))


def equals(key: str, value: str) -> Requirement:
    """`key` must have exactly this value."""
    return Requirement(key, Operator.IN, (value,))


def in_namespace(name: str) -> Requirement:
    """Pods of one namespace."""
    return equals(NAMESPACE, name)


def namespace_key(label: str) -> str:
    """The flat key of a namespace's label. The label that follows from the name is the name."""
    return NAMESPACE if label == METADATA_NAME else NAMESPACE_LABEL + label


def flat_node(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What selectors of nodes see of a node."""
    return {NODE_LABEL + key: value for key, value in labels}


def flat(labels: IdentityLabels) -> dict[str, str]:
    """What selectors see of an identity."""
    found = {POD + key: value for key, value in labels.pod}
    found.update((NAMESPACE_LABEL + key, value) for key, value in labels.namespace_labels)
    found.update((PORT + name, f"{number}/{protocol}") for name, protocol, number in labels.ports)
    found[NAMESPACE] = labels.namespace
    if labels.service_account:
        found[SERVICE_ACCOUNT] = labels.service_account
    return found
