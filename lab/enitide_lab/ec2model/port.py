"""The model's Python face: the operator's EC2 port without a wire, for the simulator and tests under a virtual clock.

What the server and the AWS SDK do between them is done here in one step: the same views, the same errors. Time passes
by the running loop. It decides nothing: what becomes of a call is `physics.py`'s word, what it does the model's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from enitide_api.errors import EC2Ambiguous
from enitide_ipam.blocks import CidrReservation
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import (
    Attachment,
    CreateInterface,
    ElasticView,
    EniView,
    GroupView,
    RouteTableView,
    SubnetView,
)
from enitide_lab.ec2model import AnswerLost, EC2Model, ModelError, Physics
from enitide_lab.ec2model.types import NetworkInterface
from enitide_operator.ec2 import views
from enitide_operator.ec2.port import Assigned, InstanceView, InterfaceQuery, Page, Verb, VpcView, refusal

T = TypeVar("T")
PAGE = 500


class ModelEc2:
    """`Ec2Port`. `on_call(verb)` comes before each mutating call; what it gives is called when it took effect.

    `on_crash(verb)` is called where a fault wants the caller dead after that call took effect.
    """

    def __init__(
        self,
        model: EC2Model,
        physics: Physics,
        caller: str,
        on_call: Callable[[Verb], Callable[[], None]] = lambda _verb: lambda: None,
        on_crash: Callable[[str], None] = lambda _verb: None,
    ) -> None:
        self._model = model
        self._physics = physics
        self._caller = caller
        self._on_call = on_call
        self._on_crash = on_crash

    # --- reads -----------------------------------------------------------------------------------------------------

    async def describe_interfaces(self, query: InterfaceQuery, token: str) -> Page[EniView]:
        wanted = query.filters()
        page = await self._carry(
            Verb.DESCRIBE_INTERFACES,
            lambda: self._model.describe_network_interfaces(filters=wanted, max_results=PAGE, next_token=token or None),
            {value for values in wanted.values() for value in values},
            empty=_Nothing,
        )
        return Page(tuple(eni_view(each) for each in page.items), page.next_token or "")

    async def describe_instances(self, ids: tuple[str, ...], token: str) -> Page[InstanceView]:
        page = await self._carry(
            Verb.DESCRIBE_INSTANCES,
            lambda: self._model.describe_instances(
                filters={"instance-id": ids}, max_results=PAGE, next_token=token or None
            ),
            set(ids),
            empty=_Nothing,
        )
        return Page(tuple(InstanceView(each.id, each.state) for each in page.items), page.next_token or "")

    async def describe_instance_type(self, name: str) -> InstanceLimits | None:
        page = await self._carry(
            Verb.DESCRIBE_INSTANCE_TYPES,
            lambda: self._model.describe_instance_types(patterns=(name,)),
            {name},
            _Nothing,
        )
        return next((views.limits(each) for each in page.items), None)

    async def describe_subnets(self, vpc_id: str, token: str) -> Page[SubnetView]:
        page = await self._carry(
            Verb.DESCRIBE_SUBNETS,
            lambda: self._model.describe_subnets(
                filters={"vpc-id": (vpc_id,)}, max_results=PAGE, next_token=token or None
            ),
            {vpc_id},
            _Nothing,
        )
        found = [
            SubnetView(
                id=each.id,
                vpc_id=each.vpc_id,
                zone=each.zone,
                cidr=each.cidr,
                free=each.free,
                ipv6_cidr=each.ipv6_cidr or "",
                tags=dict(each.tags),
            )
            for each in page.items
        ]
        return Page(tuple(found), page.next_token or "")

    async def describe_groups(self, vpc_id: str, token: str) -> Page[GroupView]:
        del token
        groups = await self._carry(
            Verb.DESCRIBE_GROUPS,
            lambda: self._model.describe_security_groups(filters={"vpc-id": (vpc_id,)}),
            {vpc_id},
            tuple,
        )
        return Page(tuple(GroupView(each.id, each.vpc_id, dict(each.tags)) for each in groups))

    async def describe_route_tables(self, vpc_id: str, token: str) -> Page[RouteTableView]:
        del token
        tables = await self._carry(
            Verb.DESCRIBE_ROUTE_TABLES,
            lambda: self._model.describe_route_tables(filters={"vpc-id": (vpc_id,)}),
            {vpc_id},
            tuple,
        )
        return Page(tuple(RouteTableView(each.id, each.vpc_id, each.main, each.subnets) for each in tables))

    async def describe_vpcs(self, vpc_id: str, token: str) -> Page[VpcView]:
        del token
        vpcs = await self._carry(Verb.DESCRIBE_VPCS, lambda: self._model.describe_vpcs((vpc_id,)), {vpc_id}, tuple)
        return Page(tuple(VpcView(each.id, each.cidrs, each.ipv6_cidrs) for each in vpcs))

    async def subnet_reservations(self, subnet_id: str, token: str) -> Page[CidrReservation]:
        del token
        found = await self._carry(
            Verb.GET_RESERVATIONS, lambda: self._model.get_subnet_cidr_reservations(subnet_id), {subnet_id}, tuple
        )
        return Page(tuple(CidrReservation(each.id, each.cidr, each.kind) for each in found))

    async def describe_elastic_ips(self, tags: Mapping[str, str]) -> tuple[ElasticView, ...]:
        filters = {f"tag:{key}": (value,) for key, value in tags.items()}
        found = await self._carry(
            Verb.DESCRIBE_ADDRESSES, lambda: self._model.describe_addresses(filters), set(tags.values()), tuple
        )
        return tuple(ElasticView(each.id, each.address, bool(each.association_id), dict(each.tags)) for each in found)

    # --- mutations -------------------------------------------------------------------------------------------------

    async def create_interface(self, order: CreateInterface) -> EniView:
        made = await self._mutate(
            Verb.CREATE,
            lambda: self._model.create_network_interface(
                order.subnet_id,
                groups=order.groups,
                description=order.description,
                address=order.names[0] if order.names else None,
                addresses=order.names[1:],
                secondary_count=0 if order.names else order.addresses,
                prefix_count=order.prefixes,
                ipv6_prefix_count=int(order.ipv6),
                tags=order.tags,
                client_token=order.token,
            ),
            {order.subnet_id, *order.tags.values()},
        )
        return eni_view(made)

    async def attach_interface(self, eni_id: str, instance_id: str, card: int, index: int) -> str:
        made = await self._mutate(
            Verb.ATTACH,
            lambda: self._model.attach_network_interface(eni_id, instance_id, index, card=card),
            {eni_id, instance_id},
        )
        return made.id

    async def set_delete_on_termination(self, eni_id: str, attachment_id: str, *, value: bool) -> None:
        await self._mutate(
            Verb.MODIFY,
            lambda: self._model.modify_network_interface_attribute(
                eni_id, attachment_id=attachment_id, delete_on_termination=value
            ),
            {eni_id},
        )

    async def detach_interface(self, attachment_id: str) -> None:
        await self._mutate(Verb.DETACH, lambda: self._model.detach_network_interface(attachment_id), {attachment_id})

    async def delete_interface(self, eni_id: str) -> None:
        await self._mutate(Verb.DELETE, lambda: self._model.delete_network_interface(eni_id), {eni_id})

    async def assign_private(
        self, eni_id: str, *, addresses: int, prefixes: int, names: tuple[str, ...] = ()
    ) -> Assigned:
        count = 0 if names else addresses
        got = await self._mutate(
            Verb.ASSIGN,
            lambda: self._model.assign_private_ip_addresses(
                eni_id, count=count, addresses=names, prefix_count=prefixes
            ),
            {eni_id},
        )
        return Assigned(got.addresses, got.prefixes)

    async def associate_elastic_ip(self, eni_id: str, allocation_id: str) -> None:
        await self._mutate(
            Verb.ASSOCIATE,
            lambda: self._model.associate_address(allocation_id, eni_id, allow_reassociation=False),
            {eni_id, allocation_id},
        )

    async def assign_ipv6_prefix(self, eni_id: str) -> tuple[str, ...]:
        got = await self._mutate(
            Verb.ASSIGN_IPV6, lambda: self._model.assign_ipv6_addresses(eni_id, prefix_count=1), {eni_id}
        )
        return got.prefixes

    async def unassign_private(self, eni_id: str, addresses: tuple[str, ...], prefixes: tuple[str, ...]) -> None:
        await self._mutate(
            Verb.UNASSIGN,
            lambda: self._model.unassign_private_ip_addresses(eni_id, addresses=addresses, prefixes=prefixes),
            {eni_id},
        )

    # --- one call --------------------------------------------------------------------------------------------------

    async def _mutate(self, verb: Verb, act: Callable[[], T], subjects: set[str]) -> T:
        took_effect = self._on_call(verb)

        def told() -> T:
            result = act()
            took_effect()
            return result

        # A call that is on its way goes on without its caller: EC2 does not hear that a process died.
        call = asyncio.ensure_future(self._carry(verb, told, subjects))
        call.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(call)

    async def _carry(
        self, verb: Verb, act: Callable[[], T], subjects: set[str], empty: Callable[[], Any] | None = None
    ) -> T:
        try:
            return await self._physics.carry(
                verb,
                act,
                sleep=asyncio.sleep,
                subjects=self._named(subjects) if self._physics.faults else subjects,
                caller=self._caller,
                empty=empty,
                size=_size,
                crashed=self._on_crash,
            )
        except ModelError as error:
            raise refusal(verb, error.code, str(error), error.http_status) from error
        except AnswerLost as error:
            raise EC2Ambiguous(str(error), code="Lost", verb=verb) from error

    def _named(self, subjects: set[str]) -> set[str]:
        """With each ENI, and each attachment, the ENI, its instance and its tags: what a fault may be aimed at."""
        named = set(subjects)
        for each in subjects:
            record = self._model.interfaces.get(each) or self._model.by_attachment.get(each)
            if record is not None:
                named |= {record.id, *self._model.tags.get(record.id, {}).values()}
                if record.attachment is not None:
                    named.add(record.attachment.instance.id)
        return named


def _size(answer: object) -> int:
    """How many items a read's reply holds."""
    items = getattr(answer, "items", answer)
    return len(items) if isinstance(items, tuple) else 0


class _Nothing:
    """An empty page."""

    items: tuple[Any, ...] = ()
    next_token = None


def eni_view(eni: NetworkInterface) -> EniView:
    """The model's view as the operator's."""
    attachment = eni.attachment
    place: Mapping[str, Any] = {}
    if attachment is not None:
        place = {
            "card": attachment.card,
            "index": attachment.index,
            "instance_id": attachment.instance_id,
            "attachment_id": attachment.id,
            "attachment": Attachment(attachment.status),
            "delete_on_termination": attachment.delete_on_termination,
        }
    return EniView(
        id=eni.id,
        subnet_id=eni.subnet_id,
        mac=eni.mac,
        primary=eni.primary or "",
        addresses=eni.addresses[1:],
        prefixes=eni.prefixes,
        ipv6_prefixes=eni.ipv6_prefixes,
        groups=eni.groups,
        tags=dict(eni.tags),
        elastic_ip=eni.elastic_ip,
        **place,
    )
