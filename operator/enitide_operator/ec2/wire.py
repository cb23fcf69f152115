"""The EC2 port over the AWS SDK: one client of one session, no retries of its own, every failure a leaf of `EC2Error`.

What proves that nothing was sent (no route, refused connection, no credentials) is told apart from what proves nothing
(time-out, lost connection, garbage reply). Right before a request leaves, `before_send` is asked once more: signing
takes time, and a process can be stopped in any moment of it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aioboto3
import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from enitide_api.errors import EC2Ambiguous, EC2Error, EC2Refused, EC2Unauthorized, EC2Unavailable, SettingsInvalid
from enitide_ipam.blocks import CidrReservation
from enitide_ipam.limits import InstanceLimits
from enitide_ipam.model import CreateInterface, ElasticView, EniView, GroupView, RouteTableView, SubnetView
from enitide_operator.ec2 import views
from enitide_operator.ec2.port import (
    MUTATIONS,
    Assigned,
    InstanceView,
    InterfaceQuery,
    Page,
    Verb,
    VpcView,
    refusal,
)

T = TypeVar("T")

PAGE = 500  # items a page: one of 1,000 ENIs with 30 addresses would hold the loop for half a second
CONNECT_TIMEOUT_S = 5.0
_NO_ACCESS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)
_NEVER_LEFT = (aiohttp.ClientConnectorError, socket.gaierror)


class AwsEc2:
    """`Ec2Port` over aioboto3. Made by `connect`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        *,
        region: str = "",
        endpoint_url: str = "",
        call_timeout_s: float = 15.0,
        before_send: Callable[[], None] = lambda: None,
        session: aioboto3.Session | None = None,
    ) -> AsyncIterator[AwsEc2]:
        """Opens no connection yet. `before_send` raises to hold back a mutating call. `SettingsInvalid`: no region.

        `session`: one to share, since each reads EC2's description anew (0.2 s, 20 MB).
        """
        config = AioConfig(
            connect_timeout=min(CONNECT_TIMEOUT_S, call_timeout_s),
            read_timeout=call_timeout_s,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=64,
            user_agent_extra="enitide",
        )
        try:
            made = (session or aioboto3.Session()).client(
                "ec2", region_name=region or None, endpoint_url=endpoint_url or None, config=config
            )
            client = await made.__aenter__()
        except NoRegionError as error:
            raise SettingsInvalid("no AWS region is known: write --aws-region or set AWS_REGION") from error
        except (BotoCoreError, ValueError) as error:  # a region, URL or profile of the environment or the AWS files
            raise SettingsInvalid(f"the AWS SDK cannot work with its configuration: {error}") from error
        try:
            yield cls(_guarded(client, before_send))
        finally:
            await made.__aexit__(None, None, None)

    async def describe_interfaces(self, query: InterfaceQuery, token: str) -> Page[EniView]:
        call = self._client.describe_network_interfaces
        return await _page(
            Verb.DESCRIBE_INTERFACES,
            call,
            query.filters(),
            token,
            lambda r: map(views.interface, r["NetworkInterfaces"]),
        )

    async def describe_instances(self, ids: tuple[str, ...], token: str) -> Page[InstanceView]:
        def read(reply: views.Document) -> list[InstanceView]:
            return [views.instance(i) for r in reply["Reservations"] for i in r["Instances"]]

        return await _page(Verb.DESCRIBE_INSTANCES, self._client.describe_instances, {"instance-id": ids}, token, read)

    async def describe_instance_type(self, name: str) -> InstanceLimits | None:
        filters = [{"Name": "instance-type", "Values": [name]}]
        call = self._client.describe_instance_types(Filters=filters, MaxResults=100)
        return await _sent(
            Verb.DESCRIBE_INSTANCE_TYPES,
            call,
            lambda r: next((views.limits(d) for d in r["InstanceTypes"] if d["InstanceType"] == name), None),
        )

    async def describe_subnets(self, vpc_id: str, token: str) -> Page[SubnetView]:
        call = self._client.describe_subnets
        return await _page(
            Verb.DESCRIBE_SUBNETS, call, {"vpc-id": (vpc_id,)}, token, lambda r: map(views.subnet, r["Subnets"])
        )

    async def describe_groups(self, vpc_id: str, token: str) -> Page[GroupView]:
        call = self._client.describe_security_groups
        return await _page(
            Verb.DESCRIBE_GROUPS, call, {"vpc-id": (vpc_id,)}, token, lambda r: map(views.group, r["SecurityGroups"])
        )

    async def describe_route_tables(self, vpc_id: str, token: str) -> Page[RouteTableView]:
        call = self._client.describe_route_tables
        filters = {"vpc-id": (vpc_id,)}
        # this verb's own most is 100 a page
        return await _page(
            Verb.DESCRIBE_ROUTE_TABLES,
            call,
            filters,
            token,
            lambda r: map(views.route_table, r["RouteTables"]),
            size=100,
        )

    async def describe_vpcs(self, vpc_id: str, token: str) -> Page[VpcView]:
        call = self._client.describe_vpcs
        return await _page(Verb.DESCRIBE_VPCS, call, {"vpc-id": (vpc_id,)}, token, lambda r: map(views.vpc, r["Vpcs"]))

    async def subnet_reservations(self, subnet_id: str, token: str) -> Page[CidrReservation]:
        more = {"NextToken": token} if token else {}
        call = self._client.get_subnet_cidr_reservations(SubnetId=subnet_id, MaxResults=PAGE, **more)

        def read(reply: views.Document) -> Page[CidrReservation]:
            found = tuple(map(views.reservation, reply.get("SubnetIpv4CidrReservations") or ()))
            return Page(found, reply.get("NextToken") or "")

        return await _sent(Verb.GET_RESERVATIONS, call, read)

    async def describe_elastic_ips(self, tags: Mapping[str, str]) -> tuple[ElasticView, ...]:
        filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in sorted(tags.items())]
        call = self._client.describe_addresses(Filters=filters)
        return await _sent(Verb.DESCRIBE_ADDRESSES, call, lambda r: tuple(map(views.elastic_ip, r["Addresses"])))

    async def create_interface(self, order: CreateInterface) -> EniView:
        wanted: dict[str, Any] = {"ClientToken": order.token, "SubnetId": order.subnet_id}
        wanted |= {"Groups": list(order.groups)} if order.groups else {}
        wanted |= {"Description": order.description} if order.description else {}
        if order.names:
            wanted["PrivateIpAddress"] = order.names[0]
            others = [{"PrivateIpAddress": name, "Primary": False} for name in order.names[1:]]
            wanted |= {"PrivateIpAddresses": others} if others else {}
        elif order.addresses:
            wanted["SecondaryPrivateIpAddressCount"] = order.addresses
        wanted |= {"Ipv4PrefixCount": order.prefixes} if order.prefixes else {}
        wanted |= {"Ipv6PrefixCount": 1} if order.ipv6 else {}
        named = [{"Key": key, "Value": value} for key, value in sorted(order.tags.items())]
        if named:
            wanted["TagSpecifications"] = [{"ResourceType": "network-interface", "Tags": named}]
        call = self._client.create_network_interface(**wanted)
        return await _sent(Verb.CREATE, call, lambda r: views.interface(r["NetworkInterface"]))

    async def attach_interface(self, eni_id: str, instance_id: str, card: int, index: int) -> str:
        call = self._client.attach_network_interface(
            NetworkInterfaceId=eni_id, InstanceId=instance_id, NetworkCardIndex=card, DeviceIndex=index
        )
        return await _sent(Verb.ATTACH, call, lambda r: str(r["AttachmentId"]))

    async def set_delete_on_termination(self, eni_id: str, attachment_id: str, *, value: bool) -> None:
        attachment = {"AttachmentId": attachment_id, "DeleteOnTermination": value}
        call = self._client.modify_network_interface_attribute(NetworkInterfaceId=eni_id, Attachment=attachment)
        await _sent(Verb.MODIFY, call, _nothing)

    async def detach_interface(self, attachment_id: str) -> None:
        await _sent(Verb.DETACH, self._client.detach_network_interface(AttachmentId=attachment_id), _nothing)

    async def delete_interface(self, eni_id: str) -> None:
        await _sent(Verb.DELETE, self._client.delete_network_interface(NetworkInterfaceId=eni_id), _nothing)

    async def assign_private(
        self, eni_id: str, *, addresses: int, prefixes: int, names: tuple[str, ...] = ()
    ) -> Assigned:
        wanted: dict[str, Any] = {"Ipv4PrefixCount": prefixes}
        if names:
            # what another ENI holds is never taken from it: EC2 refuses the whole call
            wanted = {"PrivateIpAddresses": list(names), "AllowReassignment": False}
        elif addresses:
            wanted = {"SecondaryPrivateIpAddressCount": addresses}
        call = self._client.assign_private_ip_addresses(NetworkInterfaceId=eni_id, **wanted)
        return await _sent(Verb.ASSIGN, call, _assigned)

    async def associate_elastic_ip(self, eni_id: str, allocation_id: str) -> None:
        call = self._client.associate_address(
            NetworkInterfaceId=eni_id, AllocationId=allocation_id, AllowReassociation=False
        )
        await _sent(Verb.ASSOCIATE, call, _nothing)

    async def assign_ipv6_prefix(self, eni_id: str) -> tuple[str, ...]:
        call = self._client.assign_ipv6_addresses(NetworkInterfaceId=eni_id, Ipv6PrefixCount=1)
        return await _sent(Verb.ASSIGN_IPV6, call, lambda r: tuple(r["AssignedIpv6Prefixes"]))

    async def unassign_private(self, eni_id: str, addresses: tuple[str, ...], prefixes: tuple[str, ...]) -> None:
        what: dict[str, list[str]] = {"PrivateIpAddresses": list(addresses)} if addresses else {}
        what |= {"Ipv4Prefixes": list(prefixes)} if prefixes else {}
        call = self._client.unassign_private_ip_addresses(NetworkInterfaceId=eni_id, **what)
        await _sent(Verb.UNASSIGN, call, _nothing)


