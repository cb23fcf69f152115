"""The demo from the first line to the last: what is done, in which order, and what counts as success.

Each part asserts what it shows. Whatever happens (an error, Ctrl-C), the lab is taken down, unless it shall be kept;
the verdict is counted at the end and is the exit code.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from enitide_api.errors import EnitideError, KubeError, LabFailed
from enitide_api.reasons import Reason
from enitide_kube.client import HttpKube
from enitide_kube.port import ENINODE, NODE
from enitide_lab.demo.proof import Proof, prove
from enitide_lab.demo.view import NodeLook, Screen, cost_table, failures, proof_table
from enitide_lab.demo.workload import Cost, between, create, pod, running, spent
from enitide_lab.house import teardown
from enitide_lab.house.layout import LabPaths, lab_paths
from enitide_lab.up.bring_up import bring_up
from enitide_lab.up.options import LabOptions
from enitide_lab.up.running import Lab

BIG = "m5.large"
SMALL = "t3.medium"
PODS_ON_BIG = 20
PODS_ON_SMALL = 3
LATER = 3
READY_S = 60.0
PODS_S = 60.0


class Story:
    """One telling."""

    def __init__(self, name: str, *, keep: bool, prefix_delegation: bool) -> None:
        self._paths: LabPaths = lab_paths(name)
        self._keep = keep
        self._options = LabOptions(name, (BIG, SMALL, SMALL), prefix_delegation=prefix_delegation)
        self._screen = Screen()
        self._troubles: list[str] = []

    async def tell(self) -> int:
        """Exit code."""
        screen = self._screen
        screen.console.print("[bold]enitide[/] · real VPC addresses for pods, kept ahead of demand, moved by eBPF")
        screen.heading("a VPC on this machine")
        lab = await bring_up(self._options, screen.say, wait_ready=False)
        try:
            await self._tour(lab)
        except EnitideError as error:
            self._troubles.append(error.sentence())
        finally:
            screen.close()
            if not self._keep:
                self._clear_away()
        return self._verdict(lab)

    async def _tour(self, lab: Lab) -> None:
        screen = self._screen
        async with HttpKube.connect(str(lab.paths.kubeconfig), "lab-demo") as kube:
            screen.heading("pools fill")
            await self._watch(lab, kube, Counter(), READY_S)
            screen.heading(f"{PODS_ON_BIG} pods at once on one {BIG}, {PODS_ON_SMALL} on each {SMALL}")
            wanted = {
                node.name: PODS_ON_BIG if node.instance_type == BIG else PODS_ON_SMALL for node in lab.record.nodes
            }
            before = await spent(lab)
            burst = [pod(f"{node}-{n:02}", node=node) for node, count in wanted.items() for n in range(1, count + 1)]
            await create(kube, burst)
            await self._watch(lab, kube, Counter(wanted), PODS_S)
            shared = between(before, await spent(lab))
            screen.say(_spent(shared, f"{len(burst)} pods run"))
            screen.heading("one more on each node, at rest")
            single = await self._one_by_one(lab, kube, Counter(wanted))
        screen.heading("every packet, both families, 64 and 9001 bytes, never split")
        proof = await prove(lab)
        screen.console.print(proof_table(proof))
        self._judge(proof)
        screen.heading("what each pod start cost (those that came at once share their calls and writes)")
        names = {each["metadata"]["name"] for each in burst}
        screen.console.print(cost_table(running(lab), names, shared, single))

    async def _watch(self, lab: Lab, kube: HttpKube, wanted: Counter[str], timeout_s: float) -> None:
        """Show the nodes until each is ready and runs what it should; `LabFailed` says who waits for what."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        self._screen.open()
        looks: list[NodeLook] = []
        try:
            while True:
                looks = await _look(lab, kube, wanted)
                self._screen.look(looks)
                if all(each.ready and each.provisioned > 0 and each.running >= each.wanted for each in looks):
                    return
                lab.require_alive()
                if loop.time() > deadline:
                    late = "; ".join(f"{n.name}: {n.running}/{n.wanted} pods, {n.reason or 'not ready'}" for n in looks)
                    raise LabFailed(f"after {timeout_s:g} s: {late}")
                await asyncio.sleep(0.1)
        finally:
            self._screen.close(looks)

    async def _one_by_one(self, lab: Lab, kube: HttpKube, wanted: Counter[str]) -> dict[str, Cost]:
        costs: dict[str, Cost] = {}
        for node in lab.record.nodes[:LATER]:
            name = f"{node.name}-later"
            before = await spent(lab)
            wanted[node.name] += 1
            await create(kube, [pod(name, node=node.name)])
            deadline = asyncio.get_running_loop().time() + PODS_S
            while not any(each.sandbox.name == name for each in running(lab)):
                lab.require_alive()
                if asyncio.get_running_loop().time() > deadline:
                    raise LabFailed(f"{name} does not run after {PODS_S:g} s")
                await asyncio.sleep(0.05)
            costs[name] = between(before, await spent(lab))
            self._screen.say(_spent(costs[name], f"{name} runs"))
        return costs

    def _judge(self, proof: Proof) -> None:
        if not proof.holds:
            self._troubles += failures(proof) or ["nothing was asked"]

    def _clear_away(self) -> None:
        self._screen.heading("everything away")
        cleared = teardown.take_down(self._paths)
        self._screen.say(cleared.sentence())
        if teardown.traces(self._paths):
            self._troubles.append(f"something is left: {teardown.traces(self._paths)}")

    def _verdict(self, lab: Lab) -> int:
        screen = self._screen
        for trouble in self._troubles:
            print(f"demo: {trouble}", file=sys.stderr)
        if self._keep:
            _what_to_try(screen, lab)
        if self._troubles:
            screen.say("[bold red]not everything is as it must be[/]")
            return 1
        screen.say("[bold green]all of it works[/]")
        return 0


