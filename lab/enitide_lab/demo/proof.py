"""Puts the network to the question and counts every answer: nothing is taken for granted, nothing sampled away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from enitide_lab.demo.workload import Running, running
from enitide_lab.probe.forgery import Forgery, forge
from enitide_lab.probe.matrix import Matrix, Place, ask
from enitide_lab.up.running import Lab

_FORGERIES = 6


@dataclass(frozen=True, slots=True)
class Proof:
    """The answers by question, and the forgeries tried."""

    matrices: dict[str, Matrix]
    forgeries: tuple[Forgery, ...]

    @property
    def asked(self) -> int:
        """Packets that must pass."""
        return sum(matrix.asked for matrix in self.matrices.values())

    @property
    def answered(self) -> int:
        """Packets that passed."""
        return sum(matrix.answered for matrix in self.matrices.values())

    @property
    def refused(self) -> int:
        """Forgeries that were refused although the honest packet beside them arrived."""
        return sum(forgery.outcome == "refused" for forgery in self.forgeries)

    @property
    def holds(self) -> bool:
        """Whether all is as it must be; nothing asked proves nothing."""
        return self.asked == self.answered > 0 and self.refused == len(self.forgeries) > 0


def places(lab: Lab) -> tuple[list[Place], list[Place]]:
    """All running pods and all nodes, as places to ask from and to."""
    pods = [_place(each) for each in running(lab)]
    nodes = [Place(node.name, lab.netns(node), (node.address,)) for node in lab.record.nodes]
    return pods, nodes


async def prove(lab: Lab) -> Proof:
    """Every pod to every pod and both ways between pods and nodes, small and at the full MTU, then forgeries."""
    pods, nodes = places(lab)
    matrices = {
        "pod → pod": await asyncio.to_thread(ask, pods),
        "pod → node": await asyncio.to_thread(ask, pods, targets=nodes),
        "node → pod": await asyncio.to_thread(ask, nodes, targets=pods),
    }
    return Proof(matrices, await asyncio.to_thread(_forge, pods))


def _forge(pods: Sequence[Place]) -> tuple[Forgery, ...]:
    """Pods of different nodes in each other's names and in those of strangers, both families."""
    tried = []
    for number, source in enumerate(pods[:: max(1, len(pods) // 2)][:2]):
        others = [pod for pod in pods if pod.name != source.name]
        if len(others) > 1:
            neighbour, target = others[number], others[-1 - number]
            pretended = [*neighbour.addresses, "10.0.15.250"]
            tried += [forge(source, address, target) for address in pretended]
    return tuple(tried[:_FORGERIES])


def _place(each: Running) -> Place:
    return Place(f"{each.sandbox.name} ({each.node})", Path(each.sandbox.netns), each.sandbox.addresses)
