"""Facts that many nodes share, read seldom: a VPC's subnets, groups, route tables and CIDRs; limits of unknown types.

Each VPC that a verified node is in is read once at first need, hourly (jittered), and its subnets alone soon after a
refusal, ever later while refusals go on. One VPC that cannot be read keeps only its own nodes waiting, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from enitide_api.errors import EC2Ambiguous, EC2Error, EC2Unavailable, EnitideError, InternalError
from enitide_api.logging import get_logger
from enitide_ipam.limits import InstanceLimits, limits_for
from enitide_kube.backoff import Backoff
from enitide_operator.book import Book
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.tasks import Tasks
from enitide_operator.trouble import backoff_of

_log = get_logger(__name__)

AFTER_REFUSAL_S = 1.0
AFTER_REFUSAL_MOST_S = 60.0
STARVING_S = 60.0
DOUBT_LIMITS_S = 3600.0
CALM_S = 300.0  # without a refusal for so long, the next is the first again


@dataclass(slots=True)
class _Vpc:
    """`refusals`: in a row, for spacing. `error`: why the last reading failed."""

    kicked: asyncio.Event = field(default_factory=asyncio.Event)
    error: EnitideError | None = None
    refusals: int = 0
    refused_at_s: float = float("-inf")
    due_s: float = float("inf")
    read_at_s: float = float("-inf")
    good_at_s: float | None = None
    wanted_s: float = 0.0
    whole: bool = False


class Discovery:
    """`want_vpc` and `limits` are cheap to ask in every pass; `on_vpc` and `on_limits` tell when there is news."""

    def __init__(
        self,
        gateway: Gateway,
        book: Book,
        *,
        interval_s: float,
        rng: Random,
        tasks: Tasks,
        on_vpc: Callable[[str], None],
        on_limits: Callable[[str], None],
        table: Callable[[str], InstanceLimits | None] = limits_for,
        on_read: Callable[[str, float], None] = lambda _outcome, _took_s: None,
    ) -> None:
        """`table`: the limits that need no call."""
        self._gateway = gateway
        self._book = book
        self._interval_s = interval_s
        self._rng = rng
        self._on_vpc = on_vpc
        self._on_limits = on_limits
        self._on_read = on_read
        self._backoff = Backoff(base_s=2.0, cap_s=30.0, lasting_cap_s=300.0)
        self._vpcs: dict[str, _Vpc] = {}
        self._table = table
        self._limits: dict[str, InstanceLimits | None] = {}
        self._limits_errors: dict[str, str] = {}
        self._asking: set[str] = set()
        self._doubted_s: dict[str, float] = {}
        self._tasks = tasks

    # --- VPCs ------------------------------------------------------------------------------------------------------

    def want_vpc(self, vpc_id: str) -> EnitideError | None:
        """From now on this VPC is kept read. Returns why it could not be read the last time, None if it could."""
        state = self._vpcs.get(vpc_id)
        if state is None:
            state = self._vpcs[vpc_id] = _Vpc(wanted_s=asyncio.get_running_loop().time())
            self._tasks.spawn(self._keep(vpc_id, state), name=f"read {vpc_id}")
        return state.error

    def refused(self, vpc_id: str) -> None:
        """A subnet of the VPC turned out to be without room: read the counts again soon."""
        state = self._vpcs.get(vpc_id)
        if state is None:
            return
        now_s = asyncio.get_running_loop().time()
        state.refusals = state.refusals + 1 if now_s - state.refused_at_s < CALM_S else 1
        state.refused_at_s = now_s
        delay_s = min(AFTER_REFUSAL_MOST_S, AFTER_REFUSAL_S * 2.0 ** min(state.refusals - 1, 10))
        self._hurry(state, now_s + delay_s)

    def starving(self, vpc_id: str, *, whole: bool) -> None:
        """Nodes wait for room, or (`whole`) for a subnet or group that matches: keep reading while they do."""
        state = self._vpcs.get(vpc_id)
        if state is not None:
            state.whole = state.whole or whole
            self._hurry(state, state.read_at_s + STARVING_S)

    def _hurry(self, state: _Vpc, due_s: float) -> None:
        if due_s < state.due_s:
            state.due_s = due_s
            state.kicked.set()

    async def _keep(self, vpc_id: str, state: _Vpc) -> None:
        loop = asyncio.get_running_loop()
        failures, failing_s = 0, 0.0
        whole_due_s = loop.time()
        while True:
            state.due_s = float("inf")
            whole = state.whole or loop.time() >= whole_due_s
            began_s = loop.time()
            try:
                await (self._read(vpc_id) if whole else self._count(vpc_id))
                state.error, failures = None, 0
                state.good_at_s = loop.time()
                self._on_read("ok", loop.time() - began_s)
                if whole:
                    state.whole = False
                    whole_due_s = loop.time() + self._interval_s * self._rng.uniform(0.9, 1.1)
                wait_s = whole_due_s - loop.time()
            except Exception as found:  # noqa: BLE001 - not even a bug ends the reading of a VPC for good
                failing_s = loop.time() if not failures else failing_s
                failures += 1
                error = state.error = found if isinstance(found, EnitideError) else InternalError(repr(found))
                self._on_read(error.reason, loop.time() - began_s)
                _log.warning("VPC not read", vpc=vpc_id, reason=error.reason, why=str(error))
                wait_s = self._backoff.delay_s(failures, self._rng, loop.time() - failing_s)
            state.read_at_s = loop.time()
            self._on_vpc(vpc_id)
            await self._rest(state, loop.time() + wait_s)

    async def _count(self, vpc_id: str) -> None:
        self._book.merge_counts(vpc_id, await self._gateway.subnets(vpc_id))

    async def _read(self, vpc_id: str) -> None:
        """All four readings side by side; one that fails fails the whole."""
        gateway = self._gateway
        subnets, groups, tables, vpcs = await asyncio.gather(
            gateway.subnets(vpc_id), gateway.groups(vpc_id), gateway.route_tables(vpc_id), gateway.vpcs(vpc_id)
        )
        self._book.merge(vpc_id, subnets, groups, tables, vpcs)

    async def _rest(self, state: _Vpc, until_s: float) -> None:
        """Until the next reading is due, or soon after a refusal. A failed reading is not hurried by refusals."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = until_s if state.error is not None else min(until_s, state.due_s)
            if loop.time() >= due_s:
                return
            state.kicked.clear()
            try:
                async with asyncio.timeout_at(due_s):
                    await state.kicked.wait()
            except TimeoutError:
                return

    def ages(self) -> dict[str, float]:
        """Seconds since each VPC was last read without an error; since it was first wanted where it never was."""
        now_s = asyncio.get_running_loop().time()
        return {vpc: now_s - (s.wanted_s if s.good_at_s is None else s.good_at_s) for vpc, s in self._vpcs.items()}

    # --- limits ----------------------------------------------------------------------------------------------------

    def limits(self, instance_type: str) -> InstanceLimits | None:
        """From the shipped table, else from one call per unknown type; None while it is not known.

        What EC2 said itself, because it was asked, goes before the table.
        """
        known = self._limits.get(instance_type) or self._table(instance_type)
        if known is not None or not instance_type:
            return known
        if instance_type not in self._limits:
            self._learn(instance_type)
        return None

    def limits_error(self, instance_type: str) -> str:
        """Why EC2 has not told them, as the end of a sentence; '' while it was not asked or has not answered yet."""
        if instance_type in self._limits and self._limits[instance_type] is None:
            return "EC2 does not know it either"
        return self._limits_errors.get(instance_type, "")

    def doubt_limits(self, instance_type: str) -> None:
        """EC2 refused what the limits allow: ask it for them, once an hour per type at most."""
        now_s = asyncio.get_running_loop().time()
        if instance_type and now_s - self._doubted_s.get(instance_type, float("-inf")) >= DOUBT_LIMITS_S:
            self._doubted_s[instance_type] = now_s
            self._learn(instance_type)

    def _learn(self, instance_type: str) -> None:
        if instance_type not in self._asking:
            self._asking.add(instance_type)
            self._tasks.spawn(self._ask(instance_type), name=f"limits of {instance_type}")

    async def _ask(self, instance_type: str) -> None:
        """Until EC2 has answered, however many nodes wait; they are told why when that changes."""
        loop = asyncio.get_running_loop()
        failures, began_s = 0, loop.time()
        while True:
            try:
                self._limits[instance_type] = await self._gateway.instance_type(instance_type)
            except EC2Error as error:
                failures += 1
                _log.warning("instance type not read", type=instance_type, reason=error.reason, why=str(error))
                before, now = self._limits_errors.get(instance_type), _limits_error(error)
                self._limits_errors[instance_type] = now
                if now != before:
                    self._on_limits(instance_type)
                await asyncio.sleep(backoff_of(error).delay_s(failures, self._rng, loop.time() - began_s))
                continue
            self._limits_errors.pop(instance_type, None)
            self._asking.discard(instance_type)
            self._on_limits(instance_type)
            return


def _limits_error(error: EC2Error) -> str:
    """Without EC2's own text, which differs from call to call: the nodes' conditions say it."""
    code = error.code or error.reason
    if isinstance(error, EC2Ambiguous | EC2Unavailable):
        return f"EC2 does not answer {error.verb}: {code}"
    return f"EC2 refused {error.verb}: {code}"
