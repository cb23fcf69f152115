"""Writes this node's ENINode.spec and takes in its status; what to write when is decided by `enitide_ipam.report`.

Only `spec` and only fields that changed, as a merge patch. A write that says what is yielded rests on the status it
answers, so it carries that status's version: a late one must fail, not come true after a newer. Everything is
level-triggered: what the server shows last is what was written, whoever wrote it. It knows no netlink, so that the
simulator runs this very code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import msgspec

from enitide_api import durations, resources
from enitide_api.errors import EnitideError, KubeConflict, KubeError, KubeExists, KubeNotFound
from enitide_api.logging import get_logger
from enitide_api.resources import ENINode, ENINodeSpec, ENINodeStatus, InstanceFacts, Metadata
from enitide_enidp.memory import Memory
from enitide_enidp.waits import Waits
from enitide_ipam.records import Record
from enitide_ipam.report import ReportState, decide
from enitide_kube.backoff import Backoff
from enitide_kube.port import ENINODE, KubePort

FIELD_MANAGER = "enitide-agent"
_DEFAULT_INTERVAL_S = 30.0
_JITTER = 0.1
# Changes that come together (20 pods bound at once) make one write.
_GATHER_S = 0.05
_FIELDS = ("instance", "demand", "endpoints", "yielded")
_SUBJECT = "report"

_log = get_logger("report")


def decode(raw: bytes) -> ENINode:
    """An ENINode's bytes."""
    return resources.decode(raw, ENINode)


def changed_fields(before: ENINodeSpec | None, after: ENINodeSpec) -> dict[str, object]:
    """The `spec` of a merge patch: wire name and value of each field that differs."""
    return {
        name: resources.builtins(getattr(after, name))
        for name in _FIELDS
        if before is None or getattr(before, name) != getattr(after, name)
    }


