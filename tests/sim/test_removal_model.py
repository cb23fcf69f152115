"""Every interleaving of the removal of a whole ENI, explored: no pod ever holds an address of an ENI that has gone.

As `test_handover_model`, with one ENI whose own address serves a pod too, and one address more on it. Operators mark it
draining or not, take what is yielded out of `interfaces`, unassign, detach; EC2 may give the address again at any time;
the agent hands both out and yields them. The decisions are the real ones: `accept`, `drained`, `unassign`.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import NamedTuple

import pytest

from enitide_api.resources import ENINodeStatus, Interface
from enitide_ipam import handover
from enitide_ipam.handover import Bounds, Idle
from enitide_ipam.model import EniView

pytestmark = pytest.mark.sim

OWN, OTHER, ENI = "10.0.0.5", "10.0.0.6", "eni-1"
Cidrs = tuple[str, ...]


class Object(NamedTuple):
    """The ENINode, as far as this ENI goes. `shown`: it stands in `interfaces`, with `addresses`."""

    shown: bool = True
    addresses: Cidrs = (OTHER,)
    draining: bool = False
    releasing: Cidrs = ()
    removing: bool = False
    yielded: Cidrs = ()


class View(NamedTuple):
    """What an actor last saw; `fresh`: the object has not changed since, so a write of it would be accepted."""

    seen: Object
    fresh: bool


class State(NamedTuple):
    """Everything. `there`: EC2 has the ENI on the instance, with `ec2` on it. `calls`: under way."""

    now: Object
    there: bool
    ec2: Cidrs
    operators: tuple[View, ...]
    agent: View
    out_of_use: Cidrs
    pods: Cidrs
    calls: Cidrs


class Rules(NamedTuple):
    """What can be taken away, to see the checker find out."""

    compare_and_swap: bool = True  # taking the ENI out of interfaces carries the version at which yielded was read
    agents_word: bool = True  # the ENI goes only if its own address is yielded too
    stays_hidden: bool = True  # an ENI in removing is never published again


def start(operators: int = 1) -> State:
    seen = View(Object(), True)
    return State(seen.seen, True, (OTHER,), (seen,) * operators, seen, (), (), ())


@cache
def status_of(seen: Object) -> ENINodeStatus:
    shown = Interface(id=ENI, card=0, index=1, primary=OWN, addresses=seen.addresses, ours=True, draining=seen.draining)
    removing = (ENI,) if seen.removing else ()
    return ENINodeStatus(interfaces=(shown,) if seen.shown else (), releasing=seen.releasing, removing=removing)


@cache
def accepted(seen: Object, agents_word: bool) -> Object | None:
    yielded = seen.yielded if agents_word else (*seen.yielded, OWN)
    move = handover.accept(status_of(seen), yielded, None, (), Bounds(removable=frozenset({ENI})))
    if move is None:
        return None
    addresses = move.interfaces[0].addresses if move.interfaces else ()
    return seen._replace(
        shown=bool(move.interfaces), addresses=addresses, releasing=move.releasing, removing=ENI in move.removing
    )


def plus(cidrs: Cidrs, one: str) -> Cidrs:
    return tuple(sorted({*cidrs, one}))


def minus(cidrs: Cidrs, *gone: str) -> Cidrs:
    return tuple(each for each in cidrs if each not in gone)


def written(state: State, after: Object) -> State:
    """The object changed: every view is old now, and a versioned write under way will be refused."""
    return state._replace(
        now=after,
        operators=tuple(view._replace(fresh=False) for view in state.operators),
        agent=state.agent._replace(fresh=False),
    )


def operator_steps(state: State, number: int, rules: Rules):
    view, seen = state.operators[number], state.operators[number].seen

    def saw(base: State, what: Object) -> State:
        views = list(base.operators)
        views[number] = View(what, True)
        return base._replace(operators=tuple(views))

    def writes(name: str, after: Object, versioned: bool = True):
        if versioned and not view.fresh:
            return  # conflict: nothing happens
        changed = written(state, after)
        yield name, saw(changed, after)
        yield f"{name}, reply lost", changed

    yield "operator reads", saw(state, state.now)
    if seen.shown:
        yield from writes("operator changes its mind on draining", seen._replace(draining=not seen.draining))
    move = accepted(seen, rules.agents_word)
    if move is not None:
        after = move._replace(yielded=state.now.yielded)
        yield from writes("operator takes out what is yielded", after, rules.compare_and_swap)
    held = tuple(each for each in state.ec2 if state.there and each not in seen.releasing)
    hidden = seen.removing and rules.stays_hidden
    if state.there and not hidden and (not seen.shown or held != seen.addresses):
        yield from writes("operator publishes what EC2 has", seen._replace(shown=True, addresses=held))
    if view.fresh:
        for call in handover.unassign(seen.releasing, [EniView(id=ENI, addresses=state.ec2)]):
            yield "operator sends Unassign", state._replace(calls=plus(state.calls, *call.addresses))
    if seen.removing:  # however old the view: nothing returns from removing
        yield "operator sends Detach", state._replace(calls=plus(state.calls, ENI))
    if OTHER in seen.releasing and (OTHER not in state.ec2 or not state.there) and OTHER not in state.calls:
        yield from writes("operator forgets an address that is gone", seen._replace(releasing=()))
    if state.there and OTHER not in state.ec2:
        yield "EC2 gives the address again", state._replace(ec2=(OTHER,))


def agent_steps(state: State):
    view, seen = state.agent, state.agent.seen
    asked = seen.shown and seen.draining
    wanted = tuple(each for each in state.out_of_use if asked and each in (*seen.addresses, OWN))
    kept = {*state.now.yielded, *_asked(state.now, state.out_of_use)}
    opened = tuple(each for each in state.out_of_use if each in kept)
    yield "agent reads", state._replace(agent=View(state.now, True), out_of_use=opened)
    if asked:
        used = len(state.pods)
        idle = [Idle(ENI, each, 1, int(each in state.pods), first=False, draining=True) for each in seen.addresses]
        idle.append(Idle(ENI, OWN, 1, used, first=False, own=True, draining=True))
        chosen = handover.drained(each for each in idle if each.cidr not in state.out_of_use)
        if chosen:
            yield "agent closes what is idle", state._replace(out_of_use=tuple(sorted({*state.out_of_use, *chosen})))
    if wanted != state.now.yielded and view.fresh:
        after = state.now._replace(yielded=wanted)
        yield "agent reports, reply lost", written(state, after)
        yield "agent reports", written(state, after)._replace(agent=View(after, True), out_of_use=wanted)
    for address in (*seen.addresses, OWN) if seen.shown else ():
        if address not in state.out_of_use and address not in state.pods:
            yield "pod starts", state._replace(pods=plus(state.pods, address))
    for address in state.pods:
        yield "pod ends", state._replace(pods=minus(state.pods, address))


def _asked(now: Object, out_of_use: Cidrs) -> Cidrs:
    return tuple(each for each in out_of_use if now.shown and now.draining and each in (*now.addresses, OWN))


def steps(state: State, rules: Rules):
    for number in range(len(state.operators)):
        yield from operator_steps(state, number, rules)
    yield from agent_steps(state)
    for call in state.calls:
        rest = minus(state.calls, call)
        if call == ENI:
            yield "Detach takes effect", state._replace(there=False, ec2=(), calls=rest)
        else:
            yield "Unassign takes effect", state._replace(ec2=minus(state.ec2, call), calls=rest)


def explore(rules: Rules, first: State) -> tuple[tuple[str, ...], int]:
    """The shortest way to a pod on an address that is gone, empty if there is none; and how many states were seen."""
    came: dict[State, tuple[State, str] | None] = {first: None}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        if any(not state.there or (each != OWN and each not in state.ec2) for each in state.pods):
            return path(came, state), len(came)
        for name, after in steps(state, rules):
            if after not in came:
                came[after] = (state, name)
                queue.append(after)
    return (), len(came)


def path(came: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    names: list[str] = []
    step = came[state]
    while step is not None:
        state, name = step
        names.append(name)
        step = came[state]
    return tuple(reversed(names))


def reaches(first: State, goal) -> bool:
    seen, queue = {first}, deque([first])
    while queue:
        state = queue.popleft()
        if goal(state):
            return True
        for _, after in steps(state, Rules()):
            if after not in seen:
                seen.add(after)
                queue.append(after)
    return False


@pytest.mark.parametrize("operators", [1, 2])
def test_no_interleaving_takes_an_eni_from_a_pod(operators):
    broken, states = explore(Rules(), start(operators))
    print(operators, "operators:", states, "states")
    assert broken == ()
    assert states > 1000


def test_the_eni_does_go_and_an_eni_that_was_not_removed_comes_back_into_use():
    assert reaches(start(), lambda state: not state.there and not state.now.shown)
    drained = start()._replace(out_of_use=(OWN, OTHER), now=Object(yielded=(OWN, OTHER)))
    drained = drained._replace(agent=View(drained.now, True), operators=(View(drained.now, True),))
    assert reaches(drained, lambda state: set(state.pods) == {OWN, OTHER})


@pytest.mark.parametrize("rule", Rules._fields)
def test_without_any_one_of_its_rules_the_checker_finds_a_pod_on_an_eni_that_has_gone(rule):
    broken, _ = explore(Rules(**{rule: False}), start(2))
    assert broken, f"{rule} seems to guard nothing"
    print(rule, len(broken), *broken, sep="\n  ")
