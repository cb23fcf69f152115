"""Which ENIs are leaked, and when each may be deleted: pure, for the operator's sweep and for `enitide gc --dry-run`.

An ENI is leaked if it hangs on nothing, carries this cluster's own tag, and nothing that is written down will finish
or undo it: no intent in any ENINode's status.pending names its token, no ENINode removes it. One sighting is no proof,
since reads lag and an intent may be on its way: it is deleted at a second sighting, `MIN_AGE_S` after the first.

EC2 says of no ENI when it was made, so its age is counted from the first sighting; a new leader counts anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from enitide_ipam.model import TAG_CLUSTER, Attachment, EniView

# Longer than a call (15 s) and EC2's lag behind its own writes together; an intent is written before its Create.
MIN_AGE_S = 60.0


class Verdict(StrEnum):
    """What the sweep does with one detached ENI."""

    DELETE = "delete"  # seen twice, long enough apart
    WAIT = "wait"  # leaked as far as can be seen, but not for long enough
    INTENDED = "intended"  # an intent or a removal under way speaks of it: whoever leads finishes that
    FOREIGN = "foreign"  # not detached, or without this cluster's own tag: never touched


@dataclass(frozen=True, slots=True)
class Finding:
    """One ENI and its verdict. `due_at`: when it may be deleted at the earliest (Unix seconds), for DELETE and WAIT."""

    eni: EniView
    verdict: Verdict
    reason: str
    due_at: float | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is written down of ENIs that are being made or removed, over all ENINodes.

    `tokens`: of every status.pending, and of sagas at work. `removing`: ids in every status.removing.
    """

    tokens: Collection[str] = frozenset()
    removing: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """`findings` by ENI id. `seen`: first sightings to hand to the next look; what has gone is forgotten."""

    findings: tuple[Finding, ...]
    seen: Mapping[str, float]

    @property
    def delete(self) -> tuple[EniView, ...]:
        """What to delete now."""
        return tuple(each.eni for each in self.findings if each.verdict is Verdict.DELETE)

    @property
    def look_again_at(self) -> float | None:
        """When the next of those that wait is due; None where nothing waits."""
        waiting = (each.due_at for each in self.findings if each.verdict is Verdict.WAIT)
        return min((each for each in waiting if each is not None), default=None)


def plan_sweep(
    enis: Iterable[EniView],
    cluster: str,
    known: Known,
    seen: Mapping[str, float],
    now: float,
    *,
    min_age_s: float = MIN_AGE_S,
) -> SweepPlan:
    """What to do with the ENIs of one listing. `seen`: first sightings, from the plan before; empty at the first look.

    `cluster` must not be empty: without a name nothing can be told to be ours. `ValueError` otherwise.
    """
    if not cluster:
        raise ValueError("no cluster name: no ENI can be told to be this cluster's own")
    findings = tuple(
        _spared(eni, cluster, known) or _aged(eni, seen.get(eni.id), now, min_age_s)
        for eni in sorted(enis, key=lambda each: each.id)
    )
    leaked = {each.eni.id for each in findings if each.verdict in {Verdict.DELETE, Verdict.WAIT}}
    return SweepPlan(findings, {eni_id: seen.get(eni_id, now) for eni_id in sorted(leaked)})


def _spared(eni: EniView, cluster: str, known: Known) -> Finding | None:
    """Why it is not leaked, or not ours; None if it is."""
    if eni.attachment is not Attachment.DETACHED:
        return Finding(eni, Verdict.FOREIGN, f"it is {eni.attachment} to {eni.instance_id}")
    owner = eni.tags.get(TAG_CLUSTER, "")
    if owner != cluster:
        return Finding(eni, Verdict.FOREIGN, f"its cluster is {owner or 'not known'}")
    if eni.token and eni.token in known.tokens:
        return Finding(eni, Verdict.INTENDED, "an intent in status.pending speaks of it")
    if eni.id in known.removing:
        return Finding(eni, Verdict.INTENDED, "its ENINode is removing it")
    return None


def _aged(eni: EniView, since: float | None, now: float, min_age_s: float) -> Finding:
    if since is None:
        return Finding(eni, Verdict.WAIT, "seen for the first time", now + min_age_s)
    due_at, seen_s = since + min_age_s, now - since
    if now < due_at:
        return Finding(eni, Verdict.WAIT, f"seen {seen_s:.0f} s ago for the first time", due_at)
    return Finding(eni, Verdict.DELETE, f"nothing has spoken of it for {seen_s:.0f} s", due_at)
