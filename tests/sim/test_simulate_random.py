"""Scenarios by chance: whatever happens to a few nodes, once it stops all comes right, and nothing is left behind.

Each seed makes one scenario: demand that moves, faults that end, crashes, hands, watches that are lost. After the last
fault has ended and all has settled, what is published is what EC2 has, no node lacks or has too much, no ENI is loose.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from support.simulating import node

from enitide_lab.simulate.events import (
    Advance,
    Announce,
    Crash,
    Ec2Fault,
    EndWatches,
    Event,
    KubeFault,
    Pods,
    Restart,
    SetAgent,
    SetClass,
    Settle,
    Use,
)
from enitide_lab.simulate.run import run
from enitide_lab.simulate.scenario import ClassObject, Group, NodeGroup, Scenario, Subnet, World
from enitide_operator.ec2.port import MUTATIONS

pytestmark = pytest.mark.sim

NODES = ("a", "b", "c")
VERBS = sorted(verb.value for verb in MUTATIONS)
CODES = ("RequestLimitExceeded", "InternalError", "Unavailable", "InvalidParameterValue", "IncorrectState")


def story(chance: Random) -> list[Event]:
    """Some twenty events, then peace."""
    events: list[Event] = [Announce(nodes=NODES), Advance(seconds=chance.uniform(0, 3))]
    for _ in range(20):
        events += [some_event(chance), Advance(seconds=chance.choice((0.1, 0.3, 1, 5, 40, 200)))]
    events += [SetAgent(nodes=NODES, silent=False), Advance(seconds=600)]  # faults last five minutes at most
    for name in NODES:
        events.append(Use(nodes=(name,), in_use=chance.randint(0, 18), waiting=chance.randint(0, 3)))
        events.append(Pods(nodes=(name,)))
    return [*events, Settle(), Advance(seconds=3600), Settle()]


def some_event(chance: Random) -> Event:
    who = (chance.choice(NODES),)
    verb = chance.choice((*VERBS, "mutations", "reads", "*"))
    times = chance.randint(1, 4)
    kinds = (
        lambda: Use(nodes=who, in_use=chance.randint(0, 18), cooling=chance.randint(0, 4)),
        lambda: Use(nodes=who, in_use=chance.randint(0, 18), waiting=chance.randint(0, 4)),
        lambda: Pods(nodes=who, pending=chance.randint(0, 20), host_network=1),
        lambda: Crash(after=chance.choice(VERBS), nth=chance.randint(1, 3)),
        lambda: Ec2Fault(verb=verb, code=chance.choice(CODES), times=times, for_s=300),
        lambda: Ec2Fault(verb=verb, lost=True, times=times, for_s=300),
        lambda: Ec2Fault(verb="reads", empty=True, times=times, for_s=300),
        lambda: Ec2Fault(verb=verb, delay_s=chance.choice((1, 20)), times=times, for_s=300),
        lambda: KubeFault(kind="ENINode", code=chance.choice((409, 500)), times=times, lost=chance.random() < 0.3),
        lambda: EndWatches(kind=chance.choice(("ENINode", "Pod", "*")), gone=chance.random() < 0.5),
        Restart,
        lambda: SetAgent(nodes=who, silent=chance.random() < 0.5),
        lambda: SetClass(name="default", patch={"pool": {"minAllocate": chance.randint(0, 14)}}),
    )
    return chance.choice(kinds)()


def scenario(seed: int, *, prefixes: bool) -> Scenario:
    group = NodeGroup
    spec: dict[str, Any] = {"release": {"delay": "60s", "idleInterfaceDelay": "5m"}, "prefixDelegation": prefixes}
    return Scenario(
        World(
            cluster="demo",
            subnets=(
                Subnet("s-1", "10.0.0.0/24", vpc="vpc-1", free=120, whole_prefixes=3),
                Subnet("s-2", "10.0.1.0/24", vpc="vpc-1"),
            ),
            groups=(Group("sg-1"),),
        ),
        tuple(group(name, subnet="s-1", groups=("sg-1",)) for name in NODES),
        classes=(ClassObject("default", spec),),
        settings=Scenario(World(), ()).settings.model_copy(update={"cluster_name": "demo"}),
        seed=seed,
    )


@pytest.mark.parametrize("seed", range(24))
def test_whatever_happened_all_comes_right_and_nothing_is_left_behind(seed: int) -> None:
    events = story(Random(f"story/{seed}"))
    shot = run(scenario(seed, prefixes=seed % 2 == 1), lambda _sim: events)["end"]
    for name in NODES:
        row = node(shot, name)
        held = sum(len(each["addresses"]) + 16 * len(each["prefixes"]) for each in row["interfaces"])
        assert (row["needed"], row["excess"], row["releasing"], row["reclaim"]) == (0, 0, [], 0), (name, row)
        assert row["provisioned"] == held, (name, row)
        assert all(each["deleteOnTermination"] for each in row["interfaces"]), (name, row)
        assert all(each["addresses"] or each["prefixes"] for each in row["interfaces"][1:]), (name, row)
    assert shot["detached"] == []
