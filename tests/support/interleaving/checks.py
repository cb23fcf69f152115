"""What must never happen in an interleaving, and what must have come about once all is calm.

In use: wired in a node's kernel. What must hold is asked after every effect in EC2 and every wired pod, not only
between steps: an address that is away for an instant is found.
"""

from __future__ import annotations

import msgspec

from enitide_api.resources import ENINode, ENINodeStatus
from enitide_ipam.tide import excess, levels
from support.interleaving.ground import NODES, Ground, held

FULL = ("AtCapacity", "SubnetExhausted")  # reasons for which a node may stay short for good
LIMIT_MEMORY_S = 120.0  # a call that was planned under a higher maxAllocate has long been sent or dropped by then


class Checks:
    """`broken` tells what was, and when."""

    def __init__(self, ground: Ground, maximum: int | None) -> None:
        self.broken: list[str] = []
        self._ground = ground
        self._limits: list[tuple[float, int | None]] = [(0.0, maximum)]
        self._counts: dict[str, int] = {}

    def check(self) -> None:
        """Every wired address is on its node in EC2, and wired once; what is others' is there."""
        for gone in self._ground.strangers - self._ground.scene.model.interfaces.keys():
            self.say(f"{gone} of somebody else was deleted")
        seen: set[str] = set()
        for name, kernel in self._ground.kernels.items():
            wired = list(kernel.addresses.values())
            here = {address for each in self._ground.devices(name) for address in held(each)}
            for address in wired:
                if address in seen:
                    self.say(f"two pods have {address}")
                if address not in here:
                    self.say(f"{name}: {address} is in use and not on the node in EC2")
                seen.add(address)

    def check_limit(self) -> None:
        """No more is taken for a node than maxAllocate allows beside what EC2 has there.

        What is being released counts until EC2 has it back, as it does for the plan (`retiring.still_leaving`): the
        limit is there because addresses are scarce, and an Unassign may be refused for long. A node that has more than
        a lowered maxAllocate keeps what its pods hold: only that it comes to have more is wrong.
        """
        now = self._ground.scene.loop.time()
        recent = [limit for until, limit in self._limits if until == 0.0 or until + LIMIT_MEMORY_S > now]
        before, self._counts = self._counts, {name: self._count(name) for name in self._ground.scene.instances}
        if None in recent:
            return
        most = max(limit for limit in recent if limit is not None)
        for name, count in self._counts.items():
            if count > max(most, before.get(name, 0)):
                self.say(f"{name}: {count} addresses, maxAllocate is {most}")

    def _count(self, name: str) -> int:
        return sum(len(held(each)) for each in self._ground.interfaces_of(name))

    def limit(self, maximum: int | None) -> None:
        """Another maxAllocate from now on."""
        self._limits[-1] = (self._ground.scene.loop.time(), self._limits[-1][1])
        self._limits.append((0.0, maximum))

    def say(self, what: str) -> None:
        """Something is broken."""
        self.broken.append(f"at {self._ground.scene.loop.time():.3f}: {what}")

    # --- what must have come about once all is calm --------------------------------------------------------------

    def missing(self) -> list[str]:
        """What is not yet as it should be."""
        found = [
            f"{each.id} hangs on nothing"
            for each in self._ground.scene.model.interfaces.values()
            if not each.attachment and each.id not in self._ground.strangers
        ]
        for name in NODES:
            found += [f"{name}: {each}" for each in self._missing_at(name)]
        return found

    def _missing_at(self, name: str) -> list[str]:
        eninode, agent = self._ground.eninode(name), self._ground.agents[name]
        status, pool = eninode.status, agent.memory.pool
        published = {each.id: {*each.addresses, *each.prefixes} for each in status.interfaces}
        there = {each.id: {*each.secondaries, *each.prefixes} for each in self._ground.devices(name)}
        found = [] if published == there else [f"published {published}, EC2 has {there}"]
        if status.pending or status.releasing or eninode.spec.yielded or pool.out_of_use():
            found.append(f"half done: {msgspec.to_builtins(status)} {eninode.spec.yielded} {pool.out_of_use()}")
        if {each.id: {*each.addresses, *each.prefixes} for each in pool.interfaces()} != published:
            found.append("the agent knows other addresses")
        held = {each.address for each in pool.ledger.held.values() if each.owner}
        if held != set(self._ground.kernels[name].addresses.values()):
            found.append(f"held {held}, wired {self._ground.kernels[name].addresses}")
        found += _off_tide(eninode, len(self._ground.kubelets[name].pods))
        wanted, wired = len(self._ground.kubelets[name].pods), len(self._ground.kernels[name].addresses)
        for task in (*self._ground.kubelets[name].pods.values(), *self._ground.kubelets[name].gone, *agent.failed):
            if task.done() and not task.cancelled() and task.exception() is not None:
                found.append(f"{task.get_name()} failed: {task.exception()!r}")
        if wired > wanted or (wired < wanted and _why(status) not in FULL):
            found.append(f"{wired} of {wanted} pods have an address, {_why(status)}, agent serves: {agent.serving}")
        return found


def _why(status: ENINodeStatus) -> str:
    """What the node says of itself."""
    return next((each.reason for each in status.conditions if each.type == "Ready"), "")


def _off_tide(eninode: ENINode, bound: int) -> list[str]:
    """Too few addresses, or too many; with /28s too many may be right, where each holds a pod."""
    status = eninode.status
    if status.class_ is None:
        return ["no class yet"]
    marks = levels(eninode.spec.demand, bound, status.class_.pool, prefix_delegation=status.class_.prefix_delegation)
    have = status.capacity.provisioned
    short = _why(status)
    found = [f"{have} addresses, low tide {marks.low}, {short}"] if have < marks.low and short not in FULL else []
    if excess(marks, have) and not status.class_.prefix_delegation:
        found.append(f"{have} addresses, high tide {marks.high}")
    return found
