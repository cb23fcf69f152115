"""Scenarios at scale, as functions of the number of nodes: what a bench prints and a test asserts of smaller ones.

The simulator runs the real operator and the real agents' reporting; what happens to pods is decided here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from enitide_lab.simulate.events import Advance, Announce, Event, Settle
from enitide_lab.simulate.reading import read
from enitide_lab.simulate.run import run
from enitide_lab.simulate.simulation import Simulation
from support.churn import Churn
from support.footprint import reachable_bytes, rss_mib

MUTATING = ("Create", "Attach", "Modify", "Assign", "Unassign", "Detach", "Delete")
_HEAD = "apiVersion: enitide.io/v1alpha1\nkind: Scenario\n"
_VERBS = (
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "DescribeNetworkInterfaces",
)
_FREE = f"settings: {{budget: {{{', '.join(f'{verb}: {{rate: 100000, burst: 100000}}' for verb in _VERBS)}}}}}\n"
_PER_SUBNET = 625  # nodes in one /16


def world(nodes: int, kind: str) -> str:
    """A VPC with a /16 for each 625 nodes."""
    count = -(-nodes // _PER_SUBNET)
    cidrs = [f"10.{number}.0.0/16" for number in range(count)]
    subnets = [f"{{id: s-{number}, cidr: {cidr}}}" for number, cidr in enumerate(cidrs)]
    types = "instanceTypes: {big.test: {cards: [3], ipv4PerInterface: 30, hypervisor: nitro}}"
    groups = [
        f"{{name: n{number}, count: {min(_PER_SUBNET, nodes - number * _PER_SUBNET)}, type: {kind}, "
        f"subnet: s-{number}, securityGroups: [sg-a]}}"
        for number in range(count)
    ]
    return (
        f"{_HEAD}world:\n  cluster: bench\n  vpc: {{id: vpc-1, cidrs: [{', '.join(cidrs)}]}}\n  {types}\n"
        f"  subnets: [{', '.join(subnets)}]\n  securityGroups: [{{id: sg-a}}]\nnodes: [{', '.join(groups)}]\n"
    )


def totals(shot: dict[str, Any]) -> tuple[int, int]:
    """Mutating calls and reads so far, whatever their outcome."""
    sums = {verb: sum(each.values()) for verb, each in shot["calls"].items()}
    mutating = sum(count for verb, count in sums.items() if verb.startswith(MUTATING))
    return mutating, sum(sums.values()) - mutating


def up(nodes: int, least: int) -> dict[str, Any]:
    """All announced within 60 s, until every pool holds `least`, then until nothing is to be done any more."""
    text = world(nodes, "m5.large") + "settings: {budget: {all: {rate: 4, burst: 20}}}\n"
    text += f"classes: [{{name: default, pool: {{minAllocate: {least}, maxAboveWatermark: 0}}}}]\n"
    full_s = 0.0

    def events(sim: Simulation) -> Iterator[Event]:
        nonlocal full_s
        names = list(sim.groups)
        for second in range(60):
            yield Announce(nodes=tuple(names[second::60]))
            yield Advance(seconds=1.0)
        while any(sim.demands.nodes[name].provisioned < least for name in names):
            yield Advance(seconds=1.0)
        full_s = sim.loop.time()
        yield Settle()

    mutations, describes = totals(run(read(text), events)["end"])
    return {"mutations": mutations, "describes": describes, "full_s": full_s}


def churn(nodes: int, seconds: int, changes_per_s: float = 100.0) -> dict[str, Any]:
    """Pods that come and go on random nodes."""
    found: dict[str, Any] = {"base_mib": rss_mib()}

    def events(sim: Simulation) -> Iterator[Event]:
        churn = Churn(sim, changes_per_s)
        yield from churn.bring_up()
        before, began = churn.counts(), time.perf_counter()
        yield from churn.live(seconds)
        found["real_s"] = time.perf_counter() - began
        after = churn.counts()
        found.update({f"{name}_per_s": (after[name] - before[name]) / seconds for name in ("assigns", "writes")})
        found["passes_per_change"] = (after["passes"] - before["passes"]) / churn.changes
        found["publish_p99_s"] = churn.publish_s(0.99)
        found["process_rss_mib"] = rss_mib()
        found["operator_mib"] = reachable_bytes(sim) / 2**20

    run(read(world(nodes, "big.test") + _FREE), events)
    return found


def life(nodes: int) -> dict[str, Any]:
    """CPU seconds of bring-up and ten minutes, as many changes per node and second whatever the number of nodes."""
    began = time.process_time()
    churn(nodes, 600, nodes / 50)
    return {"cpu_s": time.process_time() - began}


def idle(nodes: int) -> dict[str, Any]:
    """An hour in which nothing happens; then someone takes addresses away by hand."""
    found: dict[str, Any] = {}

    def events(sim: Simulation) -> Iterator[Event]:
        names = list(sim.groups)
        yield Announce(nodes=tuple(names))
        yield Advance(seconds=900.0)
        before = totals(sim.view.snapshot())
        yield Advance(seconds=3600.0)
        after = totals(sim.view.snapshot())
        found.update(describes=after[1] - before[1], mutations=after[0] - before[0])
        instance = sim.view.instance(names[len(names) // 2])
        assert instance is not None
        eni = instance.devices[0, 0]
        taken = tuple(eni.secondaries)[:2]
        sim.model.unassign_private_ip_addresses(eni.id, addresses=taken)
        began = sim.loop.time()
        while _published(sim, names[len(names) // 2]) & set(taken) and sim.loop.time() - began < 3600:
            yield Advance(seconds=1.0)
        found["drift_s"] = sim.loop.time() - began

    run(read(world(nodes, "m5.large") + _FREE), events)
    return found


def _published(sim: Simulation, node: str) -> set[str]:
    resource = sim.view.eninode(node)
    return {address for each in resource.status.interfaces for address in each.addresses} if resource else set()
