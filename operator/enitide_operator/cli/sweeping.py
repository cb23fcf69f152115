"""One sweep by hand: the operator's own judgement of what is leaked, on a listing made now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from enitide_api.errors import EC2Error, EC2InUse, EC2NotFound
from enitide_api.resources import ENINode
from enitide_ipam.addresses import PREFIX_SIZE
from enitide_ipam.model import TAG_NODE
from enitide_ipam.sweep import MIN_AGE_S, Finding, Known, SweepPlan, Verdict, plan_sweep
from enitide_kube.port import ENINODE, KubePort
from enitide_operator.cli.collect import list_all
from enitide_operator.ec2.budget import SWEEP
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.ec2.port import InterfaceQuery


@dataclass(frozen=True, slots=True)
class Collection:
    """`plan`: the last look; `done`: what became of each ENI that was deleted, or why it was not."""

    plan: SweepPlan
    done: Mapping[str, str]


async def collect(
    kube: KubePort, ec2: Gateway, cluster: str, *, dry_run: bool, tell: Callable[[str], None] = lambda _text: None
) -> Collection:
    """Look once; without `dry_run` wait, look again and delete what is leaked in both looks."""
    plan = await _look(kube, ec2, cluster, {})
    if dry_run or not plan.seen:
        return Collection(plan, {})
    tell(f"{len(plan.seen)} leaked at first sight; looking again in {MIN_AGE_S:.0f} s")
    await asyncio.sleep(MIN_AGE_S + 1.0)
    plan = await _look(kube, ec2, cluster, plan.seen)
    done: dict[str, str] = {}
    for eni in plan.delete:
        try:
            await ec2.delete(eni.id, SWEEP)
            done[eni.id] = "deleted"
        except (EC2NotFound, EC2InUse) as error:
            done[eni.id] = f"not leaked any more: {error}"
        except EC2Error as error:
            done[eni.id] = f"failed: {error.sentence()}"
    return Collection(plan, done)


async def _look(kube: KubePort, ec2: Gateway, cluster: str, seen: Mapping[str, float]) -> SweepPlan:
    """One listing, judged by what all ENINodes say after it was made: an intent is written before its ENI is."""
    read = await ec2.interfaces(InterfaceQuery(loose_of=cluster))
    nodes = await list_all(kube, ENINODE, ENINode)
    known = Known(
        tokens={each.token for node in nodes for each in node.status.pending},
        removing={each for node in nodes for each in node.status.removing},
    )
    return plan_sweep(read.items, cluster, known, seen, time.time())


def row(finding: Finding, done: str | None, *, dry_run: bool) -> dict[str, Any]:
    """One ENI: what the sweep says of it, or what was done."""
    eni = finding.eni
    verdict = str(finding.verdict)
    if finding.verdict is Verdict.WAIT and dry_run:
        verdict = "would delete"
    if done is not None:
        verdict = done.partition(":")[0]
    return {
        "eni": eni.id,
        "verdict": verdict,
        "subnet": eni.subnet_id,
        "addresses": bool(eni.primary) + len(eni.addresses) + PREFIX_SIZE * len(eni.prefixes),
        "node": eni.tags.get(TAG_NODE) or None,
        "why": done if done is not None and done != "deleted" else _reason(finding, dry_run=dry_run),
    }


def _reason(finding: Finding, *, dry_run: bool) -> str:
    if dry_run and finding.verdict is Verdict.WAIT:
        return "nothing that is written down speaks of it; a second look must say so too"
    return finding.reason


def sentence(found: Collection, cluster: str, *, dry_run: bool) -> str:
    """The whole in a line."""
    if not found.plan.findings:
        return f"no detached ENI carries the tag of cluster {cluster}: nothing is leaked."
    if dry_run:
        spared = len(found.plan.findings) - len(found.plan.seen)
        return f"{len(found.plan.seen)} would be deleted, {spared} spared; nothing was done."
    deleted = sum(each == "deleted" for each in found.done.values())
    freed = sum(
        bool(each.eni.primary) + len(each.eni.addresses) + PREFIX_SIZE * len(each.eni.prefixes)
        for each in found.plan.findings
        if found.done.get(each.eni.id) == "deleted"
    )
    return f"{deleted} deleted, {freed} addresses given back; {len(found.plan.findings) - deleted} left."
