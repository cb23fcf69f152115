"""Says on every policy what is wrong with it: a condition in its status where its kind has one, and Events.

The leader alone says it. What stands in the status is compared with what should, so a restart writes nothing; writes
are paced, and a kind whose definition keeps no conditions, or on which we have no right, is left alone for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from enitide_api.errors import KubeError, KubeForbidden, KubeInvalid, KubeNotFound, NotLeading
from enitide_api.logging import get_logger
from enitide_api.reasons import Reason
from enitide_ipam.stamps import stamp
from enitide_kube import events
from enitide_kube.backoff import Backoff
from enitide_kube.port import NETWORKPOLICY, POLICIES, Kind, KubePort
from enitide_kube.queue import WorkQueue
from enitide_operator.context import FIELD_MANAGER
from enitide_operator.metrics import Metrics
from enitide_operator.policykeys import PolicyKeys, conditions_in
from enitide_operator.term import Term
from enitide_policy.findings import Findings
from enitide_policy.problems import ObjectRef, Problem

ACCEPTED = "enitide.io/Accepted"
PER_S = 20.0  # writes of conditions
AGAIN_S = 600.0  # to a kind that took none
MESSAGE_MAX = 1024
_KINDS = {kind.kind: kind for kind in POLICIES}
_SEVEREST = (Reason.POLICY_INVALID, Reason.POLICY_UNKNOWN_FIELD, Reason.POLICY_UNSUPPORTED, Reason.PRIORITY_CLASH)

_log = get_logger(__name__)


def condition(
    problems: tuple[Problem, ...], before: dict[str, Any] | None, now: float, generation: int | None
) -> dict[str, Any]:
    """Whether all of a policy is in force as written. `generation` None: its kind's conditions have no such field."""
    reason = min((each.reason for each in problems), key=_SEVEREST.index, default=Reason.POLICY_ACCEPTED)
    status = "False" if problems else "True"
    kept = before is not None and before.get("status") == status
    text = "; ".join(f"{each.field}: {each.message}" for each in problems) or "all of it is in force as written"
    return {
        "type": ACCEPTED,
        "status": status,
        "reason": reason.value,
        "message": text if len(text) <= MESSAGE_MAX else f"{text[: MESSAGE_MAX - 1]}…",
        "lastTransitionTime": before.get("lastTransitionTime") if kept and before is not None else stamp(now),
        **({"observedGeneration": generation} if generation is not None else {}),
    }


def with_condition(policy: PolicyKeys, problems: tuple[Problem, ...], kind: Kind, now: float) -> list[dict[str, Any]]:
    """The conditions that should stand in the policy's status: others' as they are, and ours."""
    before = next((each for each in policy.conditions if each.get("type") == ACCEPTED), None)
    generation = None if kind.group == "cilium.io" else policy.metadata.generation
    ours = condition(problems, before, now, generation)
    if before is None:
        return [*policy.conditions, ours]
    return [ours if each is before else each for each in policy.conditions]


@dataclass(slots=True)
class _Pauses:
    """Kinds that are left alone until then (seconds of the loop)."""

    until: dict[str, float]

    def left_s(self, kind: Kind) -> float:
        return self.until.get(kind.kind, 0.0) - asyncio.get_running_loop().time()

    def begin(self, kind: Kind, why: str) -> None:
        if self.left_s(kind) <= 0:
            _log.warning("conditions of policies are not kept", kind=kind.kind, why=why, again_s=AGAIN_S)
        self.until[kind.kind] = asyncio.get_running_loop().time() + AGAIN_S