def _guarded(client: Any, before_send: Callable[[], None]) -> Any:
    """Have the SDK ask `before_send` after signing, right before the HTTP request of each mutating call."""

    def ask(**_request: Any) -> None:
        before_send()

    for verb in sorted(MUTATIONS):
        client.meta.events.register(f"before-send.ec2.{verb}", ask)
    return client


def _nothing(_reply: views.Document) -> None:
    return None


def _assigned(reply: views.Document) -> Assigned:
    return Assigned(
        tuple(a["PrivateIpAddress"] for a in reply.get("AssignedPrivateIpAddresses") or ()),
        tuple(p["Ipv4Prefix"] for p in reply.get("AssignedIpv4Prefixes") or ()),
    )


async def _page(
    verb: Verb,
    call: Callable[..., Awaitable[views.Document]],
    filters: Mapping[str, tuple[str, ...]],
    token: str,
    read: Callable[[views.Document], Any],
    *,
    size: int = PAGE,
) -> Page[Any]:
    named = [{"Name": name, "Values": list(values)} for name, values in filters.items() if values]
    more = {"NextToken": token} if token else {}
    asked = call(Filters=named, MaxResults=size, **more)
    return await _sent(verb, asked, lambda r: Page(tuple(read(r)), r.get("NextToken") or ""))


