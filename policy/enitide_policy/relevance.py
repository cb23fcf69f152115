"""Which labels, ports and service accounts a policy names, read from the object as it was written.

It knows where selectors stand, not what they mean: a part of a policy that the languages refuse still makes its keys
relevant, which costs at most an identity more. So a new field of a policy kind can never make an identity too coarse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from enitide_policy.labels import METADATA_NAME, Relevance, union
from enitide_policy.model import PodsPeer, Policy
from enitide_policy.selectors import NAMESPACE_LABEL, POD, SERVICE_ACCOUNT, Selector

# What a selector under this field speaks of; what stands elsewhere counts for both.
_OF_PODS = frozenset({"podSelector", "endpointSelector", "fromEndpoints", "toEndpoints"})
_OF_NAMESPACES = frozenset({"namespaceSelector", "namespaces"})
_OF_NODES = frozenset({"nodeSelector", "nodes", "fromNodes", "toNodes"})

_CILIUM_SOURCES = ("k8s:", "any:", "k8s.", "any.")
_CILIUM_NAMESPACE_LABEL = "io.cilium.k8s.namespace.labels."
_CILIUM_SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
_CILIUM_NAMES = frozenset({"io.kubernetes.pod.namespace", "io.cilium.k8s.policy.cluster", METADATA_NAME})
_PORT_FIELDS = frozenset({"port", "namedPort", "destinationNamedPort"})


def relevance_of(spec: Any) -> Relevance:
    """Of one policy: its `spec` (or `specs`) as decoded JSON."""
    return union(_walk(spec, ""))


def relevance_of_settings(entries: Iterable[str]) -> Relevance:
    """Of the setting `identityLabels`: a pod's label key, or `namespace:KEY` for a label of namespaces."""
    keys = tuple(entries)
    return Relevance(
        pod_keys=frozenset(key for key in keys if not key.startswith("namespace:")),
        namespace_keys=frozenset(key.removeprefix("namespace:") for key in keys if key.startswith("namespace:")),
    )


def relevance_of_policy(policy: Policy, services: Iterable[Selector] = ()) -> Relevance:
    """Of a policy in the model, exactly. `services`: what the Services that it names select."""
    selectors = [policy.subject, *services]
    names: set[str] = set()
    for rule in policy.rules:
        selectors += [peer.selector for peer in rule.peers if isinstance(peer, PodsPeer)]
        names.update(l4.name for l4 in rule.l4 if l4.name)
    return union([*map(_of_flat, selectors), Relevance(port_names=frozenset(names))])


def _of_flat(selector: Selector) -> Relevance:
    keys = {requirement.key for requirement in selector.requirements}
    return Relevance(
        pod_keys=frozenset(key.removeprefix(POD) for key in keys if key.startswith(POD)),
        namespace_keys=frozenset(key.removeprefix(NAMESPACE_LABEL) for key in keys if key.startswith(NAMESPACE_LABEL)),
        service_account=SERVICE_ACCOUNT in keys,
    )


def _walk(value: Any, field: str) -> Iterable[Relevance]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _walk(each, field)
    elif isinstance(value, Mapping):
        if "matchLabels" in value or "matchExpressions" in value:
            yield _of_selector(value, field)
        for name, inner in value.items():
            if name in _PORT_FIELDS and isinstance(inner, str) and inner and not inner.isdigit():
                yield Relevance(port_names=frozenset({inner.lower()}))
            elif name not in ("matchLabels", "matchExpressions"):
                yield from _walk(inner, name)


def _of_selector(selector: Mapping[str, Any], field: str) -> Relevance:
    keys = {str(key) for key in _mapping(selector.get("matchLabels"))}
    expressions = selector.get("matchExpressions")
    for each in expressions if isinstance(expressions, list | tuple) else ():
        keys.add(str(_mapping(each).get("key", "")))
    if field in _OF_NODES:
        return Relevance()
    return union(_of_key(key, field) for key in keys if key)


def _of_key(key: str, field: str) -> Relevance:
    for source in _CILIUM_SOURCES:
        key = key.removeprefix(source)
    if key.startswith("reserved") or key in _CILIUM_NAMES:
        return Relevance()
    if key == _CILIUM_SERVICE_ACCOUNT:
        return Relevance(service_account=True)
    if key.startswith(_CILIUM_NAMESPACE_LABEL):
        return Relevance(namespace_keys=frozenset({key.removeprefix(_CILIUM_NAMESPACE_LABEL)}) - _CILIUM_NAMES)
    pods, namespaces = field not in _OF_NAMESPACES, field not in _OF_PODS
    return Relevance(
        pod_keys=frozenset({key}) if pods else frozenset(),
        namespace_keys=frozenset({key}) if namespaces else frozenset(),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