async def _look(lab: Lab, kube: HttpKube, wanted: Counter[str]) -> list[NodeLook]:
    try:
        nodes = {each["metadata"]["name"]: each for each in await _list(kube, NODE)}
        ours = {each["metadata"]["name"]: each for each in await _list(kube, ENINODE)}
    except KubeError as error:
        raise LabFailed(f"{error.reason}: {error}") from error
    counts = Counter(each.node for each in running(lab))
    looks = []
    for node in lab.record.nodes:
        status = ours.get(node.name, {}).get("status", {})
        capacity = status.get("capacity", {})
        provisioned = capacity.get("provisioned", 0)
        free = capacity.get("slots", 0) - capacity.get("usedSlots", 0)
        condition = _condition(status, "Ready")
        looks.append(
            NodeLook(
                name=node.name,
                type=node.instance_type,
                ready=_condition(nodes.get(node.name, {}).get("status", {}), "Ready").get("status") == "True",
                enis=len(status.get("interfaces", ())),
                provisioned=provisioned,
                capacity=provisioned + max(0, free),
                running=counts[node.name],
                wanted=wanted[node.name],
                reason=condition.get("reason", "" if condition else Reason.NOT_RECONCILED.value),
            )
        )
    return looks


async def _list(kube: HttpKube, kind: Any) -> list[dict[str, Any]]:
    return [msgspec.json.decode(raw) for raw in (await kube.list(kind)).items]


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((each for each in status.get("conditions", ()) if each["type"] == kind), {})


def _spent(cost: Cost, what: str) -> str:
    calls = ", ".join(f"{count} {verb}" for verb, count in sorted(cost.ec2.items())) or "none"
    return f"{what}; EC2 calls: {calls}; API writes of ours: {cost.writes.total()}"


def _what_to_try(screen: Screen, lab: Lab) -> None:
    name = lab.paths.name
    screen.heading("left up, to play with")
    path = [] if shutil.which("enitide") else [f"export PATH={Path(sys.executable).parent}:$PATH"]
    for line in (
        *path,
        f"export KUBECONFIG={lab.paths.kubeconfig}",
        "enitide status; enitide node list; enitide node show node-1; enitide ipam show",
        "kubectl get pods -o wide; kubectl get en; kubectl delete pod node-1-01",
        f"enitide lab exec --name {name} node-1 -- enitide bpf map list",
        f"enitide lab exec --name {name} node-1-01 -- ping -c 3 {running(lab)[-1].sandbox.addresses[0]}"
        if running(lab)
        else f"enitide lab status --name {name}",
        f"AWS_ENDPOINT_URL={lab.record.endpoints.ec2} aws ec2 describe-network-interfaces",
        f"enitide lab down --name {name}",
    ):
        screen.console.print(f"  {line}", soft_wrap=True)
