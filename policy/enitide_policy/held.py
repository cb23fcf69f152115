"""What a policy means while it names a label key to which identities are not cut yet: closed where that may matter.

An identity that lacks such a key may or may not fit a selector on it. Until the operator has announced the key, an
Allow takes in only what fits for certain, a Deny all that may fit, and a Pass, which could skip a Deny, denies those.
Pure. The rewritten selectors are ordinary ones, so the engine knows nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from enitide_policy.labels import METADATA_NAME, IdentityLabels, Relevance
from enitide_policy.mapstate import Action
from enitide_policy.model import L4, Peer, PodsPeer, Policy, Rule
from enitide_policy.selectors import (
    NAMESPACE_LABEL,
    POD,
    PORT,
    SERVICE_ACCOUNT,
    Operator,
    Requirement,
    Selector,
    equals,
    flat,
    selector,
)


def is_hidden(key: str, announced: Relevance) -> bool:
    """Whether identities may lack this flat key although their pods have it."""
    for prefix, known in (
        (POD, announced.pod_keys),
        (NAMESPACE_LABEL, announced.namespace_keys),
        (PORT, announced.port_names),
    ):
        if key.startswith(prefix):
            return key.removeprefix(prefix) not in known
    return key == SERVICE_ACCOUNT and not announced.service_account


def certain(wanted: Selector, announced: Relevance) -> Selector | None:
    """What fits whatever the keys that are not announced turn out to be; None: nothing can be known to fit."""
    more = []
    for each in wanted.requirements:
        if is_hidden(each.key, announced):
            if each.operator is Operator.DOES_NOT_EXIST:
                return None
            if each.operator is Operator.NOT_IN:
                more.append(Requirement(each.key, Operator.EXISTS))
    return selector((*wanted.requirements, *more)) if more else wanted


def possible(wanted: Selector, announced: Relevance) -> tuple[Selector, ...]:
    """Selectors that together take in all that may fit, and perhaps more."""
    known = [each for each in wanted.requirements if not is_hidden(each.key, announced)]
    must = [
        each.key
        for each in wanted.requirements
        if is_hidden(each.key, announced) and each.operator in (Operator.IN, Operator.EXISTS)
    ]
    lacking = (selector((*known, Requirement(key, Operator.DOES_NOT_EXIST))) for key in dict.fromkeys(must))
    return (wanted, *lacking)


def names_hidden(policy: Policy, announced: Relevance) -> bool:
    """Whether the policy names a key that identities may lack, in its subject, its peers or its ports."""
    rules = [policy.subject, *(peer.selector for rule in policy.rules for peer in _pods(rule))]
    keys = {each.key for selected in rules for each in selected.requirements}
    keys |= {PORT + one.name for rule in policy.rules for one in rule.l4 if one.name}
    return any(is_hidden(key, announced) for key in keys)


def _pods(rule: Rule) -> Iterator[PodsPeer]:
    return (peer for peer in rule.peers if isinstance(peer, PodsPeer))


def is_subject_held(policy: Policy, announced: Relevance) -> bool:
    """Whether it is not known yet which pods the policy selects."""
    return any(is_hidden(each.key, announced) for each in policy.subject.requirements)


def held(policies: Iterable[Policy], announced: Relevance | None, *, close: bool = False) -> tuple[Policy, ...]:
    """These policies as they may be in force.

    `announced` None: no operator says to which keys it cuts; labels are taken as they are. Pods of which it is not
    certain that a policy selects them are left out, or with `close` closed by it.
    """
    if announced is None:
        return tuple(policies)
    return tuple(each for policy in policies for each in _policy(policy, announced, close=close))


def selected_here(
    policies: Iterable[Policy], announced: Relevance, own: Sequence[tuple[IdentityLabels, IdentityLabels]]
) -> tuple[Policy, ...]:
    """What policies of uncertain subjects mean for the pods of this node, of which all labels are known.

    `own`: of each pod the labels of its identity, and all of them. Where pods of one identity differ, whoever shares it
    with one that is selected is selected too, until their identities are cut apart.
    """
    found: list[Policy] = []
    for policy in policies:
        if not is_subject_held(policy, announced):
            continue
        sure = certain(policy.subject, announced)
        rules = tuple(_rule(rule, announced) for rule in policy.rules)
        cuts = dict.fromkeys(cut for cut, whole in own if policy.subject.matches(flat(whole)))
        found += [
            replace(policy, subject=_exactly(cut, announced, policy.subject), rules=rules)
            for cut in cuts
            if sure is None or not sure.matches(flat(cut))
        ]
    return tuple(found)


def _exactly(cut: IdentityLabels, announced: Relevance, also: Selector) -> Selector:
    """Selects one identity: all that it has, and nothing that it could have and has not."""
    has = flat(cut)
    could = {POD + key for key in announced.pod_keys} | {PORT + name for name in announced.port_names}
    could |= {NAMESPACE_LABEL + key for key in announced.namespace_keys - {METADATA_NAME}}
    could |= {each.key for each in also.requirements}
    lacks = (Requirement(key, Operator.DOES_NOT_EXIST) for key in could - has.keys())
    return selector([*(equals(key, value) for key, value in has.items()), *lacks])


def held_peers(policies: Iterable[Policy], announced: Relevance) -> tuple[Policy, ...]:
    """These policies with the peers that their rules may mean; whom they select stays as it is.

    For peers that came of names of Services: what a policy says itself has been through `held`, and comes out the same.
    """
    return tuple(replace(each, rules=tuple(_rule(rule, announced) for rule in each.rules)) for each in policies)


def _policy(policy: Policy, announced: Relevance, *, close: bool) -> Iterator[Policy]:
    rules = tuple(_rule(rule, announced) for rule in policy.rules)
    said = policy if rules == policy.rules else replace(policy, rules=rules)
    if not is_subject_held(policy, announced):
        yield said
        return
    subject = certain(policy.subject, announced)
    if subject is not None:
        yield replace(said, subject=subject)
    if close:
        shut = tuple(rule for rule in rules if rule.action is Action.DENY)
        for wider in possible(policy.subject, announced):
            yield replace(said, subject=wider, rules=shut)


def _rule(rule: Rule, announced: Relevance) -> Rule:
    names = [one for one in rule.l4 if one.name and is_hidden(PORT + one.name, announced)]
    keys = {each.key for peer in _pods(rule) for each in peer.selector.requirements}
    if not names and not any(is_hidden(key, announced) for key in keys):
        return rule
    if rule.action is Action.ALLOW:
        return replace(rule, peers=tuple(_certain_peers(rule.peers, announced)))
    peers = tuple(_possible_peers(rule.peers, announced))
    return replace(rule, action=Action.DENY, peers=peers, l4=_every_port(rule, names))


def _every_port(rule: Rule, names: list[L4]) -> tuple[L4, ...]:
    """A port whose number is not known yet may be any."""
    if not names:
        return rule.l4
    return tuple(L4(one.protocol) if one in names else one for one in rule.l4)


def _certain_peers(peers: Iterable[Peer], announced: Relevance) -> Iterator[Peer]:
    for peer in peers:
        if not isinstance(peer, PodsPeer):
            yield peer
            continue
        fits = certain(peer.selector, announced)
        if fits is not None:
            yield peer if fits is peer.selector else PodsPeer(fits)


def _possible_peers(peers: Iterable[Peer], announced: Relevance) -> Iterator[Peer]:
    for peer in peers:
        if isinstance(peer, PodsPeer):
            yield from map(PodsPeer, possible(peer.selector, announced))
        else:
            yield peer