class PolicyBook:
    """`on_policy` at every news; `tell_all` when a term begins, and `run(term)` as a task for its length."""

    def __init__(
        self,
        kube: KubePort,
        rng: Random,
        recorder: events.EventRecorder,
        metrics: Metrics,
        *,
        now: Callable[[], float],
        is_leading: Callable[[], bool],
    ) -> None:
        self._kube = kube
        self._rng = rng
        self._events = recorder
        self._metrics = metrics
        self._now = now
        self._is_leading = is_leading
        self._findings = Findings()
        self._policies: dict[ObjectRef, PolicyKeys] = {}
        self._told: dict[ObjectRef, tuple[Problem, ...]] = {}
        self._queue: WorkQueue[ObjectRef] | None = None
        self._pauses = _Pauses({})

    # --- news --------------------------------------------------------------------------------------------------------

    def on_policy(self, kind: Kind, old: PolicyKeys | None, new: PolicyKeys | None) -> None:
        """A policy came, changed, or (None) went."""
        found = new or old
        assert found is not None
        ref = ObjectRef(kind.kind, found.metadata.namespace, found.metadata.name)
        if new is None:
            self._policies.pop(ref, None)
            self._told.pop(ref, None)
            touched = self._findings.put(ref, None)
        else:
            self._policies[ref] = new
            touched = self._findings.put(ref, new.problems, new.ranks)
        for each in touched:
            self._tell(each)

    def tell_all(self) -> None:
        """A term begins: what was found while following has been told by nobody."""
        self._told.clear()
        for ref in self._policies:
            self._tell(ref)

    def _tell(self, ref: ObjectRef) -> None:
        """An Event for each reason with other findings than before; the leader alone tells, so that it is read once."""
        if not self._is_leading():
            return
        problems, before = self._findings.of(ref), self._told.get(ref, ())
        self._told[ref] = problems
        if self._queue is not None:
            self._queue.add(ref)
        for reason in dict.fromkeys(each.reason for each in problems):
            found, earlier = ([each for each in some if each.reason is reason] for some in (problems, before))
            if found == earlier or (earlier and reason is Reason.PRIORITY_CLASH):  # with whom it clashes is no news
                continue
            self._metrics.policy_problems.labels(ref.kind, reason).inc(len(found))
            self._record(ref, reason, "; ".join(f"{each.field}: {each.message}" for each in found))

    def _record(self, ref: ObjectRef, reason: Reason, note: str) -> None:
        meta = self._policies[ref].metadata
        target = events.ObjectRef(_KINDS[ref.kind], meta.name, meta.namespace, meta.uid)
        self._events.record(target, reason, note, action="ReadingPolicy", event_type="Warning")

    # --- conditions --------------------------------------------------------------------------------------------------

    async def run(self, term: Term) -> None:
        """Until cancelled, or until the term is over."""
        queue = self._queue = WorkQueue(self._rng, Backoff(base_s=0.5, cap_s=60.0))
        try:
            for ref in self._policies:
                queue.add(ref)
            while True:
                ref = await queue.get()
                if await self._once(ref, term, queue):
                    await asyncio.sleep(1 / PER_S)
        finally:
            self._queue = None
            queue.close()

    async def _once(self, ref: ObjectRef, term: Term, queue: WorkQueue[ObjectRef]) -> bool:
        """Bring one status up to date; whether a request was sent."""
        policy, kind = self._policies.get(ref), _KINDS[ref.kind]
        wanted = self._wanted(ref, policy, kind) if policy is not None else None
        if policy is None or wanted is None:
            queue.forget(ref)
            queue.done(ref)
            return False
        if self._pauses.left_s(kind) > 0:
            queue.done(ref)
            queue.add_after(ref, self._pauses.left_s(kind))
            return False
        try:
            await self._write(kind, policy, wanted, term)
        except NotLeading:
            queue.failed(ref)
            return False
        except (KubeForbidden, KubeInvalid) as error:
            self._pauses.begin(kind, str(error))
            self._metrics.wrote(kind.kind, error.reason)
            queue.failed(ref, at_least_s=AGAIN_S)
            return True
        except KubeNotFound:  # it is gone, or its definition has no status of its own
            queue.done(ref)
            queue.add_after(ref, AGAIN_S)
            return True
        except KubeError as error:
            self._metrics.wrote(kind.kind, error.reason)
            queue.failed(ref)
            return True
        queue.forget(ref)
        queue.done(ref)
        return True

    def _wanted(self, ref: ObjectRef, policy: PolicyKeys, kind: Kind) -> list[dict[str, Any]] | None:
        """The conditions to write; None if they stand, or if the kind has no status."""
        if kind == NETWORKPOLICY:
            return None
        wanted = with_condition(policy, self._findings.of(ref), kind, self._now())
        return wanted if wanted != list(policy.conditions) else None

    async def _write(self, kind: Kind, policy: PolicyKeys, wanted: list[dict[str, Any]], term: Term) -> None:
        term.require()
        meta = policy.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version}, "status": {"conditions": wanted}}
        raw = await self._kube.patch(
            kind, meta.name, patch, namespace=meta.namespace, subresource="status", field_manager=FIELD_MANAGER
        )
        self._metrics.wrote(kind.kind, "ok")
        kept = conditions_in(msgspec.json.decode(raw).get("status"))
        if not any(each.get("type") == ACCEPTED for each in kept):
            self._pauses.begin(kind, "its definition keeps no conditions")