class Reporter:
    """`run()` it as a task; give `observe` every version of the ENINode; `wake()` it when demand may differ."""

    def __init__(
        self,
        kube: KubePort,
        node: str,
        instance: InstanceFacts,
        memory: Memory,
        *,
        waits: Waits,
        rng: Random,
        endpoints_now: bool = False,
    ) -> None:
        """`endpoints_now`: a pod's new address is reported at once, because all nodes wait for it."""
        self.status = ENINodeStatus()
        self.writes = 0
        self._kube = kube
        self._node = node
        self._instance = instance
        self._memory = memory
        self._waits = waits
        self._rng = rng
        self._endpoints_now = endpoints_now
        self._backoff = Backoff(base_s=0.25, cap_s=15.0)
        self._conflict_backoff = Backoff(base_s=0.05, cap_s=1.0)  # the server answers: only somebody was quicker
        self._written: ENINodeSpec | None = None
        self._written_at = 0.0
        self._version = ""
        self._is_writing = False
        self._wake = asyncio.Event()
        memory.on_change(self.wake)

    def wake(self) -> None:
        """Look again whether something is to be written."""
        self._wake.set()

    def observe(self, node: ENINode | None, *, starting: bool = False) -> None:
        """The ENINode as the server has it now; None: it is gone. `starting`: also believe what it says is yielded."""
        if node is None:
            self._written, self._version = None, ""
            self.wake()
            return
        pool, version = self._memory.pool, node.metadata.resource_version
        if not self._is_writing:
            self._written = node.spec
        own = node.status.instance_id == self._instance.id
        self.status, self._version = node.status if own else ENINodeStatus(), version
        records: list[Record] = []
        if starting and node.spec.instance.id == self._instance.id:
            records += pool.adopt_yielded(node.spec.yielded, version)
        records += pool.apply_status(node.status, version, self._memory.now(), listed=node.spec.yielded)
        records += pool.answer_reclaim()
        self._keep(records)
        self.wake()

    async def start(self, timeout_s: float) -> bool:
        """Read the ENINode before the first ADD; whether there was an answer (none: the journal alone must do)."""
        try:
            async with asyncio.timeout(timeout_s):
                self.observe(decode(await self._kube.get(ENINODE, self._node)), starting=True)
        except KubeNotFound:
            return True
        except (KubeError, TimeoutError) as error:
            _log.warning("ENINode not read; going by the journal", error=str(error) or type(error).__name__)
            return False
        return True

    def wanted(self) -> ENINodeSpec:
        """What spec should say now."""
        pool = self._memory.pool
        return ENINodeSpec(
            instance=self._instance,
            demand=pool.demand(self._memory.now()),
            endpoints=pool.endpoints(),
            yielded=pool.yielded(),
        )

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        failures = conflicts = 0
        jitter = self._jitter()
        while True:
            self._wake.clear()
            self._keep(self._memory.pool.answer_reclaim())  # what is asked for may have become idle since
            state = ReportState(
                self._written, self._written_at, self._interval_s() * jitter, endpoints_now=self._endpoints_now
            )
            decision = decide(state, self.wanted(), self.status, loop.time())
            if not decision.write_now:
                await self._rest(decision.due_at if decision.due_at is not None else self._changes_at())
                continue
            await asyncio.sleep(_GATHER_S)
            try:
                written = await self._write(decision.why)
            except EnitideError as error:
                failures += 1
                self._waits.put_error(_SUBJECT, error)
                await asyncio.sleep(self._backoff.delay_s(failures, self._rng))
                continue
            failures = 0
            self._waits.clear(_SUBJECT)
            if written:
                conflicts, jitter = 0, self._jitter()
            else:
                conflicts += 1
                await asyncio.sleep(self._conflict_backoff.delay_s(conflicts, self._rng))

    def _changes_at(self) -> float | None:
        """When there will be something to say although nobody wakes us: demand also falls by time alone."""
        memory = self._memory
        moment = memory.pool.demand_changes_at()
        return None if moment is None else asyncio.get_running_loop().time() + max(0.0, moment - memory.now())

    async def _rest(self, due_at: float | None) -> None:
        try:
            async with asyncio.timeout_at(due_at):
                await self._wake.wait()
        except TimeoutError:
            return

    def _interval_s(self) -> float:
        class_ = self.status.class_
        return durations.seconds(class_.report_interval) if class_ is not None else _DEFAULT_INTERVAL_S

    def _jitter(self) -> float:
        return self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    async def _write(self, why: str) -> bool:
        """Whether it was accepted; if not, what the server has now is known."""
        wanted = self.wanted()
        self._is_writing = True
        try:
            reply = await (self._create(wanted) if self._written is None else self._patch(wanted))
        except (KubeConflict, KubeExists):
            self._is_writing = False
            await self._look()
            return False
        except KubeNotFound:
            self.observe(None)
            return False
        finally:
            self._is_writing = False
        self.writes += 1
        self._written, self._written_at = wanted, asyncio.get_running_loop().time()
        _log.debug("reported", why=why, demand=msgspec.to_builtins(wanted.demand))
        self._take_reply(reply)
        return True

    async def _look(self) -> None:
        """Take in the ENINode as it is, or that there is none."""
        try:
            self.observe(decode(await self._kube.get(ENINODE, self._node)))
        except KubeNotFound:
            self.observe(None)

    async def _create(self, wanted: ENINodeSpec) -> ENINode:
        kind = {"apiVersion": ENINODE.api_version, "kind": ENINODE.kind}  # defaults, so the struct leaves them out
        body = kind | resources.builtins(ENINode(metadata=Metadata(name=self._node), spec=wanted))
        return decode(await self._kube.create(ENINODE, body, field_manager=FIELD_MANAGER))

    async def _patch(self, wanted: ENINodeSpec) -> ENINode:
        fields = changed_fields(self._written, wanted)
        patch: dict[str, object] = {"spec": fields}
        if "yielded" in fields:
            patch["metadata"] = {"resourceVersion": self._version}
        return decode(await self._kube.patch(ENINODE, self._node, patch, field_manager=FIELD_MANAGER))

    def _take_reply(self, reply: ENINode) -> None:
        version = reply.metadata.resource_version
        self.status = reply.status if reply.status.instance_id == self._instance.id else ENINodeStatus()
        self._version = version
        records = self._memory.pool.yielded_written(reply.spec.yielded, reply.status, version, self._memory.now())
        self._keep((*records, *self._memory.pool.answer_reclaim()))

    def _keep(self, records: Sequence[Record]) -> None:
        try:
            self._memory.keep(records)
        except EnitideError as error:
            self._waits.put_error("journal", error)
        else:
            self._waits.clear("journal")
