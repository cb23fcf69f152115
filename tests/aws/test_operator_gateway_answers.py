"""What EC2's answers, and those that never come, become in the gateway; and what a term that ends holds back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from random import Random

import pytest
from support.ec2 import REGION, Endpoint, Ground
from support.ec2_way import PLACE, Gate, Observer, order, session, way

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
from enitide_ipam.model import AttachInterface
from enitide_lab.ec2model import Effect, Fault
from enitide_operator.ec2.budget import Budget
from enitide_operator.ec2.gateway import Gateway
from enitide_operator.ec2.port import InterfaceQuery
from enitide_operator.ec2.wire import AwsEc2

pytestmark = pytest.mark.aws


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
        region=REGION, endpoint_url=f"http://127.0.0.1:{port}", call_timeout_s=2.0, session=session()
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
        region=REGION, endpoint_url=ec2_endpoint.url, before_send=gate.require, session=session()
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
