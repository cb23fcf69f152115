"""What follows each of EC2's error codes: what is tried next, how often, and what is said meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from support.operator_sim import Scene
from support.virtual_loop import run_virtual

from enitide_api.errors import EC2_CODES, EC2Ambiguous, EC2Unknown, ec2_error
from enitide_lab.ec2model import Fault
from enitide_lab.ec2model.limits import make_type

pytestmark = pytest.mark.sim

ASSIGN, CREATE, ATTACH = "AssignPrivateIpAddresses", "CreateNetworkInterface", "AttachNetworkInterface"
FAULT_S = 300.0
OF_ELASTIC_IPS = {"InvalidAllocationID.NotFound", "Resource.AlreadyAssociated"}  # sim/test_operator_elastic.py


@dataclass(frozen=True)
class Row:
    """A refusal that lasts five minutes. `least`, `most`: how often the verb is tried in that time.

    `said`: the reason that the node shows ('' where none of its own is due); `never`: one that it must not; `reads`:
    the node's ENIs are read between two tries. `http`: EC2's status.
    """

    code: str
    verb: str
    least: int
    most: int
    said: str
    reads: bool = False
    http: int = 400
    never: str = ""


# Back-offs: later 1, 2, 4 … 60 s; never-as-it-is 30, 60, 120 … s; throttled by the budget too.
ROWS = [
    *(Row(code, ASSIGN, 8, 50, "Throttled", http=503) for code in (
        "RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "EC2ThrottledException",
    )),
    *(Row(code, ASSIGN, 5, 16, "Unauthorized", http=403) for code in (
        "UnauthorizedOperation", "AuthFailure", "OptInRequired", "ExpiredToken", "InvalidClientTokenId",
        "RequestExpired",
    )),
    *(Row(code, ASSIGN, 5, 16, "NotFound", reads=True) for code in (
        "InvalidNetworkInterfaceID.NotFound", "InvalidAttachmentID.NotFound", "InvalidVpcID.NotFound",
    )),
    Row("InvalidSubnetID.NotFound", CREATE, 3, 16, "NoEligibleSubnet", never="SubnetExhausted"),
    *(Row(code, ATTACH, 2, 16, "InstanceMissing", reads=True) for code in (
        "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "IncorrectInstanceState",
    )),
    Row("InsufficientFreeAddressesInSubnet", CREATE, 1, 16, "SubnetExhausted"),
    Row("InsufficientCidrBlocks", ASSIGN, 1, 16, ""),
    Row("AttachmentLimitExceeded", ATTACH, 3, 16, "LimitExceeded", reads=True),
    Row("NetworkInterfaceLimitExceeded", CREATE, 5, 16, "LimitExceeded", reads=True),
    Row("PrivateIpAddressLimitExceeded", ASSIGN, 5, 16, "LimitExceeded", reads=True),
    *(Row(code, CREATE, 3, 16, "SecurityGroupsMissing") for code in (
        "InvalidGroup.NotFound", "InvalidGroupId.Malformed",
    )),
    *(Row(code, ATTACH, 1, 16, "Refused", reads=True) for code in (
        "InvalidNetworkInterface.InUse", "IncorrectState",
    )),
    Row("InvalidIPAddress.InUse", ASSIGN, 5, 16, "Refused", reads=True),
    *(Row(code, ASSIGN, 5, 20, "OutcomeUnknown", reads=True, http=500) for code in (
        "InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable",
        "RequestTimeout", "RequestTimeoutException",
    )),
    Row("IdempotentParameterMismatch", CREATE, 2, 5, "Refused"),
    Row("InvalidParameterCombination", ASSIGN, 2, 5, "Refused"),
    Row("OperationNotPermitted", ASSIGN, 2, 5, "Refused"),
    Row("InvalidParameterValue", ASSIGN, 2, 5, "Refused"),
    Row("InvalidParameterValue", ATTACH, 1, 40, "", reads=True),
    Row("SomethingNew", ASSIGN, 5, 16, "Refused"),
    Row("SomethingNew", ASSIGN, 5, 20, "OutcomeUnknown", reads=True, http=500),
]  # fmt: skip


def test_every_code_of_the_table_has_a_row() -> None:
    assert set(EC2_CODES) - OF_ELASTIC_IPS <= {row.code for row in ROWS}


@pytest.mark.parametrize(("status", "leaf"), [(400, EC2Unknown), (403, EC2Unknown), (500, EC2Ambiguous)])
def test_an_unknown_code_is_judged_by_its_status_alone(status: int, leaf: type[Exception]) -> None:
    error = ec2_error("SomethingNew", "RequestLimitExceeded in words changes nothing", ASSIGN, status)
    assert type(error) is leaf


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.code}-{row.verb[:6]}-{row.http}")
def test_a_code_that_lasts_is_tried_again_at_its_pace_and_all_is_well_once_it_ends(row: Row) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        await scene.pods("n", 12)  # nine fit on the first ENI: an Assign, and a Create with its Attach
        scene.physics.add(Fault(row.verb, code=row.code, http_status=row.http, for_s=FAULT_S))
        operator = scene.operator(cluster_name="sim")
        said: set[str] = set()
        for _ in range(int(FAULT_S)):
            await asyncio.sleep(1)
            said.add(await scene.ready_reason("n"))
        tries = [call for call in scene.physics.calls if call.verb == row.verb and call.outcome == row.code]
        assert row.least <= len(tries) <= row.most, f"{len(tries)} tries"
        if row.said:
            assert row.said in said
        assert row.never not in said - {""}
        if row.reads and len(tries) > 1:
            reads = [call.number for call in scene.physics.calls if call.verb == "DescribeNetworkInterfaces"]
            assert any(tries[0].number < read < tries[-1].number for read in reads), "nothing was read again"

        async def filled() -> bool:
            status = (await scene.eninode("n")).status
            return status.capacity.provisioned >= 12 and not status.pending

        await scene.until(filled, "filled once EC2 lets it", 700)
        await asyncio.sleep(60)
        await scene.check_sound()
        assert not operator.metrics.internal_errors._value.get()

    run_virtual(scenario())


def test_without_room_the_sibling_subnet_is_taken_at_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        sibling = scene.model.create_subnet(scene.vpc, "10.0.64.0/24", "us-west-2a").id
        await scene.node("n")
        await scene.pods("n", 12)
        scene.physics.add(Fault(CREATE, code="InsufficientFreeAddressesInSubnet", times=1))
        scene.operator()

        async def filled() -> bool:
            return await scene.provisioned("n") >= 12

        assert await scene.until(filled, "filled from the sibling", 60) < 10
        assert sibling in {each.subnet_id for each in scene.attached("n")}
        assert scene.calls(CREATE, "InsufficientFreeAddressesInSubnet") == 1

    run_virtual(scenario())


@pytest.mark.parametrize("code", ["InsufficientCidrBlocks", "InvalidParameterValue"])
def test_a_refused_prefix_becomes_single_addresses_whatever_ec2_calls_it(code: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install(prefixDelegation=True)
        await scene.node("n")
        scene.physics.add(Fault(ASSIGN, code=code, times=1))
        scene.operator()

        async def filled() -> bool:
            return await scene.provisioned("n") >= 4

        assert await scene.until(filled, "addresses all the same", 60) < 20
        await asyncio.sleep(300)
        assert scene.calls(ASSIGN, code) == 1
        await scene.check_sound()

    run_virtual(scenario())


def test_an_occupied_index_costs_one_try_each_and_never_the_same_twice() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n", "m5.4xlarge")  # eight ENIs of 29 addresses
        operator = scene.operator()

        async def at_rest() -> bool:
            return await scene.provisioned("n") >= 8

        await scene.until(at_rest, "the first pool", 30)
        for index in (1, 2, 3):  # hidden: attached by hand, shown by no read yet
            made = scene.model.place_interface(scene.subnet, hidden=True)
            scene.model.attach_network_interface(made.id, scene.instances["n"], index)
        await scene.pods("n", 40)

        async def filled() -> bool:
            return await scene.provisioned("n") >= 40

        await scene.until(filled, "filled at a free index", 60)
        assert operator.metrics.calls[ATTACH, "InvalidParameterValue"] <= 4
        assert scene.calls("DeleteNetworkInterface") == 0
        assert not scene.detached()

    run_virtual(scenario())


def test_a_taken_index_is_looked_for_on_its_own_card_alone() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.model.extra_types["two.cards"] = make_type("two.cards", cards=(1, 4), ipv4=10)
        await scene.install(interfaces={"cards": [0, 1]})
        await scene.node("n", "two.cards")
        operator = scene.operator()

        async def has(at_least: int) -> bool:
            return await scene.provisioned("n") >= at_least

        await scene.until(lambda: has(8), "the first pool", 30)
        hidden = scene.model.place_interface(scene.subnet, hidden=True)
        scene.model.attach_network_interface(hidden.id, scene.instances["n"], 0, card=1)
        await scene.pods("n", 16)
        await scene.until(lambda: has(16), "filled on card 1", 60)
        await asyncio.sleep(60)
        places = {(e.attachment.card, e.attachment.index) for e in scene.attached("n") if e.attachment}
        assert places in ({(0, 0), (1, 1)}, {(0, 0), (1, 1), (1, 2)})
        assert 1 <= operator.metrics.calls[ATTACH, "InvalidParameterValue"] <= 2  # one by each that was on its way
        assert not scene.detached()

    run_virtual(scenario())
