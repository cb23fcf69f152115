"""Writes SubnetReports: what is left in each subnet that nodes use, who holds the rest, and when it runs full.

Seldom, jittered and only what differs: a report is written at most once a minute, all of them at a bounded rate.
Histories go on from what stands written, so that neither a restart nor a new leader forgets the past. A report whose
subnet is gone from a VPC that has been read is deleted; of a VPC that nobody has read nothing is concluded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from enitide_api.errors import EnitideError, InternalError, KubeError, KubeExists, KubeNotFound, NotLeading
from enitide_api.logging import get_logger
from enitide_api.resources import API_VERSION, InstanceFacts, builtins, decode
from enitide_api.subnetreport import SubnetReport, SubnetReportSpec, SubnetReportStatus
from enitide_ipam.model import SubnetView
from enitide_ipam.subnet_report import changed_parts, report_spec, report_status
from enitide_ipam.subnets import eligible
from enitide_kube.port import SUBNETREPORT
from enitide_operator.context import FIELD_MANAGER, Context

_log = get_logger(__name__)

TICK_S = 20.0
EVERY_S = 60.0  # between two writes of one report
WRITES_PER_S = 5.0


@dataclass(frozen=True, slots=True)
class _Written:
    """One report as it stands at the server. `at`: when we wrote it last (Unix seconds)."""

    spec: SubnetReportSpec
    status: SubnetReportStatus
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a node is, and its class by name: all nodes alike in this can use the same subnets."""

    vpc_id: str
    zone: str
    subnet_id: str
    class_name: str


def used_subnets(ctx: Context, placements: Collection[Placement]) -> tuple[SubnetView, ...]:
    """The subnets that nodes are in or can be given addresses from, by id."""
    found: dict[str, SubnetView] = {}
    for each in placements:
        subnets = ctx.book.subnets(each.vpc_id, ctx.now())
        instance = InstanceFacts(vpc_id=each.vpc_id, availability_zone=each.zone, subnet_id=each.subnet_id)
        selector = ctx.classes.named(each.class_name).interfaces.subnet_selector
        own = (subnet for subnet in subnets if subnet.id == each.subnet_id)
        found |= {subnet.id: subnet for subnet in (*eligible(subnets, instance, selector), *own)}
    return tuple(found[name] for name in sorted(found))


class SubnetReporter:
    """`run()` as a task of a term. `placements()`: where nodes are."""

    def __init__(self, ctx: Context, placements: Callable[[], Collection[Placement]]) -> None:
        self._ctx = ctx
        self._placements = placements
        self._reports: dict[str, _Written] | None = None

    async def run(self) -> None:
        """Until the term ends."""
        ctx = self._ctx
        while not ctx.term.ended:
            await asyncio.sleep(TICK_S * ctx.rng.uniform(0.8, 1.2))
            try:
                await self._round()
            except NotLeading:
                continue
            except Exception as found:  # noqa: BLE001 - not even a bug ends the reports for good
                error = found if isinstance(found, EnitideError) else InternalError(repr(found))
                _log.warning("subnets not reported", reason=error.reason, why=str(error))
                self._reports = None

    async def _round(self) -> None:
        if self._reports is None:
            self._reports = await self._read()
        reports = self._reports
        now = self._ctx.now()
        subnets = used_subnets(self._ctx, self._placements())
        self._ctx.maps.show([each.id for each in subnets])
        for subnet in subnets:
            before = reports.get(subnet.id)
            if before is None or now - before.at >= EVERY_S:
                await self._bring(subnet, before)
        for name in [each for each, report in reports.items() if self._is_gone(each, report.spec.vpc_id)]:
            await self._delete(name)

    async def _read(self) -> dict[str, _Written]:
        """All reports there are."""
        found: dict[str, _Written] = {}
        token = ""
        while True:
            page = await self._ctx.kube.list(SUBNETREPORT, continue_token=token)
            for raw in page.items:
                report = decode(raw, SubnetReport)
                found[report.metadata.name] = _Written(report.spec, report.status)
            token = page.continue_token
            if not token:
                return found

    def _is_gone(self, subnet_id: str, vpc_id: str) -> bool:
        book, now = self._ctx.book, self._ctx.now()
        return book.knows(vpc_id) and all(each.id != subnet_id for each in book.subnets(vpc_id, now))

    async def _bring(self, subnet: SubnetView, before: _Written | None) -> None:
        """Have the report say what is so."""
        ctx = self._ctx
        spec = report_spec(subnet)
        stood = before.status if before is not None else SubnetReportStatus()
        status = report_status(subnet, ctx.book.map_of(subnet.id), stood, ctx.now())
        parts = changed_parts(stood, status)
        assert self._reports is not None
        try:
            if before is None:
                await self._create(subnet.id, spec)
            elif before.spec != spec:
                await self._write("spec", subnet.id, {"spec": builtins(spec)})
            if parts:
                await self._write("status", subnet.id, {"status": parts})
                self._reports[subnet.id] = _Written(spec, status, ctx.now())
            elif before is not None:
                self._reports[subnet.id] = replace(before, spec=spec)
        except KubeNotFound:
            self._reports.pop(subnet.id, None)  # somebody deleted it: it is made anew, with its history
        except KubeError as error:
            ctx.metrics.wrote(SUBNETREPORT.kind, error.reason)
            _log.warning("subnet not reported", subnet=subnet.id, reason=error.reason, why=str(error))
            self._reports[subnet.id] = replace(before or _Written(spec, stood), at=ctx.now())

    async def _create(self, name: str, spec: SubnetReportSpec) -> None:
        body = {"apiVersion": API_VERSION, "kind": SUBNETREPORT.kind, "metadata": {"name": name}}
        self._ctx.term.require()
        try:
            await self._ctx.kube.create(SUBNETREPORT, body | {"spec": builtins(spec)}, field_manager=FIELD_MANAGER)
        except KubeExists:
            return
        self._ctx.metrics.wrote(SUBNETREPORT.kind, "ok")

    async def _write(self, part: str, name: str, patch: dict[str, object]) -> None:
        ctx = self._ctx
        ctx.term.require()
        subresource = "status" if part == "status" else ""
        await ctx.kube.patch(SUBNETREPORT, name, patch, subresource=subresource, field_manager=FIELD_MANAGER)
        ctx.metrics.wrote(SUBNETREPORT.kind, "ok")
        await asyncio.sleep(1 / WRITES_PER_S)

    async def _delete(self, name: str) -> None:
        self._ctx.term.require()
        try:
            await self._ctx.kube.delete(SUBNETREPORT, name)
        except KubeNotFound:
            pass
        except KubeError as error:
            _log.warning("report not deleted", subnet=name, reason=error.reason, why=str(error))
            return
        assert self._reports is not None
        del self._reports[name]
        _log.info("subnet gone", subnet=name)
