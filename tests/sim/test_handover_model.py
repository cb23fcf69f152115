"""Every interleaving of the release hand-over, explored: no pod ever holds an address that EC2 has taken away.

The world is small (two single addresses of one ENI) but complete: the object in the API server, what EC2 has, what two
operators and the agent last saw, calls and writes that are still under way. Each step is one atomic thing that can
happen: a read, a write that is accepted or refused by its version, with its reply or without, a call that takes effect
late, a pod that comes or goes. A crash needs no step of its own: an operator keeps nothing but what it last saw (a
restart is a read, a leader change is the other operator acting on an old view), and the agent journals before it acts
(so that a restart is the same state, with its last write perhaps still under way).

The decisions are the real ones: `accept`, `unassign`, `choose`.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import NamedTuple

import pytest

from enitide_api.resources import ENINodeStatus, Interface, Reclaim
from enitide_ipam import handover
from enitide_ipam.handover import Idle
from enitide_ipam.model import EniView

pytestmark = pytest.mark.sim

A, B = "10.0.0.5", "10.0.0.6"
BOTH = (A, B)
Cidrs = tuple[str, ...]


class Object(NamedTuple):
    """The ENINode, as far as the hand-over goes."""

    published: Cidrs = BOTH
    releasing: Cidrs = ()
    count: int = 0
    yielded: Cidrs = ()


class View(NamedTuple):
    """What an actor last saw; `fresh`: the object has not changed since, so a write of it would be accepted."""

    seen: Object
    fresh: bool


class State(NamedTuple):
    """Everything. `calls`: Unassign under way. `late`: a write of spec.yielded that may still come true."""

    now: Object
    ec2: Cidrs
    operators: tuple[View, ...]
    agent: View
    out_of_use: Cidrs
    pods: Cidrs
    calls: Cidrs
    late: Cidrs | None


class Rules(NamedTuple):
    """What can be taken away, to see the checker find out."""

    compare_and_swap: bool = True  # the move to releasing carries the version at which yielded was read
    fresh_unassign: bool = True  # Unassign is sent only for what the accepted status says
    ordered_reports: bool = True  # the agent's write of yielded carries a version
    reply_decides: bool = True  # an address is used again only after the reply to the write that took it back
    addresses: int = len(BOTH)  # no rule but the size of the world
    forget_when_struck: bool = True  # what left is out of use until spec.yielded no longer lists it


def start(operators: int = 1, addresses: Cidrs = BOTH) -> State:
    seen = View(Object(published=addresses), True)
    return State(seen.seen, addresses, (seen,) * operators, seen, (), (), (), None)


@cache
def status_of(seen: Object) -> ENINodeStatus:
    interface = Interface(id="eni-0", card=0, index=1, addresses=seen.published)
    reclaim = Reclaim(count=seen.count, since="2026-01-01T00:00:00Z") if seen.count else None
    return ENINodeStatus(interfaces=(interface,), releasing=seen.releasing, reclaim=reclaim)


@cache
def accepted(seen: Object) -> Object | None:
    status = status_of(seen)
    move = handover.accept(status, seen.yielded, status.reclaim)
    if move is None:
        return None
    count = move.reclaim.count if move.reclaim is not None else 0
    return Object(move.interfaces[0].addresses, move.releasing, count, seen.yielded)


@cache
def to_unassign(seen: Object, ec2: Cidrs) -> Cidrs:
    calls = handover.unassign(seen.releasing, [EniView(id="eni-0", addresses=ec2)])
    return tuple(each for call in calls for each in call.addresses)


def plus(cidrs: Cidrs, one: str) -> Cidrs:
    return tuple(sorted({*cidrs, one}))


def minus(cidrs: Cidrs, *gone: str) -> Cidrs:
    return tuple(each for each in cidrs if each not in gone)


def written(state: State, after: Object, rules: Rules) -> State:
    """The object changed: every view is old now, and a versioned write under way will be refused."""
    late = None if rules.ordered_reports else state.late
    return state._replace(
        now=after,
        operators=tuple(view._replace(fresh=False) for view in state.operators),
        agent=state.agent._replace(fresh=False),
        late=late,
    )


def operator_steps(state: State, number: int, rules: Rules):
    view = state.operators[number]

    def saw(base: State, seen: Object) -> State:
        views = list(base.operators)
        views[number] = View(seen, True)
        return base._replace(operators=tuple(views))

    def writes(name: str, after: Object, versioned: bool = True):
        if versioned and not view.fresh:
            return  # conflict: nothing happens
        changed = written(state, after, rules)
        yield name, saw(changed, after)
        yield f"{name}, reply lost", changed

    yield "operator reads", saw(state, state.now)
    seen = view.seen
    for count in range(rules.addresses + 1):
        if count != seen.count:
            yield from writes(f"operator asks for {count}", state.now._replace(count=count))
    move = accepted(seen)
    if move is not None:
        after = move if view.fresh else state.now._replace(published=move.published, releasing=move.releasing)
        yield from writes("operator moves what is yielded", after, rules.compare_and_swap)
    if view.fresh or not rules.fresh_unassign:
        for address in to_unassign(seen, state.ec2):
            yield "operator sends Unassign", state._replace(calls=plus(state.calls, address))
    for address in seen.releasing:
        if address not in state.ec2 and address not in state.calls:
            after = state.now._replace(releasing=minus(state.now.releasing, address))
            yield from writes("operator forgets what EC2 no longer has", after)
    for address in BOTH[: rules.addresses]:
        if address not in state.ec2:
            yield "EC2 gives an address to the node again", state._replace(ec2=plus(state.ec2, address))
        elif address not in seen.published and address not in seen.releasing:
            after = state.now._replace(published=plus(state.now.published, address))
            yield from writes("operator publishes", after)


def agent_steps(state: State, rules: Rules):
    view, seen = state.agent, state.agent.seen
    read = state._replace(agent=View(state.now, True))
    kept = (*state.now.yielded, *listed(read)) if rules.forget_when_struck else state.now.published
    yield "agent reads", read._replace(out_of_use=tuple(each for each in state.out_of_use if each in kept))
    idle = [
        Idle("eni-0", each, 1, int(each in state.pods), False)
        for each in seen.published
        if each not in state.out_of_use
    ]
    chosen = handover.choose(idle, seen.count - len(listed(state)))
    if chosen:
        yield "agent chooses", state._replace(out_of_use=(*state.out_of_use, *chosen))
    wanted = listed(state)
    if wanted != state.now.yielded and (view.fresh or not rules.ordered_reports):
        after = state.now._replace(yielded=wanted)
        yield "agent reports, reply lost", written(state, after, rules)
        yield "agent reports, write under way", state._replace(late=wanted)
        changed = written(state, after, rules)
        yield "agent reports", changed._replace(agent=View(after, True), out_of_use=wanted)
    if not rules.reply_decides:
        yield "agent takes back unasked", state._replace(out_of_use=wanted)
    if state.late is not None:
        after = state.now._replace(yielded=state.late)
        yield "a late report comes true", written(state, after, rules)._replace(late=None)
    for address in seen.published:
        if address not in state.out_of_use and address not in state.pods:
            yield "pod starts", state._replace(pods=plus(state.pods, address))
    for address in state.pods:
        yield "pod ends", state._replace(pods=minus(state.pods, address))


def listed(state: State) -> Cidrs:
    seen = state.agent.seen
    return tuple(each for each in state.out_of_use if each in seen.published)[: seen.count]


def steps(state: State, rules: Rules):
    for number in range(len(state.operators)):
        yield from operator_steps(state, number, rules)
    yield from agent_steps(state, rules)
    for address in state.calls:
        yield "Unassign takes effect", state._replace(ec2=minus(state.ec2, address), calls=minus(state.calls, address))


class Explored(NamedTuple):
    """`broken`: the shortest way to a pod on an address that is gone, empty if there is none."""

    broken: tuple[str, ...]
    before: dict[State, list[State]]


def explore(rules: Rules, first: State, *, backwards: bool = False) -> Explored:
    came: dict[State, tuple[State, str] | None] = {first: None}
    before: dict[State, list[State]] = {first: []}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        if any(address not in state.ec2 for address in state.pods):
            return Explored(path(came, state), before)
        for name, after in steps(state, rules):
            if after not in came:
                came[after] = (state, name)
                queue.append(after)
                before[after] = []
            if backwards:
                before[after].append(state)
    return Explored((), before)


def path(came: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    names: list[str] = []
    step = came[state]
    while step is not None:
        state, name = step
        names.append(name)
        step = came[state]
    return tuple(reversed(names))


def test_no_interleaving_takes_an_address_from_a_pod_and_none_is_ever_lost():
    explored = explore(Rules(), start(), backwards=True)
    assert explored.broken == ()
    assert len(explored.before) > 1000
    # never lost: from everywhere there is a way back to where both addresses are published, assigned and usable
    whole = [
        state
        for state in explored.before
        if state.ec2 == state.now.published == state.agent.seen.published == BOTH
        and not (state.out_of_use or state.calls or state.now.releasing)
    ]
    home = set(whole)
    queue = deque(whole)
    while queue:
        for state in explored.before[queue.popleft()]:
            if state not in home:
                home.add(state)
                queue.append(state)
    assert len(home) == len(explored.before)


def test_two_operators_with_views_of_any_age_take_no_address_from_a_pod():
    explored = explore(Rules(addresses=1), start(operators=2, addresses=(A,)))
    assert explored.broken == ()
    assert len(explored.before) > 1000


@pytest.mark.parametrize("rule", [name for name in Rules._fields if name != "addresses"])
def test_without_any_one_of_its_rules_the_checker_finds_a_pod_on_an_address_that_is_gone(rule):
    broken = explore(Rules(**{rule: False}), start()).broken
    assert broken, f"{rule} seems to guard nothing"
    print(rule, len(broken), *broken, sep="\n  ")
    assert broken[-1] in {"Unassign takes effect", "pod starts", "agent reports"}
