"""The only way to EC2: budget, leader's term, time-out, paging, counting and the only retries there are.

The term is asked after every wait and right before each attempt of a mutating call, so that a leader that was paused
in between sends nothing. Throttling and an unreachable endpoint took no effect, so they are tried again here, each try
paid for; an ambiguous mutation never is: whoever ordered it must read first. Reads may be repeated freely.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Protocol, TypeVar

from enitide_api.errors import EC2Ambiguous, EC2Error, EC2Throttled, EC2Unavailable, NotLeading
from enitide_ipam.blocks import CidrReservation
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import (
    AttachInterface,
    CreateInterface,
    ElasticView,
    EniView,
    GroupView,
    RouteTableView,
    SubnetView,
)
from enitide_kube.backoff import Backoff
from enitide_operator.ec2.budget import READ, Budget, Order
from enitide_operator.ec2.port import (
    MUTATIONS,
    Assigned,
    Ec2Port,
    InstanceView,
    InterfaceQuery,
    Page,
    Read,
    Verb,
    VpcView,
)

T = TypeVar("T")

GIVE_UP_S = 60.0  # after this long the caller plans anew: what it wanted may no longer be wanted
READ_GIVE_UP_S = 3.0  # readers have many askers, who are to say soon why they wait, and ask again
OnWait = Callable[[EC2Error], None]


def _quiet(_error: EC2Error) -> None:
    return None


class Gate(Protocol):
    """Whether a mutating call may be sent now; asked next to the send."""

    def require(self) -> None:
        """`NotLeading` if it may not."""
        ...


class CallObserver(Protocol):
    """Counts what was called and how it ended."""

    def called(self, verb: str, outcome: str, took_s: float) -> None: ...

    def waited(self, verb: str, waited_s: float) -> None: ...


class Gateway:
    """See the module. `on_wait` of a call is told of each refusal that is being waited out, so that a node says why."""

    def __init__(
        self,
        port: Ec2Port,
        budget: Budget,
        gate: Gate,
        observer: CallObserver,
        *,
        now: Callable[[], float],
        rng: Random,
        call_timeout_s: float = 15.0,
    ) -> None:
        self._port = port
        self._budget = budget
        self._gate = gate
        self._observer = observer
        self._now = now
        self._rng = rng
        self._call_timeout_s = call_timeout_s
        self._backoff = Backoff(base_s=1.0, cap_s=15.0)
        self._mutating = 0  # mutating calls under way now
        self._idle = asyncio.Event()
        self._idle.set()
        self._mutated_at_s = float("-inf")  # when the last one ended

    async def idle(self) -> None:
        """Return when no mutating call is under way: one call time-out at most, if none may begin."""
        await self._idle.wait()

    async def settled(self, lag_s: float) -> None:
        """Return when no mutating call is under way, and none ended less than `lag_s` ago: reads show them all."""
        await self._idle.wait()
        await asyncio.sleep(max(0.0, self._mutated_at_s + lag_s - asyncio.get_running_loop().time()))

    # --- reads ---------------------------------------------------------------------------------------------------

    async def interfaces(self, query: InterfaceQuery, *, patient: bool = True) -> Read[EniView]:
        """All ENIs of the query. Not `patient`: what fails is not tried again here, its askers will."""
        give_up_s = READ_GIVE_UP_S if patient else 0.0
        return await self._pages(
            Verb.DESCRIBE_INTERFACES, lambda t: self._port.describe_interfaces(query, t), give_up_s
        )

    async def instances(self, ids: tuple[str, ...]) -> Read[InstanceView]:
        """Those of the ids that EC2 knows."""
        return await self._pages(Verb.DESCRIBE_INSTANCES, lambda t: self._port.describe_instances(ids, t))

    async def instance_type(self, name: str) -> InstanceLimits | None:
        """Limits of a type that the shipped table does not know; None if EC2 does not either. Its asker tries again."""
        return await self._call(
            Verb.DESCRIBE_INSTANCE_TYPES, lambda: self._port.describe_instance_type(name), READ, _quiet, 0.0
        )

    async def subnets(self, vpc_id: str) -> Read[SubnetView]:
        """All subnets of a VPC, without route tables."""
        return await self._pages(Verb.DESCRIBE_SUBNETS, lambda t: self._port.describe_subnets(vpc_id, t))

    async def groups(self, vpc_id: str) -> Read[GroupView]:
        """All security groups of a VPC."""
        return await self._pages(Verb.DESCRIBE_GROUPS, lambda t: self._port.describe_groups(vpc_id, t))

    async def route_tables(self, vpc_id: str) -> Read[RouteTableView]:
        """All route tables of a VPC."""
        return await self._pages(Verb.DESCRIBE_ROUTE_TABLES, lambda t: self._port.describe_route_tables(vpc_id, t))

    async def vpcs(self, vpc_id: str) -> Read[VpcView]:
        """The VPC, or nothing."""
        return await self._pages(Verb.DESCRIBE_VPCS, lambda t: self._port.describe_vpcs(vpc_id, t))

    async def reservations(self, subnet_id: str) -> Read[CidrReservation]:
        """All IPv4 CIDR reservations of a subnet."""
        return await self._pages(Verb.GET_RESERVATIONS, lambda t: self._port.subnet_reservations(subnet_id, t))

    async def elastic_ips(self, tags: Mapping[str, str]) -> Read[ElasticView]:
        """Elastic IPs that carry all the tags."""
        asked_at = self._now()
        found = await self._call(Verb.DESCRIBE_ADDRESSES, lambda: self._port.describe_elastic_ips(tags), READ, _quiet)
        return Read(found, asked_at)

    async def _pages(
        self, verb: Verb, page: Callable[[str], Awaitable[Page[T]]], give_up_s: float = READ_GIVE_UP_S
    ) -> Read[T]:
        asked_at = self._now()
        items: list[T] = []
        token = ""
        while True:
            got = await self._call(verb, lambda token=token: page(token), READ, _quiet, give_up_s)  # type: ignore[misc]
            items += got.items
            token = got.next_token
            if not token:
                return Read(tuple(items), asked_at)

    # --- mutations -----------------------------------------------------------------------------------------------

    async def create(self, order: CreateInterface, place: Order, on_wait: OnWait = _quiet) -> EniView:
        """CreateNetworkInterface."""
        return await self._call(Verb.CREATE, lambda: self._port.create_interface(order), place, on_wait)

    async def attach(self, order: AttachInterface, place: Order, on_wait: OnWait = _quiet) -> str:
        """AttachNetworkInterface; the attachment's id."""
        return await self._call(
            Verb.ATTACH,
            lambda: self._port.attach_interface(order.eni_id, order.instance_id, order.card, order.index),
            place,
            on_wait,
        )

    async def set_delete_on_termination(
        self, eni_id: str, attachment_id: str, place: Order, on_wait: OnWait = _quiet, *, value: bool
    ) -> None:
        """ModifyNetworkInterfaceAttribute."""
        await self._call(
            Verb.MODIFY,
            lambda: self._port.set_delete_on_termination(eni_id, attachment_id, value=value),
            place,
            on_wait,
        )

    async def detach(self, attachment_id: str, place: Order, on_wait: OnWait = _quiet) -> None:
        """DetachNetworkInterface."""
        await self._call(Verb.DETACH, lambda: self._port.detach_interface(attachment_id), place, on_wait)

    async def delete(self, eni_id: str, place: Order, on_wait: OnWait = _quiet) -> None:
        """DeleteNetworkInterface."""
        await self._call(Verb.DELETE, lambda: self._port.delete_interface(eni_id), place, on_wait)

    async def assign(
        self,
        eni_id: str,
        place: Order,
        on_wait: OnWait = _quiet,
        *,
        addresses: int = 0,
        prefixes: int = 0,
        names: tuple[str, ...] = (),
    ) -> Assigned:
        """AssignPrivateIpAddresses."""
        return await self._call(
            Verb.ASSIGN,
            lambda: self._port.assign_private(eni_id, addresses=addresses, prefixes=prefixes, names=names),
            place,
            on_wait,
        )

    async def associate(self, eni_id: str, allocation_id: str, place: Order, on_wait: OnWait = _quiet) -> None:
        """AssociateAddress."""
        await self._call(Verb.ASSOCIATE, lambda: self._port.associate_elastic_ip(eni_id, allocation_id), place, on_wait)

    async def assign_ipv6(self, eni_id: str, place: Order, on_wait: OnWait = _quiet) -> tuple[str, ...]:
        """AssignIpv6Addresses: one /80."""
        return await self._call(Verb.ASSIGN_IPV6, lambda: self._port.assign_ipv6_prefix(eni_id), place, on_wait)

    async def unassign(
        self,
        eni_id: str,
        addresses: tuple[str, ...],
        prefixes: tuple[str, ...],
        place: Order,
        on_wait: OnWait = _quiet,
    ) -> None:
        """UnassignPrivateIpAddresses."""
        await self._call(
            Verb.UNASSIGN, lambda: self._port.unassign_private(eni_id, addresses, prefixes), place, on_wait
        )

    # --- the one way out -----------------------------------------------------------------------------------------

    async def _call(
        self,
        verb: Verb,
        send: Callable[[], Awaitable[T]],
        place: Order,
        on_wait: OnWait,
        read_give_up_s: float = READ_GIVE_UP_S,
    ) -> T:
        """Attempts until one is answered for good, or it is time to raise the last error."""
        loop = asyncio.get_running_loop()
        give_up_s = float("inf")
        failures = 0
        while True:
            queued_s = loop.time()
            await self._budget.take(verb, place)
            self._observer.waited(verb, loop.time() - queued_s)
            try:
                return await self._attempt(verb, send)
            except EC2Error as error:
                failures += 1
                if failures == 1:  # time spent in the queue is not the call's fault
                    give_up_s = loop.time() + (GIVE_UP_S if verb in MUTATIONS else read_give_up_s)
                delay_s = self._backoff.delay_s(failures, self._rng)
                if not _again(error, verb) or loop.time() + delay_s >= give_up_s:
                    raise
                on_wait(error)
            await asyncio.sleep(delay_s)

    async def _attempt(self, verb: Verb, send: Callable[[], Awaitable[T]]) -> T:
        """One attempt. Nothing stands between the question for the term and the send."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        outcome = "cancelled"
        mutating = verb in MUTATIONS
        if mutating:
            self._mutating += 1
            self._idle.clear()
        try:
            async with asyncio.timeout(self._call_timeout_s):
                if mutating:
                    self._gate.require()
                result = await send()
            outcome = "ok"
        except TimeoutError as error:
            outcome = "timeout"
            message = f"{verb}: no answer within {self._call_timeout_s:g} s"
            raise EC2Ambiguous(message, code="Timeout", verb=verb) from error
        except NotLeading as error:
            outcome = error.reason
            raise
        except EC2Error as error:
            outcome = error.code or error.reason
            if isinstance(error, EC2Throttled):
                self._budget.throttled(verb)
            raise
        else:
            self._budget.succeeded(verb)
            return result
        finally:
            if mutating:
                self._mutating -= 1
                self._mutated_at_s = loop.time()
                if not self._mutating:
                    self._idle.set()
            self._observer.called(verb, outcome, loop.time() - began_s)


def _again(error: EC2Error, verb: Verb) -> bool:
    if isinstance(error, EC2Throttled | EC2Unavailable):
        return True
    return isinstance(error, EC2Ambiguous) and verb not in MUTATIONS
