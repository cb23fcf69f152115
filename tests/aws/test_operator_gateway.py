"""The operator's way to EC2 on the wire: every verb, what each of EC2's answers becomes, and what happens next."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections import Counter
from collections.abc import AsyncIterator
from random import Random

import aioboto3
import pytest
from support.ec2 import REGION, ZONE, Endpoint, Ground

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
    EC2Unauthorized,
    EC2Unavailable,
    EC2Unknown,
    NotLeading,
    SettingsInvalid,
)
from enitide_ipam.model import TAG_CLUSTER, TAG_TOKEN, AttachInterface, Attachment, CreateInterface
from enitide_lab.ec2model import Effect, Fault
from enitide_operator.ec2.budget import Budget, Order
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.ec2.port import InterfaceQuery
from enitide_operator.ec2.wire import AwsEc2

pytestmark = pytest.mark.aws

PLACE = Order(1)


class Gate:
    """A leader's term that a test ends; counts how often it was asked."""

    def __init__(self) -> None:
        self.holds = True
        self.asked = 0

    def require(self) -> None:
        self.asked += 1
        if not self.holds:
            raise NotLeading("ended")


class Observer:
    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()

    def called(self, verb: str, outcome: str, took_s: float) -> None:
        self.calls[verb, outcome] += 1

    def waited(self, verb: str, waited_s: float) -> None:
        assert waited_s >= 0


class Way:
    """A gateway on the wire, and what surrounds it."""

    def __init__(self, gateway: Gateway, gate: Gate, observer: Observer, budget: Budget) -> None:
        self.gateway = gateway
        self.gate = gate
        self.observer = observer
        self.budget = budget


@functools.cache
def _session() -> aioboto3.Session:
    """One for all tests: each reads EC2's description anew."""
    return aioboto3.Session(aws_access_key_id="AKIAENITIDETEST", aws_secret_access_key="test", region_name=REGION)


@contextlib.asynccontextmanager
async def way(url: str, call_timeout_s: float = 5.0) -> AsyncIterator[Way]:
    gate, observer, budget = Gate(), Observer(), Budget()
    async with AwsEc2.connect(
        region=REGION, endpoint_url=url, call_timeout_s=call_timeout_s, before_send=gate.require, session=_session()
    ) as port:
        clock = iter(range(1000, 1_000_000)).__next__
        gateway = Gateway(
            port, budget, gate, observer, now=lambda: float(clock()), rng=Random(1), call_timeout_s=call_timeout_s
        )
        gateway._backoff = type(gateway._backoff)(base_s=0.01, cap_s=0.02)
        yield Way(gateway, gate, observer, budget)


def order(ground: Ground, token: str = "t-1", **changes: object) -> CreateInterface:
    wanted = {
        "token": token,
        "subnet_id": ground.subnet,
        "card": 0,
        "index": 1,
        "groups": (ground.group,),
        "addresses": 3,
        "prefixes": 0,
        "ipv6": True,
        "tags": {TAG_TOKEN: token, "who": "test"},
        "delete_on_termination": True,
        "description": "a test's",
        "reason": "",
    }
    return CreateInterface(**(wanted | changes))


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


# --- what EC2's answers become ---------------------------------------------------------------------------------------

CODES: list[tuple[str, int, type[EC2Error]]] = [
    ("UnauthorizedOperation", 403, EC2Unauthorized),
    ("AuthFailure", 401, EC2Unauthorized),
    ("InvalidNetworkInterfaceID.NotFound", 400, EC2NotFound),
    ("InvalidInstanceID.NotFound", 400, EC2InstanceMissing),
    ("IncorrectInstanceState", 400, EC2InstanceMissing),
    ("InsufficientFreeAddressesInSubnet", 400, EC2SubnetExhausted),
    ("InsufficientCidrBlocks", 400, EC2NoWholePrefix),
    ("PrivateIpAddressLimitExceeded", 400, EC2LimitExceeded),
    ("AttachmentLimitExceeded", 400, EC2LimitExceeded),
    ("InvalidGroup.NotFound", 400, EC2GroupsMissing),
    ("InvalidNetworkInterface.InUse", 400, EC2InUse),
    ("InvalidParameterValue", 400, EC2Refused),
    ("NeverHeardOf", 400, EC2Unknown),
    ("NeverHeardOf", 500, EC2Ambiguous),
    ("InternalError", 500, EC2Ambiguous),
    ("Unavailable", 503, EC2Ambiguous),
]


@pytest.mark.parametrize(("code", "status", "leaf"), CODES)
async def test_each_code_becomes_its_leaf_after_one_attempt(
    ec2_endpoint: Endpoint, ec2_ground: Ground, code: str, status: int, leaf: type[EC2Error]
) -> None:
    ec2_endpoint.physics.add(Fault("AssignPrivateIpAddresses", code=code, http_status=status))
    async with way(ec2_endpoint.url) as it:
        with pytest.raises(EC2Error) as caught:
            await it.gateway.assign("eni-0", PLACE, addresses=1)
        assert type(caught.value) is leaf
        assert (caught.value.code, caught.value.verb) == (code, "AssignPrivateIpAddresses")
        assert it.observer.calls == {("AssignPrivateIpAddresses", code): 1}
        assert ec2_endpoint.physics.counts["AssignPrivateIpAddresses", code] == 1  # the SDK did not retry


