"""Keeps the /28 maps of subnets read: those that a node which may use prefixes can be given addresses from.

And those that are only reported (`show`): planning does not rest on them. Read at first want, hourly (jittered), soon
after a refusal, and when somebody wants prefixes of a subnet whose map is old and shows none. A map that cannot be read
keeps nobody waiting: its subnet is planned for without, as one whose whole /28s are unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from random import Random

from enitide_api.errors import EnitideError, InternalError
from enitide_api.logging import get_logger
from enitide_ipam.block_reading import block_map
from enitide_ipam.model import SubnetView
from enitide_kube.backoff import Backoff
from enitide_operator.book import Book
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.ec2.port import InterfaceQuery
from enitide_operator.tasks import Tasks

_log = get_logger(__name__)

AFTER_REFUSAL_S = 1.0
AFTER_REFUSAL_MOST_S = 60.0
CALM_S = 300.0  # without a refusal for so long, the next is the first again
COUNTED_S = 5.0  # so old may EC2's free count be that tells whether a map shows everybody
OLD_S = 300.0  # others give /28s back meanwhile: a map that shows none is asked again before single ones are taken


@dataclass(slots=True)
class _Subnet:
    """Times are the loop's. `asked`: a reading was tried and has ended, well or not."""

    kicked: asyncio.Event = field(default_factory=asyncio.Event)
    asked: bool = False
    read_at_s: float = float("-inf")
    due_s: float = float("inf")
    refusals: int = 0
    refused_at_s: float = float("-inf")


class MapReader:
    """`want` is cheap to ask in every pass; `on_map` tells of each reading, with the subnet's id."""

    def __init__(
        self,
        gateway: Gateway,
        book: Book,
        *,
        cluster: str,
        interval_s: float,
        rng: Random,
        tasks: Tasks,
        now: Callable[[], float],
        instances: Callable[[], Collection[str]],
        on_map: Callable[[str], None],
    ) -> None:
        """`instances`: ids of our nodes, whose ENIs are ours with or without a tag. `now`: Unix seconds."""
        self._gateway = gateway
        self._book = book
        self._cluster = cluster
        self._interval_s = interval_s
        self._rng = rng
        self._tasks = tasks
        self._now = now
        self._instances = instances
        self._on_map = on_map
        self._backoff = Backoff(base_s=2.0, cap_s=120.0)
        self._subnets: dict[str, _Subnet] = {}

    def want(self, subnet_ids: Iterable[str], *, fresh: bool = False) -> bool:
        """From now on these are kept read. Whether planning may go on: each was read, or could not be.

        `fresh`: what the maps show is not enough, so old ones are read again first.
        """
        now_s = asyncio.get_running_loop().time()
        ready = True
        for subnet_id in subnet_ids:
            self._book.plan_by_map(subnet_id)
            state = self._kept(subnet_id)
            if fresh and state.asked and now_s - state.read_at_s > OLD_S:
                state.asked = False
                self._hurry(state, now_s)
            ready = ready and state.asked
        return ready

    def show(self, subnet_ids: Iterable[str]) -> None:
        """From now on these are kept read, to be shown; nothing is planned by them unless somebody `want`s them."""
        for subnet_id in subnet_ids:
            self._kept(subnet_id)

    def _kept(self, subnet_id: str) -> _Subnet:
        state = self._subnets.get(subnet_id)
        if state is None:
            state = self._subnets[subnet_id] = _Subnet()
            self._tasks.spawn(self._keep(subnet_id, state), name=f"map {subnet_id}")
        return state

    def refused(self, subnet_id: str) -> None:
        """EC2 had no whole /28, no room, or not the address that was asked for by name: read the map again soon."""
        state = self._subnets.get(subnet_id)
        if state is None:
            return
        now_s = asyncio.get_running_loop().time()
        state.refusals = state.refusals + 1 if now_s - state.refused_at_s < CALM_S else 1
        state.refused_at_s = now_s
        self._hurry(state, now_s + min(AFTER_REFUSAL_MOST_S, AFTER_REFUSAL_S * 2.0 ** min(state.refusals - 1, 10)))

    def _hurry(self, state: _Subnet, due_s: float) -> None:
        if due_s < state.due_s:
            state.due_s = due_s
            state.kicked.set()

    async def _keep(self, subnet_id: str, state: _Subnet) -> None:
        """One subnet's readings, one after another, until it is gone."""
        loop = asyncio.get_running_loop()
        failures = 0
        while (subnet := self._book.subnet(subnet_id, self._now())) is not None:
            state.due_s = float("inf")  # a refusal from here on wants a reading after this one
            try:
                await self._read(subnet)
                failures = 0
                wait_s = self._interval_s * self._rng.uniform(0.9, 1.1)
            except Exception as found:  # noqa: BLE001 - not even a bug ends the reading of a subnet for good
                failures += 1
                error = found if isinstance(found, EnitideError) else InternalError(repr(found))
                _log.warning("/28 map not read", subnet=subnet_id, reason=error.reason, why=str(error))
                wait_s = self._backoff.delay_s(failures, self._rng)
            state.read_at_s = loop.time()
            state.asked = True
            state.due_s = min(state.due_s, loop.time() + wait_s)
            self._on_map(subnet_id)
            await self._rest(state)
        del self._subnets[subnet_id]  # the subnet is gone

    async def _read(self, subnet: SubnetView) -> None:
        """All ENIs of the subnet, whoever they belong to, and its reservations; and the count to compare them with."""
        await self._count(subnet)
        enis, reservations = await asyncio.gather(
            self._gateway.interfaces(InterfaceQuery(subnet_ids=(subnet.id,))), self._gateway.reservations(subnet.id)
        )
        blocks = block_map(
            subnet.cidr,
            enis.items,
            reservations.items,
            cluster=self._cluster,
            nodes=self._instances(),
            asked_at=enis.asked_at,
        )
        self._book.merge_map(subnet.id, blocks, self._now())

    async def _count(self, subnet: SubnetView) -> None:
        if self._book.counted_at(subnet.id) < self._now() - COUNTED_S:
            self._book.merge_counts(subnet.vpc_id, await self._gateway.subnets(subnet.vpc_id))

    async def _rest(self, state: _Subnet) -> None:
        """Until the next reading is due, which a refusal may hasten."""
        loop = asyncio.get_running_loop()
        while loop.time() < state.due_s:
            state.kicked.clear()
            try:
                async with asyncio.timeout_at(state.due_s):
                    await state.kicked.wait()
            except TimeoutError:
                return
