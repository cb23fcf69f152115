"""The operator's way to EC2 on the wire: every verb, what each of EC2's answers becomes, and what happens next."""

from __future__ import annotations

import pytest
from support.ec2 import ZONE, Endpoint, Ground
from support.ec2_way import PLACE, order, way

from enitide_api.errors import (
    EC2InUse,
    EC2NotFound,
)
from enitide_ipam.model import TAG_CLUSTER, TAG_TOKEN, AttachInterface, Attachment
from enitide_operator.ec2.port import InterfaceQuery

pytestmark = pytest.mark.aws


async def test_an_eni_is_made_attached_flagged_filled_emptied_detached_and_deleted(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    async with way(ec2_endpoint.url) as it:
        gateway = it.gateway
        made = await gateway.create(order(ec2_ground), PLACE)
        assert (len(made.addresses), len(made.ipv6_prefixes), made.token) == (3, 1, "t-1")
        assert made.attachment is Attachment.DETACHED
        assert made.groups == (ec2_ground.group,)
        again = await gateway.create(order(ec2_ground), PLACE)
        assert again.id == made.id  # the client token

        attach = AttachInterface(made.id, ec2_ground.instance, 0, 1, "t-1", "")
        attachment = await gateway.attach(attach, PLACE)
        await gateway.set_delete_on_termination(made.id, attachment, PLACE, value=True)
        got = await gateway.assign(made.id, PLACE, addresses=2)
        assert len(got.addresses) == 2
        assert not set(got.addresses) & set(made.addresses)
        blocks = await gateway.assign(made.id, PLACE, prefixes=1)
        assert blocks.prefixes[0].endswith("/28")
        await gateway.unassign(made.id, got.addresses[:1], (), PLACE)
        await gateway.unassign(made.id, (), blocks.prefixes, PLACE)

        read = await gateway.interfaces(InterfaceQuery(instance_ids=(ec2_ground.instance,)))
        seen = {each.index: each for each in read.items}
        assert set(seen[1].addresses) == {*made.addresses, got.addresses[1]}
        assert seen[1].delete_on_termination
        assert seen[1].prefixes == ()
        assert seen[1].ipv6_prefixes == made.ipv6_prefixes
        assert (seen[1].attachment, seen[1].attachment_id) == (Attachment.ATTACHED, attachment)
        by_token = await gateway.interfaces(InterfaceQuery(tokens=("t-1",)))
        assert [each.id for each in by_token.items] == [made.id]

        await gateway.detach(attachment, PLACE)
        await gateway.delete(made.id, PLACE)
        assert not (await gateway.interfaces(InterfaceQuery(interface_ids=(made.id,)))).items
        assert set(it.observer.calls) <= {(verb, "ok") for verb, _ in it.observer.calls}


async def test_loose_enis_are_listed_by_their_clusters_tag_and_no_others(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    async with way(ec2_endpoint.url) as it:
        for token, tags in (
            ("mine", {TAG_CLUSTER: "blue"}),
            ("hung", {TAG_CLUSTER: "blue"}),
            ("theirs", {TAG_CLUSTER: "green"}),
            ("nobodys", {}),
        ):
            made = await it.gateway.create(order(ec2_ground, token, tags={TAG_TOKEN: token, **tags}), PLACE)
            if token == "hung":
                await it.gateway.attach(AttachInterface(made.id, ec2_ground.instance, 0, 1, token, ""), PLACE)
        read = await it.gateway.interfaces(InterfaceQuery(loose_of="blue"))
        assert [each.token for each in read.items] == ["mine"]


def test_a_question_without_a_filter_or_with_two_is_never_sent() -> None:
    for query in (InterfaceQuery(), InterfaceQuery(tokens=("t",), loose_of="blue")):
        with pytest.raises(ValueError, match="exactly one"):
            query.filters()


async def test_a_slash_80_is_assigned_to_an_eni_that_has_none(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    async with way(ec2_endpoint.url) as it:
        made = await it.gateway.create(order(ec2_ground, ipv6=False), PLACE)
        prefixes = await it.gateway.assign_ipv6(made.id, PLACE)
        assert len(prefixes) == 1
        assert prefixes[0].endswith("/80")


async def test_addresses_asked_for_by_name_are_given_or_refused_as_a_whole(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    async with way(ec2_endpoint.url) as it:
        names = ("10.0.0.99", "10.0.0.200", "10.0.0.201")
        made = await it.gateway.create(order(ec2_ground, names=names, addresses=2, ipv6=False), PLACE)
        assert (made.primary, made.addresses) == (names[0], names[1:])
        more = await it.gateway.assign(made.id, PLACE, addresses=2, names=("10.0.0.150", "10.0.0.151"))
        assert more.addresses == ("10.0.0.150", "10.0.0.151")
        with pytest.raises(EC2InUse):
            await it.gateway.assign(made.id, PLACE, addresses=2, names=("10.0.0.152", "10.0.0.99"))
        again = order(ec2_ground, "t-2", names=("10.0.0.152",), addresses=0, prefixes=1, ipv6=False)
        with_prefix = await it.gateway.create(again, PLACE)
        assert (with_prefix.primary, with_prefix.addresses, len(with_prefix.prefixes)) == ("10.0.0.152", (), 1)


async def test_a_subnets_enis_and_reservations_are_read_whoever_they_belong_to(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    client = ec2_endpoint.client()
    for number in range(8):
        kind = "prefix" if number % 2 else "explicit"
        client.create_subnet_cidr_reservation(
            SubnetId=ec2_ground.subnet, Cidr=f"10.0.0.{128 + 16 * number}/28", ReservationType=kind
        )
    client.create_network_interface(SubnetId=ec2_ground.other)
    client.close()
    async with way(ec2_endpoint.url) as it:
        found = await it.gateway.reservations(ec2_ground.subnet)
        assert min((each.cidr, each.kind) for each in found.items) == ("10.0.0.128/28", "explicit")
        assert len(found.items) == 8
        enis = await it.gateway.interfaces(InterfaceQuery(subnet_ids=(ec2_ground.subnet,)))
        assert [each.instance_id for each in enis.items] == [ec2_ground.instance]
        with pytest.raises(EC2NotFound):
            await it.gateway.reservations("subnet-00000000000000000")


async def test_an_elastic_ip_is_found_by_its_tags_associated_once_and_shown_on_its_eni(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    client = ec2_endpoint.client()
    named = [{"ResourceType": "elastic-ip", "Tags": [{"Key": "use", "Value": "nodes"}]}]
    allocated = client.allocate_address(Domain="vpc", TagSpecifications=named)
    client.allocate_address(Domain="vpc")
    spare = client.create_network_interface(SubnetId=ec2_ground.subnet)["NetworkInterface"]["NetworkInterfaceId"]
    client.close()
    async with way(ec2_endpoint.url) as it:
        read = await it.gateway.elastic_ips({"use": "nodes"})
        assert [(each.id, each.address, each.associated) for each in read.items] == [
            (allocated["AllocationId"], allocated["PublicIp"], False)
        ]
        first = (await it.gateway.interfaces(InterfaceQuery(instance_ids=(ec2_ground.instance,)))).items[0]
        assert first.elastic_ip == ""
        await it.gateway.associate(first.id, allocated["AllocationId"], PLACE)
        shown = (await it.gateway.interfaces(InterfaceQuery(instance_ids=(ec2_ground.instance,)))).items[0]
        assert shown.elastic_ip == allocated["PublicIp"]
        assert (await it.gateway.elastic_ips({"use": "nodes"})).items[0].associated
        with pytest.raises(EC2InUse):
            await it.gateway.associate(spare, allocated["AllocationId"], PLACE)
        with pytest.raises(EC2NotFound):
            await it.gateway.associate(spare, "eipalloc-00000000000000000", PLACE)


async def test_the_facts_of_a_vpc(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    async with way(ec2_endpoint.url) as it:
        subnets = {each.id: each for each in (await it.gateway.subnets(ec2_ground.vpc)).items}
        roomy = subnets[ec2_ground.subnet]
        assert (roomy.zone, roomy.cidr, roomy.vpc_id) == (ZONE, "10.0.0.0/24", ec2_ground.vpc)
        assert roomy.ipv6_cidr.endswith("/64")
        assert roomy.free == 256 - 5 - 1  # the instance's own address
        assert ec2_ground.group in {each.id for each in (await it.gateway.groups(ec2_ground.vpc)).items}
        assert [each.main for each in (await it.gateway.route_tables(ec2_ground.vpc)).items] == [True]
        vpc = (await it.gateway.vpcs(ec2_ground.vpc)).items[0]
        assert vpc.cidrs == ("10.0.0.0/16",)
        assert len(vpc.ipv6_cidrs) == 1
        instances = (await it.gateway.instances((ec2_ground.instance, "i-0123456789abcdef0"))).items
        assert [(each.id, each.state) for each in instances] == [(ec2_ground.instance, "running")]


async def test_limits_of_a_type_are_asked_by_name(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    async with way(ec2_endpoint.url) as it:
        limits = await it.gateway.instance_type("two-cards.test")
        assert limits is not None
        assert (limits.cards, limits.ipv4_per_interface) == ((2, 3), 4)
        assert await it.gateway.instance_type("nobody.knows") is None


async def test_long_listings_are_paged(
    ec2_endpoint: Endpoint, ec2_ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enitide_operator.ec2.wire._page.__kwdefaults__", {"size": 5})
    async with way(ec2_endpoint.url) as it:
        tokens = tuple(f"t-{number}" for number in range(12))
        for token in tokens:
            await it.gateway.create(order(ec2_ground, token), PLACE)
        read = await it.gateway.interfaces(InterfaceQuery(tokens=tokens))
        assert len({each.id for each in read.items}) == 12
        assert it.observer.calls["DescribeNetworkInterfaces", "ok"] == 3