async def _sent(verb: Verb, call: Awaitable[views.Document], read: Callable[[views.Document], T]) -> T:
    """The reply, read; or the leaf for what went wrong."""
    try:
        reply = await call
        return read(reply)
    except ClientError as error:
        raise _answered(verb, error) from error
    except (KeyError, TypeError, ValueError, ResponseParserError) as error:
        raise EC2Ambiguous(f"{verb}: the reply is not what EC2 sends: {error!r}", code="Garbage", verb=verb) from error
    except (BotoCoreError, OSError, aiohttp.ClientError) as error:
        raise _unanswered(verb, error) from error


def _answered(verb: Verb, error: ClientError) -> EC2Error:
    detail = error.response.get("Error", {})
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return refusal(verb, str(detail.get("Code", "")), str(detail.get("Message", "")), int(status))


def _unanswered(verb: Verb, error: Exception) -> EC2Error:
    """Judged by what was raised underneath: only a connection that was never made proves that nothing was sent."""
    text = f"{verb}: {error}"
    if isinstance(error, _NO_ACCESS):
        return EC2Unauthorized(text, code=type(error).__name__, verb=verb)
    if isinstance(error, ParamValidationError):
        return EC2Refused(text, code=type(error).__name__, verb=verb)
    cause = error.kwargs.get("error") if isinstance(error, BotoCoreError) else error
    if isinstance(error, ConnectTimeoutError) or isinstance(cause, _NEVER_LEFT):
        return EC2Unavailable(text, code=type(error).__name__, verb=verb)
    if isinstance(cause, asyncio.CancelledError):
        raise cause
    return EC2Ambiguous(text, code=type(error).__name__, verb=verb)
