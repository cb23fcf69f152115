"""Which labels, namespaces' labels, named ports and service accounts a policy asks for: what identities are made of."""

from __future__ import annotations

from collections.abc import Iterable

from enitide_policy.labels import Relevance, union
from enitide_policy.model import PodsPeer, Policy
from enitide_policy.selectors import NAMESPACE_LABEL, POD, SERVICE_ACCOUNT, Selector


def of_policy(policy: Policy, services: Iterable[Selector] = ()) -> Relevance:
    """Of its subject and all its rules. `services`: what the Services that it names select."""
    selectors = [policy.subject, *services]
    names: set[str] = set()
    for rule in policy.rules:
        selectors += [peer.selector for peer in rule.peers if isinstance(peer, PodsPeer)]
        names.update(l4.name for l4 in rule.l4 if l4.name)
    return union([*map(of_selector, selectors), Relevance(port_names=frozenset(names))])


def of_selector(selector: Selector) -> Relevance:
    """The keys of one selector."""
    keys = {requirement.key for requirement in selector.requirements}
    return Relevance(
        pod_keys=frozenset(key.removeprefix(POD) for key in keys if key.startswith(POD)),
        namespace_keys=frozenset(key.removeprefix(NAMESPACE_LABEL) for key in keys if key.startswith(NAMESPACE_LABEL)),
        service_account=SERVICE_ACCOUNT in keys,
    )
