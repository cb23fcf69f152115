"""Faults on command, throttling, the call log, and the lab's own paths of the EC2 server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from support.ec2 import Endpoint, Ground, interfaces_of, run_instance

from enitide_api.errors import LabFailed
from enitide_lab.ec2model import ModelError
from enitide_lab.ec2server import wire
from enitide_lab.ec2server.verbs import VERBS

pytestmark = pytest.mark.aws


@pytest.fixture
def client(ec2_endpoint: Endpoint) -> Iterator[Any]:
    made = ec2_endpoint.client()
    yield made
    made.close()


# --- faults, throttling, log ---


def test_a_refusal_on_command_hits_as_often_as_told_and_nothing_takes_effect(
    client: Any, ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    ec2_endpoint.control.add_fault(verb="CreateNetworkInterface", code="RequestLimitExceeded", times=2)
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            client.create_network_interface(SubnetId=ec2_ground.subnet)
        assert caught.value.response["Error"]["Code"] == "RequestLimitExceeded"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    client.create_network_interface(SubnetId=ec2_ground.subnet)
    calls = ec2_endpoint.control.calls()["calls"]
    assert calls["CreateNetworkInterface"] == {"RequestLimitExceeded": 2, "ok": 1}
    assert len(client.describe_network_interfaces()["NetworkInterfaces"]) == 2


@pytest.mark.parametrize(
    ("effect", "error"),
    [("lost", ConnectionClosedError), ("crash", ConnectionClosedError), ("garbage", ResponseParserError)],
)
def test_a_lost_answer_leaves_its_effect(
    client: Any, ec2_endpoint: Endpoint, ec2_ground: Ground, effect: str, error: type[Exception]
) -> None:
    ec2_endpoint.control.add_fault(verb="CreateNetworkInterface", effect=effect, times=1)
    before = ec2_endpoint.control.events()["last"]
    with pytest.raises(error):
        client.create_network_interface(SubnetId=ec2_ground.subnet, ClientToken="once")
    assert len(client.describe_network_interfaces()["NetworkInterfaces"]) == 2
    again = client.create_network_interface(SubnetId=ec2_ground.subnet, ClientToken="once")["NetworkInterface"]
    assert len(client.describe_network_interfaces()["NetworkInterfaces"]) == 2
    assert again["Status"] == "available"
    kinds = [event["kind"] for event in ec2_endpoint.control.events(before)["events"]]
    assert ("crash:CreateNetworkInterface" in kinds) == (effect == "crash")


def test_a_server_error_after_the_effect_and_an_empty_answer(
    client: Any, ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    ec2_endpoint.control.add_fault(verb="mutations", effect="refuse-after", code="InternalError", times=1)
    with pytest.raises(ClientError) as caught:
        client.create_network_interface(SubnetId=ec2_ground.subnet)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert len(client.describe_network_interfaces()["NetworkInterfaces"]) == 2
    ec2_endpoint.control.add_fault(verb="reads", effect="empty", times=2)
    assert client.describe_network_interfaces()["NetworkInterfaces"] == []
    assert client.describe_security_groups()["SecurityGroups"] == []


def test_a_fault_for_one_instance_spares_the_others(client: Any, ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    other = run_instance(client, ec2_ground.subnet, ec2_ground.group)
    (mine,), (theirs,) = interfaces_of(client, ec2_ground.instance), interfaces_of(client, other)
    ec2_endpoint.control.add_fault(verb="AssignPrivateIpAddresses", code="InternalError", subject=ec2_ground.instance)
    client.assign_private_ip_addresses(
        NetworkInterfaceId=theirs["NetworkInterfaceId"], SecondaryPrivateIpAddressCount=1
    )
    with pytest.raises(ClientError):
        client.assign_private_ip_addresses(
            NetworkInterfaceId=mine["NetworkInterfaceId"], SecondaryPrivateIpAddressCount=1
        )
    ec2_endpoint.control.remove_faults()
    client.assign_private_ip_addresses(NetworkInterfaceId=mine["NetworkInterfaceId"], SecondaryPrivateIpAddressCount=1)


def test_a_call_that_takes_too_long_takes_effect_all_the_same(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    client = ec2_endpoint.client(read_timeout=0.3)
    ec2_endpoint.control.add_fault(verb="CreateNetworkInterface", effect="delay", delay_s=1.0, times=1)
    before = ec2_endpoint.control.events()["last"]
    with pytest.raises(ReadTimeoutError):
        client.create_network_interface(SubnetId=ec2_ground.subnet)
    (event,) = ec2_endpoint.control.events(before, wait_s=10)["events"]
    assert event["kind"] == "created"
    client.close()


def test_throttling_uses_aws_bucket_sizes(client: Any, ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    ec2_endpoint.control.set_physics(throttling=True)
    codes = []
    for _ in range(60):
        try:
            client.detach_network_interface(AttachmentId="eni-attach-0123456789abcdef0")
        except ClientError as exc:
            codes.append(exc.response["Error"]["Code"])
    served = codes.index("RequestLimitExceeded")
    assert 50 <= served < 60  # 50 tokens and what flows in at 5 a second meanwhile


def test_a_parameter_that_ec2_does_not_know_is_refused(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    with pytest.raises(ModelError) as caught:
        wire.parse("DescribeSubnets", {"Action": "DescribeSubnets", "SubnetIdd.1": ec2_ground.subnet})
    assert caught.value.code == "UnknownParameter"
    with pytest.raises(ModelError) as caught:
        wire.parse("AttachNetworkInterface", {"DeviceIndex": "one", "InstanceId": "i-1", "NetworkInterfaceId": "eni-1"})
    assert caught.value.code == "InvalidParameterValue"
    with pytest.raises(ModelError) as caught:
        wire.parse("CreateNetworkInterface", {"Action": "CreateNetworkInterface"})
    assert caught.value.code == "MissingParameter"


def test_every_parameter_that_a_verb_honours_exists_in_ec2() -> None:
    for verb, (_, honoured) in VERBS.items():
        shape: Any = wire.operation(verb).input_shape
        assert honoured <= set(shape.members), verb


# --- the lab's paths ---


def test_the_feed_tells_a_waiting_reader_what_was_attached(
    client: Any, ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    since = ec2_endpoint.control.events()["last"]
    got: list[dict[str, Any]] = []

    def follow() -> None:
        last = since
        while not any(event["kind"] == "attached" for event in got):
            reply = ec2_endpoint.control.events(last, wait_s=10)
            got.extend(reply["events"])
            last = reply["last"]

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    made = client.create_network_interface(SubnetId=ec2_ground.subnet, Ipv4PrefixCount=1)["NetworkInterface"]
    client.attach_network_interface(
        NetworkInterfaceId=made["NetworkInterfaceId"], InstanceId=ec2_ground.instance, DeviceIndex=1
    )
    reader.join(timeout=20)
    assert [event["kind"] for event in got] == ["created", "attached"]
    attached = got[1]
    assert (attached["mac"], attached["instance_id"], attached["card"], attached["index"]) == (
        made["MacAddress"],
        ec2_ground.instance,
        0,
        1,
    )
    assert attached["prefixes"] == [made["Ipv4Prefixes"][0]["Ipv4Prefix"]]


def test_a_delayed_transition_reaches_a_waiting_reader_without_any_call(
    client: Any, ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    ec2_endpoint.control.set_physics(attach_delay_s=0.3)
    made = client.create_network_interface(SubnetId=ec2_ground.subnet)["NetworkInterface"]["NetworkInterfaceId"]
    client.attach_network_interface(NetworkInterfaceId=made, InstanceId=ec2_ground.instance, DeviceIndex=1)
    since = ec2_endpoint.control.events()["last"]
    (event,) = ec2_endpoint.control.events(since, wait_s=10)["events"]
    assert (event["kind"], event["interface_id"]) == ("attached", made)


def test_the_state_is_the_whole_world_as_of_an_event(ec2_endpoint: Endpoint, ec2_ground: Ground) -> None:
    state = ec2_endpoint.control.state()
    (interface,) = state["interfaces"]
    assert interface["attachment"]["instance_id"] == ec2_ground.instance
    assert {subnet["id"] for subnet in state["subnets"]} >= {ec2_ground.subnet, ec2_ground.tiny, ec2_ground.other}
    assert ec2_endpoint.control.events(state["last"])["events"] == []


def test_strangers_leave_exactly_the_room_that_was_asked_for(
    client: Any, ec2_endpoint: Endpoint, ec2_ground: Ground
) -> None:
    ec2_endpoint.control.set_room(ec2_ground.other, free=40, whole_prefixes=1)
    client.create_network_interface(SubnetId=ec2_ground.other, Ipv4PrefixCount=1)
    with pytest.raises(ClientError) as caught:
        client.create_network_interface(SubnetId=ec2_ground.other, Ipv4PrefixCount=1)
    assert caught.value.response["Error"]["Code"] == "InsufficientCidrBlocks"
    assert client.describe_subnets(SubnetIds=[ec2_ground.other])["Subnets"][0]["AvailableIpAddressCount"] == 23


def test_bad_commands_to_the_lab_are_refused_with_what_to_write(ec2_endpoint: Endpoint) -> None:
    for call in (
        lambda: ec2_endpoint.control.add_fault(verb="CreateNetworkInterface", tines=3),
        lambda: ec2_endpoint.control.add_fault(verb="CreateNetworkInterface", effect="explode"),
        lambda: ec2_endpoint.control.set_physics(speed=3),
        lambda: ec2_endpoint.control.set_room("subnet-none", 3),
    ):
        with pytest.raises(LabFailed):
            call()


def test_a_connection_serves_many_calls(client: Any, ec2_endpoint: Endpoint) -> None:
    replies = [client.describe_subnets() for _ in range(3)]
    assert all(reply["ResponseMetadata"]["HTTPHeaders"].get("connection") != "close" for reply in replies)
