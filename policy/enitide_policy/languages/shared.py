"""What the languages share: keys of labels, lists whose broken items close, policies whose subject is unknown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from enitide_api.reasons import Reason
from enitide_policy.languages.reading import Closed, Place
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import API_SERVER, CidrPeer, NodesPeer, PodsPeer, Policy, ReservedPeer, Rule
from enitide_policy.selectors import POD, selector

T = TypeVar("T")
_ANY_POD = PodsPeer(selector([]))


def pod_key(place: Place, label: str) -> str:
    """The flat key of a pod's label."""
    return POD + place.label_key(label)


def plain(place: Place, value: Any, known: str) -> tuple[dict[str, Any], bool]:
    """The known fields of a spec, and whether that was all of it: unknown ones are noted, the others stand."""
    try:
        return place.fields(value, known), True
    except Closed:
        names = known.split()
        rest = value.items() if isinstance(value, dict) else ()
        return {key: item for key, item in rest if key in names and item is not None}, False


def each(place: Place, value: Any, one: Callable[[Place, Any], list[T]]) -> tuple[T, ...]:
    """What `one` makes of each item. An item that is refused adds nothing."""
    found: list[T] = []
    with suppress(Closed):
        for at, item in place.items(value):
            with suppress(Closed):
                found += one(at, item)
    return tuple(found)


def note_nameless(place: Place, rule: Rule) -> Rule:
    """The rule; noted if it asks what can be no pod for a named port: names are pods', so that pair matches nothing."""
    names = sorted({one.name for one in rule.l4 if one.name})
    if not names or rule.direction is not Direction.EGRESS:
        return rule
    if any(isinstance(one, CidrPeer) and one.outside for one in rule.peers):
        whose = "what is outside the cluster has"
    elif _ANY_POD not in rule.peers and any(
        isinstance(one, NodesPeer | ReservedPeer) or one == API_SERVER for one in rule.peers
    ):
        whose = "nodes and what is outside the cluster have"
    else:
        return rule
    message = f"{whose} no port named {names[0]}: write a number, or select the pods by their labels"
    place.note(Reason.POLICY_UNSUPPORTED, message)
    return rule


def policy_rules(
    place: Place, value: Any, shell: Callable[[int], Rule], one: Callable[[Place, int, Any], Rule]
) -> list[Rule]:
    """The rules of one list in order; one that is refused is closed in its place.

    `shell(i)` has the direction and action of the i-th.
    """
    try:
        items = list(place.items(value))
    except Closed:
        return [shell(0).close()]
    rules = []
    for index, (at, item) in enumerate(items):
        try:
            rules.append(one(at, index, item))
        except Closed:
            rules.append(shell(index).close())
    return rules


def blind(policy: Policy) -> Policy:
    """The closed form of a policy whose subject is not understood: it is taken to select everything it could.

    Its Allow rules match nothing, so that nothing opens; Deny stays, and Pass denies what it would have passed.
    """

    def shut(rule: Rule) -> Rule:
        if rule.action is Action.ALLOW:
            return rule.close()
        return replace(rule, action=Action.DENY, closed=True)

    return replace(policy, rules=tuple(shut(rule) for rule in policy.rules))