async def test_throttling_is_waited_out_paid_for_and_slows_the_verb_down(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    ec2_endpoint.physics.add(Fault("CreateNetworkInterface", code="RequestLimitExceeded", http_status=503, times=2))
    told: list[EC2Error] = []
    async with way(ec2_endpoint.url) as it:
        made = await it.gateway.create(order(ec2_ground), PLACE, told.append)
        assert made.id
        assert [type(each) for each in told] == [EC2Throttled, EC2Throttled]
        assert it.observer.calls == {
            ("CreateNetworkInterface", "RequestLimitExceeded"): 2,
            ("CreateNetworkInterface", "ok"): 1,
        }
        assert it.budget.states()["CreateNetworkInterface"].rate < 5.0
        assert it.gate.asked == 6  # by the gateway and by the wire, for each of three attempts


@pytest.mark.parametrize("effect", [Effect.LOST, Effect.GARBAGE])
async def test_a_lost_or_garbled_answer_to_a_mutation_is_ambiguous_and_never_repeated(
    ec2_endpoint: Endpoint, ec2_ground: Ground, effect: Effect
) -> None:
    ec2_endpoint.physics.add(Fault("CreateNetworkInterface", effect=effect))
    async with way(ec2_endpoint.url) as it:
        with pytest.raises(EC2Ambiguous):
            await it.gateway.create(order(ec2_ground), PLACE)
        assert sum(it.observer.calls.values()) == 1
        found = await it.gateway.interfaces(InterfaceQuery(tokens=("t-1",)))
        assert len(found.items) == 1


async def test_a_call_that_takes_too_long_is_ambiguous(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    ec2_endpoint.physics.add(Fault("CreateNetworkInterface", effect=Effect.DELAY, delay_s=1.0))
    async with way(ec2_endpoint.url, call_timeout_s=0.3) as it:
        with pytest.raises(EC2Ambiguous):
            await it.gateway.create(order(ec2_ground), PLACE)


async def test_a_lost_answer_to_a_read_is_asked_for_again(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    ec2_endpoint.physics.add(Fault("DescribeNetworkInterfaces", effect=Effect.LOST, times=1))
    async with way(ec2_endpoint.url) as it:
        read = await it.gateway.interfaces(InterfaceQuery(instance_ids=(ec2_ground.instance,)))
        assert len(read.items) == 1


async def test_a_refused_connection_is_known_to_have_changed_nothing(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with AwsEc2.connect(
        region=REGION, endpoint_url=f"http://127.0.0.1:{port}", call_timeout_s=2.0, session=_session()
    ) as wire:
        with pytest.raises(EC2Unavailable):
            await wire.assign_private("eni-0", addresses=1, prefixes=0)


async def test_missing_credentials_are_a_matter_of_rights_not_of_luck(
    ec2_endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    async with AwsEc2.connect(region=REGION, endpoint_url=ec2_endpoint.url) as wire:
        with pytest.raises(EC2Unauthorized):
            await wire.describe_vpcs("vpc-0", "")


@pytest.mark.parametrize(("region", "endpoint", "word"), [("", "", "--aws-region"), (REGION, "nonsense", "nonsense")])
async def test_settings_that_reach_no_ec2_are_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, region: str, endpoint: str, word: str
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(SettingsInvalid, match=word):
        async with AwsEc2.connect(region=region, endpoint_url=endpoint):
            pass


async def test_attaching_at_an_occupied_index_asks_for_another_index(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    async with way(ec2_endpoint.url) as it:
        made = await it.gateway.create(order(ec2_ground), PLACE)
        with pytest.raises(EC2IndexOccupied):
            await it.gateway.attach(AttachInterface(made.id, ec2_ground.instance, 0, 0, "t-1", ""), PLACE)


async def test_a_full_subnet_and_one_without_a_whole_block_are_told_apart(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    async with way(ec2_endpoint.url) as it:
        with ec2_endpoint.server.locked:
            ec2_endpoint.model.set_subnet_room(ec2_ground.subnet, 10, 0)
        with pytest.raises(EC2NoWholePrefix):
            await it.gateway.create(order(ec2_ground, addresses=0, prefixes=1, ipv6=False), PLACE)
        with pytest.raises(EC2SubnetExhausted):
            await it.gateway.create(order(ec2_ground, addresses=10, ipv6=False), PLACE)


# --- the term --------------------------------------------------------------------------------------------------------


async def test_outside_the_term_nothing_that_changes_is_sent_but_reads_are(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    async with way(ec2_endpoint.url) as it:
        it.gate.holds = False
        with pytest.raises(NotLeading):
            await it.gateway.create(order(ec2_ground), PLACE)
        assert await it.gateway.interfaces(InterfaceQuery(instance_ids=(ec2_ground.instance,)))
        assert not [call for call in ec2_endpoint.physics.calls if call.verb == "CreateNetworkInterface"]


async def test_the_term_is_asked_again_after_signing_right_before_the_request(
    ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    class EndsAfterTheFirstQuestion(Gate):
        def require(self) -> None:
            super().require()
            self.holds = False

    gate = EndsAfterTheFirstQuestion()
    async with AwsEc2.connect(
        region=REGION, endpoint_url=ec2_endpoint.url, before_send=gate.require, session=_session()
    ) as port:
        gateway = Gateway(port, Budget(), gate, Observer(), now=lambda: 0.0, rng=Random(1))
        with pytest.raises(NotLeading):
            await gateway.create(order(ec2_ground), PLACE)
    assert gate.asked == 2
    assert not [call for call in ec2_endpoint.physics.calls if call.verb == "CreateNetworkInterface"]


async def test_idle_waits_for_mutating_calls_under_way(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    ec2_endpoint.physics.add(Fault("CreateNetworkInterface", effect=Effect.DELAY, delay_s=0.4))
    async with way(ec2_endpoint.url) as it:
        call = asyncio.create_task(it.gateway.create(order(ec2_ground), PLACE))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 0.1)
        assert not call.done()
        await it.gateway.idle()
        assert call.done()
