"""A SecurityIdentity object and the labels it stands for, each from the other; and what of a pod makes its identity."""

from __future__ import annotations

from enitide_api.resources import IdentityKeys, NamedPort, SecurityIdentity, SecurityIdentitySpec
from enitide_policy.labels import IdentityLabels, Relevance


def spec_of(labels: IdentityLabels, number: int) -> SecurityIdentitySpec:
    """What the object says of these labels."""
    return SecurityIdentitySpec(
        id=number,
        namespace=labels.namespace,
        service_account=labels.service_account,
        pod_labels=labels.pod_labels,
        namespace_labels=dict(labels.namespace_labels),
        ports=tuple(NamedPort(name=name, protocol=protocol, number=port) for name, protocol, port in labels.ports),
    )


def labels_of(spec: SecurityIdentitySpec) -> IdentityLabels:
    """The labels that an object stands for."""
    return IdentityLabels(
        namespace=spec.namespace,
        service_account=spec.service_account,
        pod=tuple(sorted(spec.pod_labels.items())),
        namespace_labels=tuple(sorted(spec.namespace_labels.items())),
        ports=tuple(sorted((each.name, each.protocol, each.number) for each in spec.ports)),
    )


def is_genuine(identity: SecurityIdentity) -> bool:
    """Whether its name is the one that its labels make; another object was not written by an operator."""
    return identity.metadata.name == labels_of(identity.spec).object_name()


def keys_of(relevance: Relevance) -> IdentityKeys:
    """What the batch `keys` says of these keys."""
    return IdentityKeys(
        pod_labels=tuple(sorted(relevance.pod_keys)),
        namespace_labels=tuple(sorted(relevance.namespace_keys)),
        port_names=tuple(sorted(relevance.port_names)),
        service_account=relevance.service_account,
    )


def relevance_of_keys(keys: IdentityKeys) -> Relevance:
    """The inverse of `keys_of`."""
    return Relevance(
        frozenset(keys.pod_labels), frozenset(keys.namespace_labels), frozenset(keys.port_names), keys.service_account
    )
