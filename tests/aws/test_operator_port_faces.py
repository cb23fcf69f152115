"""The operator's EC2 port, twice: on the wire through the AWS SDK, and on the model's Python face.

Each test runs on both and asserts the same: what holds in a simulation holds of the program.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from support.ec2 import REGION, TYPES, ZONE, Ground
from support.ec2_faces import ModelFace

from enitide_api.errors import (
    EC2Ambiguous,
    EC2Error,
    EC2GroupsMissing,
    EC2IndexOccupied,
    EC2InstanceMissing,
    EC2InUse,
    EC2LimitExceeded,
    EC2NotFound,
    EC2NoWholePrefix,
    EC2Refused,
    EC2SubnetExhausted,
    EC2Throttled,
)
from enitide_ipam.model import TAG_CLUSTER, TAG_TOKEN, Attachment, CreateInterface
from enitide_lab.ec2model import EC2Model, Effect, Fault, Physics
from enitide_lab.ec2model.port import ModelEc2
from enitide_operator.ec2.port import Ec2Port, InterfaceQuery
from enitide_operator.ec2.wire import AwsEc2

pytestmark = pytest.mark.aws


@dataclass
class Side:
    """One face: the port, a small VPC behind it, and what only a test may do."""

    port: Ec2Port
    ground: Ground
    fault: Callable[..., Any]
    terminate: Callable[[], Any]
    allocate: Callable[[dict[str, str]], str]
    reserve: Callable[[str, str], Any]

    async def made(self, **changes: object) -> Any:
        return await self.port.create_interface(self.order(**changes))

    def order(self, **changes: object) -> CreateInterface:
        wanted = CreateInterface(
            token="t-1",
            subnet_id=self.ground.subnet,
            card=0,
            index=1,
            groups=(self.ground.group,),
            addresses=2,
            prefixes=0,
            ipv6=False,
            tags={TAG_TOKEN: "t-1", TAG_CLUSTER: "demo"},
            delete_on_termination=True,
            description="a test's",
            reason="",
        )
        return replace(wanted, **changes)

    async def of_instance(self) -> dict[int, Any]:
        page = await self.port.describe_interfaces(InterfaceQuery(instance_ids=(self.ground.instance,)), "")
        return {each.index: each for each in page.items}


@pytest.fixture(params=["model", "wire"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "model":
        loop = asyncio.get_running_loop()
        model = EC2Model(loop.time, instance_types=TYPES)
        physics = Physics(loop.time)
        ground = ModelFace(model).ground
        fault = lambda **asked: physics.add(Fault(**asked | {"effect": Effect(asked.get("effect", "refuse"))}))
        yield Side(
            ModelEc2(model, physics, "test"),
            ground,
            fault,
            lambda: model.terminate_instances([ground.instance]),
            lambda tags: model.allocate_address(tags=tags).address,
            lambda cidr, kind: model.create_subnet_cidr_reservation(ground.subnet, cidr, kind),
        )
        return
    endpoint = request.getfixturevalue("ec2_endpoint")
    ground = request.getfixturevalue("ec2_ground")
    client = endpoint.client()

    def allocate(tags: dict[str, str]) -> str:
        named = [{"Key": key, "Value": value} for key, value in tags.items()]
        more = {"TagSpecifications": [{"ResourceType": "elastic-ip", "Tags": named}]} if named else {}
        return client.allocate_address(Domain="vpc", **more)["PublicIp"]

    async with AwsEc2.connect(
        region=REGION, endpoint_url=endpoint.url, call_timeout_s=5.0, before_send=lambda: None
    ) as port:
        yield Side(
            port,
            ground,
            endpoint.control.add_fault,
            lambda: client.terminate_instances(InstanceIds=[ground.instance]),
            allocate,
            lambda cidr, kind: client.create_subnet_cidr_reservation(
                SubnetId=ground.subnet, Cidr=cidr, ReservationType=kind
            ),
        )
    client.close()


async def test_an_eni_lives_and_every_read_shows_it_as_the_calls_said(side: Side) -> None:
    port, ground = side.port, side.ground
    made = await side.made()
    assert (made.attachment, made.instance_id, made.token, made.groups) == (
        Attachment.DETACHED,
        "",
        "t-1",
        (ground.group,),
    )
    assert len(made.addresses) == 2
    assert made.primary not in made.addresses
    assert (await side.made()).id == made.id  # the client token
    loose = await port.describe_interfaces(InterfaceQuery(loose_of="demo"), "")
    assert [(each.id, each.addresses) for each in loose.items] == [(made.id, made.addresses)]

    attachment = await port.attach_interface(made.id, ground.instance, 0, 1)
    await port.set_delete_on_termination(made.id, attachment, value=True)
    singles = await port.assign_private(made.id, addresses=2, prefixes=0)
    blocks = await port.assign_private(made.id, addresses=0, prefixes=1)
    assert (len(singles.addresses), singles.prefixes, blocks.addresses, len(blocks.prefixes)) == (2, (), (), 1)
    slash_80 = await port.assign_ipv6_prefix(made.id)
    await port.unassign_private(made.id, singles.addresses[:1], ())

    seen = (await side.of_instance())[1]
    assert (seen.id, seen.mac, seen.primary) == (made.id, made.mac, made.primary)
    assert set(seen.addresses) == {*made.addresses, singles.addresses[1]}
    assert (seen.prefixes, seen.ipv6_prefixes) == (blocks.prefixes, slash_80)
    assert (seen.card, seen.index, seen.attachment_id, seen.delete_on_termination) == (0, 1, attachment, True)
    by_token = await port.describe_interfaces(InterfaceQuery(tokens=("t-1",)), "")
    assert [each.id for each in by_token.items] == [made.id]
    assert not (await port.describe_interfaces(InterfaceQuery(loose_of="demo"), "")).items

    await port.detach_interface(attachment)
    await port.delete_interface(made.id)
    assert not (await port.describe_interfaces(InterfaceQuery(interface_ids=(made.id,)), "")).items
    assert list(await side.of_instance()) == [0]


async def test_addresses_by_name_are_given_or_refused_as_a_whole(side: Side) -> None:
    names = ("10.0.0.99", "10.0.0.200")
    made = await side.made(names=names, addresses=1)
    assert (made.primary, made.addresses) == (names[0], names[1:])
    more = await side.port.assign_private(made.id, addresses=1, prefixes=0, names=("10.0.0.150",))
    assert more.addresses == ("10.0.0.150",)
    with pytest.raises(EC2InUse):
        await side.port.assign_private(made.id, addresses=2, prefixes=0, names=("10.0.0.151", "10.0.0.99"))
    assert (await side.port.assign_private(made.id, addresses=1, prefixes=0, names=("10.0.0.151",))).addresses


async def test_each_refusal_becomes_the_same_error(side: Side) -> None:
    port, ground = side.port, side.ground
    made = await side.made()
    full = await side.made(token="t-2", addresses=9, tags={})
    attachment = await port.attach_interface(full.id, ground.instance, 0, 1)

    async def refused(error: type[EC2Error], call: Any) -> None:
        with pytest.raises(EC2Error) as caught:
            await call
        assert type(caught.value) is error, caught.value

    await refused(EC2IndexOccupied, port.attach_interface(made.id, ground.instance, 0, 1))
    await refused(EC2LimitExceeded, port.assign_private(full.id, addresses=1, prefixes=0))
    await refused(EC2InUse, port.delete_interface(full.id))
    await refused(EC2NotFound, port.delete_interface("eni-00000000000000000"))
    await refused(EC2NotFound, port.detach_interface("eni-attach-00000000000000000"))
    await refused(EC2NotFound, side.made(token="t-3", subnet_id="subnet-00000000000000000"))
    await refused(EC2GroupsMissing, side.made(token="t-4", groups=("sg-00000000000000000",)))
    await refused(EC2SubnetExhausted, side.made(token="t-5", subnet_id=ground.tiny, addresses=20))
    await refused(EC2NoWholePrefix, side.made(token="t-6", subnet_id=ground.tiny, addresses=0, prefixes=1))
    await refused(EC2Refused, side.made(token="t-1", addresses=5))  # the same token, something else
    await refused(EC2Refused, port.unassign_private(full.id, ("10.0.0.250",), ()))
    await refused(EC2NotFound, port.set_delete_on_termination(made.id, attachment, value=True))
    await refused(EC2InstanceMissing, port.attach_interface(made.id, "i-00000000000000000", 0, 2))


async def test_an_instance_that_goes_takes_the_enis_that_are_to_go_with_it(side: Side) -> None:
    goes, stays = await side.made(), await side.made(token="t-2", tags={TAG_CLUSTER: "demo"})
    first = await side.port.attach_interface(goes.id, side.ground.instance, 0, 1)
    await side.port.attach_interface(stays.id, side.ground.instance, 0, 2)
    await side.port.set_delete_on_termination(goes.id, first, value=True)
    side.terminate()
    assert await side.of_instance() == {}
    loose = await side.port.describe_interfaces(InterfaceQuery(loose_of="demo"), "")
    assert [each.id for each in loose.items] == [stays.id]
    found = await side.port.describe_instances((side.ground.instance, "i-00000000000000000"), "")
    assert [(each.id, each.state) for each in found.items] == [(side.ground.instance, "terminated")]


async def test_the_facts_of_a_vpc(side: Side) -> None:
    port, ground = side.port, side.ground
    subnets = {each.id: each for each in (await port.describe_subnets(ground.vpc, "")).items}
    roomy = subnets[ground.subnet]
    assert (roomy.zone, roomy.cidr, roomy.vpc_id, roomy.free) == (ZONE, "10.0.0.0/24", ground.vpc, 250)
    assert roomy.ipv6_cidr.endswith("/64")
    assert subnets[ground.tiny].ipv6_cidr == ""
    assert ground.group in {each.id for each in (await port.describe_groups(ground.vpc, "")).items}
    assert [each.main for each in (await port.describe_route_tables(ground.vpc, "")).items] == [True]
    vpc = (await port.describe_vpcs(ground.vpc, "")).items[0]
    assert (vpc.cidrs, len(vpc.ipv6_cidrs)) == (("10.0.0.0/16",), 1)
    assert (await port.subnet_reservations(ground.subnet, "")).items == ()
    of_subnet = await port.describe_interfaces(InterfaceQuery(subnet_ids=(ground.subnet,)), "")
    assert [each.instance_id for each in of_subnet.items] == [ground.instance]


async def test_limits_of_a_type(side: Side) -> None:
    limits = await side.port.describe_instance_type("two-cards.test")
    assert limits is not None
    assert (limits.cards, limits.ipv4_per_interface, limits.prefixes) == ((2, 3), 4, True)
    assert (await side.port.describe_instance_type("xen.test")).prefixes is False
    assert await side.port.describe_instance_type("nobody.knows") is None


async def test_faults_on_command_strike_alike(side: Side) -> None:
    side.fault(verb="CreateNetworkInterface", code="RequestLimitExceeded", times=1)
    with pytest.raises(EC2Throttled):
        await side.made()
    side.fault(verb="mutations", effect="lost", times=1)
    with pytest.raises(EC2Ambiguous):
        await side.made()
    by_token = await side.port.describe_interfaces(InterfaceQuery(tokens=("t-1",)), "")
    assert len(by_token.items) == 1  # it took effect
    side.fault(verb="DescribeNetworkInterfaces", effect="empty", times=1)
    assert await side.of_instance() == {}
    assert list(await side.of_instance()) == [0]
    side.fault(verb="reads", code="InternalError", times=1, subject=side.ground.instance)
    assert (await side.port.describe_subnets(side.ground.vpc, "")).items
    with pytest.raises(EC2Ambiguous):
        await side.of_instance()


async def test_an_elastic_ip_is_found_by_all_its_tags_and_never_taken_from_another(side: Side) -> None:
    port = side.port
    address = side.allocate({"use": "nodes", "team": "a"})
    side.allocate({"use": "nodes"})
    side.allocate({})
    assert len(await port.describe_elastic_ips({"use": "nodes"})) == 2
    (found,) = await port.describe_elastic_ips({"use": "nodes", "team": "a"})
    assert (found.address, found.associated, found.tags) == (address, False, {"use": "nodes", "team": "a"})
    first, other = (await side.of_instance())[0], await side.made()
    assert first.elastic_ip == other.elastic_ip == ""
    await port.associate_elastic_ip(first.id, found.id)
    assert (await side.of_instance())[0].elastic_ip == address
    assert [each.associated for each in await port.describe_elastic_ips({"team": "a"})] == [True]
    for eni, allocation, error in (
        (other.id, found.id, EC2InUse),
        (other.id, "eipalloc-00000000000000000", EC2NotFound),
        ("eni-00000000000000000", found.id, EC2NotFound),
    ):
        with pytest.raises(EC2Error) as caught:
            await port.associate_elastic_ip(eni, allocation)
        assert type(caught.value) is error, caught.value


async def test_reserved_addresses_are_not_counted_as_free_nor_given_as_single_ones(side: Side) -> None:
    side.reserve("10.0.0.64/28", "prefix")
    side.reserve("10.0.0.128/28", "explicit")
    found = (await side.port.subnet_reservations(side.ground.subnet, "")).items
    assert {(each.cidr, each.kind) for each in found} == {("10.0.0.64/28", "prefix"), ("10.0.0.128/28", "explicit")}
    subnets = (await side.port.describe_subnets(side.ground.vpc, "")).items
    assert next(each.free for each in subnets if each.id == side.ground.subnet) == 250 - 32
    made = await side.made(addresses=0, prefixes=1)
    assert made.prefixes == ("10.0.0.64/28",)
