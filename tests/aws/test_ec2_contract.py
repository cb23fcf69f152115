"""EC2's rules about ENIs, on both faces of the one model: Python methods and the wire through boto3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from support.ec2 import TYPES, Endpoint, build_ground
from support.ec2_faces import Face, ModelFace, WireFace

from enitide_lab.ec2model import EC2Model, ModelError

pytestmark = pytest.mark.aws


@pytest.fixture(params=["model", "wire"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    if request.param == "model":
        yield ModelFace(EC2Model(lambda: 0.0, instance_types=TYPES))
        return
    endpoint: Endpoint = request.getfixturevalue("ec2_endpoint")
    client = endpoint.client(parameter_validation=False)  # EC2's own refusals are the subject, not botocore's
    yield WireFace(client, build_ground(client))
    client.close()


@contextmanager
def refused(code: str, status: int = 400) -> Iterator[None]:
    with pytest.raises(ModelError) as caught:
        yield
    assert (caught.value.code, caught.value.http_status) == (code, status)


@pytest.fixture
def spare(face: Face) -> Callable[[], str]:
    """A maker of detached ENIs in the roomy subnet."""
    return lambda: face.create(face.ground.subnet, groups=[face.ground.group]).id


# --- addresses of a subnet ---


def test_ec2_never_hands_out_an_address_twice_nor_one_of_its_own_five(face: Face) -> None:
    made = [face.create(face.ground.tiny).primary for _ in range(11)]
    assert sorted(made, key=lambda a: int(str(a).rsplit(".", 1)[1])) == [f"10.0.1.{last}" for last in range(4, 15)]
    assert face.subnet(face.ground.tiny)[0] == 0
    with refused("InsufficientFreeAddressesInSubnet"):
        face.create(face.ground.tiny)


def test_instances_and_interfaces_draw_from_one_pool(face: Face) -> None:
    face.create(face.ground.tiny, secondary_count=9)
    face.run(face.ground.tiny)
    assert face.subnet(face.ground.tiny)[0] == 0
    with refused("InsufficientFreeAddressesInSubnet"):
        face.run(face.ground.tiny)


def test_a_create_that_does_not_fit_takes_nothing(face: Face) -> None:
    before = face.subnet(face.ground.tiny)
    with refused("InsufficientFreeAddressesInSubnet"):
        face.create(face.ground.tiny, secondary_count=11)
    with refused("InvalidIPAddress.InUse"):
        face.create(face.ground.tiny, addresses=["10.0.1.5", "10.0.1.6", "10.0.1.6"])
    assert face.subnet(face.ground.tiny) == before


def test_an_address_by_name_must_be_free_and_inside_the_subnet(face: Face) -> None:
    assert face.create(face.ground.subnet, address="10.0.0.77").primary == "10.0.0.77"
    with refused("InvalidIPAddress.InUse"):
        face.create(face.ground.subnet, address="10.0.0.77")
    with refused("InvalidParameterValue"):
        face.create(face.ground.subnet, address="10.9.0.1")
    with refused("InvalidParameterValue"):
        face.create(face.ground.subnet, address="10.0.0.3")


def test_deleting_an_interface_frees_all_it_held(face: Face) -> None:
    before = face.subnet(face.ground.subnet)
    made = face.create(face.ground.subnet, prefix_count=2)
    assert face.subnet(face.ground.subnet)[0] == before[0] - 33
    face.delete(made.id)
    assert face.subnet(face.ground.subnet) == before


# --- prefixes ---


def test_prefixes_are_whole_aligned_blocks(face: Face) -> None:
    made = face.create(face.ground.subnet, prefix_count=3)
    assert len(set(made.prefixes)) == 3
    assert all(prefix.endswith("/28") and int(prefix.split(".")[3][:-3]) % 16 == 0 for prefix in made.prefixes)


def test_no_prefix_comes_out_of_a_block_with_a_hole(face: Face) -> None:
    with refused("InsufficientCidrBlocks"):
        face.create(face.ground.tiny, prefix_count=1)


def test_each_single_address_breaks_a_whole_block_while_there_is_one(face: Face) -> None:
    for _ in range(13):  # the instance's own address has broken one of the 14 that EC2's five leave whole
        face.create(face.ground.subnet)
    assert face.subnet(face.ground.subnet)[0] == 251 - 14
    with refused("InsufficientCidrBlocks"):
        face.create(face.ground.subnet, prefix_count=1)


def test_a_prefix_by_name_must_be_a_free_block_of_the_subnet(face: Face) -> None:
    assert face.create(face.ground.subnet, prefixes=["10.0.0.32/28"]).prefixes == ("10.0.0.32/28",)
    with refused("InvalidIPAddress.InUse"):
        face.create(face.ground.subnet, prefixes=["10.0.0.32/28"])
    with refused("InvalidParameterValue"):
        face.create(face.ground.subnet, prefixes=["10.0.0.48/27"])


def test_prefixes_and_singles_in_one_request_are_refused(face: Face, spare: Callable[[], str]) -> None:
    with refused("InvalidParameterCombination"):
        face.create(face.ground.subnet, prefix_count=1, secondary_count=1)
    with refused("InvalidParameterCombination"):
        face.assign(spare(), prefix_count=1, count=1)


def test_a_prefix_reservation_keeps_its_blocks_for_prefixes(face: Face) -> None:
    before = face.subnet(face.ground.other)[0]
    face.reserve(face.ground.other, "10.0.2.64/26", "prefix")
    assert face.subnet(face.ground.other)[0] == before - 64
    made = face.create(face.ground.other, prefix_count=4)
    assert set(made.prefixes) == {f"10.0.2.{start}/28" for start in (64, 80, 96, 112)}
    with refused("InvalidParameterValue"):
        face.reserve(face.ground.other, "10.0.2.64/27", "explicit")


def test_an_explicit_reservation_is_never_chosen_by_ec2(face: Face) -> None:
    face.reserve(face.ground.tiny, "10.0.1.8/29", "explicit")
    for _ in range(4):
        face.create(face.ground.tiny)
    with refused("InsufficientFreeAddressesInSubnet"):
        face.create(face.ground.tiny)
    assert face.create(face.ground.tiny, address="10.0.1.9").primary == "10.0.1.9"


# --- assign and unassign ---


def test_assign_answers_with_what_is_new_only(face: Face, spare: Callable[[], str]) -> None:
    interface = spare()
    first = face.assign(interface, count=2)
    second = face.assign(interface, count=1)
    assert (len(first.addresses), len(second.addresses)) == (2, 1)
    assert not set(first.addresses) & set(second.addresses)
    assert len(face.assign(interface, prefix_count=1).prefixes) == 1
    shown = face.describe(interface).items[0]
    assert shown.addresses[1:] == first.addresses + second.addresses


def test_an_m5_large_interface_has_ten_slots_for_its_own_address_secondaries_and_prefixes(face: Face) -> None:
    made = face.create(face.ground.subnet, secondary_count=4)
    face.attach(made.id, face.ground.instance, 1)
    face.assign(made.id, prefix_count=5)
    with refused("PrivateIpAddressLimitExceeded"):
        face.assign(made.id, count=1)
    with refused("PrivateIpAddressLimitExceeded"):
        face.assign(made.id, prefix_count=1)


def test_an_interface_with_too_many_addresses_for_the_type_cannot_be_attached(face: Face) -> None:
    made = face.create(face.ground.subnet, secondary_count=10)
    with refused("PrivateIpAddressLimitExceeded"):
        face.attach(made.id, face.ground.instance, 1)


def test_unassign_refuses_the_primary_and_what_is_not_assigned_and_then_takes_nothing(
    face: Face, spare: Callable[[], str]
) -> None:
    interface = spare()
    (address,) = face.assign(interface, count=1).addresses
    primary = face.describe(interface).items[0].primary
    for wrong in (primary, "10.0.0.250"):
        with refused("InvalidParameterValue"):
            face.unassign(interface, addresses=[address, wrong])
    with refused("InvalidParameterValue"):
        face.unassign(interface, prefixes=["10.0.0.224/28"])
    assert face.describe(interface).items[0].addresses == (primary, address)
    face.unassign(interface, addresses=[address])
    assert face.describe(interface).items[0].addresses == (primary,)


def test_an_unassigned_prefix_can_be_had_again(face: Face, spare: Callable[[], str]) -> None:
    interface = spare()
    (prefix,) = face.assign(interface, prefix_count=1).prefixes
    face.unassign(interface, prefixes=[prefix])
    assert face.assign(interface, prefixes=[prefix]).prefixes == (prefix,)


def test_an_address_in_use_moves_only_when_reassignment_is_allowed(face: Face, spare: Callable[[], str]) -> None:
    old, new = spare(), spare()
    (address,) = face.assign(old, count=1).addresses
    with refused("InvalidIPAddress.InUse"):
        face.assign(new, addresses=[address])
    assert face.assign(new, addresses=[address], allow_reassignment=True).addresses == (address,)
    assert address not in face.describe(old).items[0].addresses
    with refused("InvalidParameterValue"):
        face.assign(new, addresses=[face.describe(old).items[0].primary], allow_reassignment=True)


def test_assign_without_a_wish_is_refused(face: Face, spare: Callable[[], str]) -> None:
    with refused("MissingParameter"):
        face.assign(spare())


def test_ipv6_addresses_and_prefixes_come_and_go(face: Face, spare: Callable[[], str]) -> None:
    interface = spare()
    (prefix,) = face.assign_ipv6(interface, prefix_count=1).prefixes
    (address,) = face.assign_ipv6(interface, count=1).addresses
    assert prefix.endswith("/80")
    shown = face.describe(interface).items[0]
    assert (shown.ipv6_prefixes, shown.ipv6_addresses) == ((prefix,), (address,))
    face.unassign_ipv6(interface, prefixes=[prefix])
    with refused("InvalidParameterValue"):
        face.unassign_ipv6(interface, prefixes=[prefix])
    face.unassign_ipv6(interface, addresses=[address])
    assert face.describe(interface).items[0].ipv6_addresses == ()


def test_ipv6_needs_a_subnet_that_has_it(face: Face) -> None:
    with refused("InvalidParameterValue"):
        face.create(face.ground.tiny, ipv6_prefix_count=1)
    assert len(face.create(face.ground.subnet, ipv6_prefix_count=1).ipv6_prefixes) == 1


def test_a_xen_type_takes_no_prefixes(face: Face, spare: Callable[[], str]) -> None:
    instance, interface = face.run(face.ground.subnet, "xen.test"), spare()
    face.attach(interface, instance, 1)
    with refused("UnsupportedOperation"):
        face.assign(interface, prefix_count=1)


# --- create ---


def test_the_same_token_with_the_same_parameters_makes_one_interface(face: Face) -> None:
    asked = {"client_token": "t-1", "secondary_count": 2, "tags": {"a": "b"}}
    first, second = face.create(face.ground.subnet, **asked), face.create(face.ground.subnet, **asked)
    assert first.id == second.id
    assert len(face.describe(filters={"tag:a": ["b"]}).items) == 1


def test_the_same_token_with_other_parameters_is_refused(face: Face) -> None:
    face.create(face.ground.subnet, client_token="t-2", secondary_count=2)
    with refused("IdempotentParameterMismatch"):
        face.create(face.ground.subnet, client_token="t-2", secondary_count=3)


def test_unknown_things_are_named_by_their_own_codes(face: Face, spare: Callable[[], str]) -> None:
    ghost = "0123456789abcdef0"
    with refused("InvalidSubnetID.NotFound"):
        face.create(f"subnet-{ghost}")
    with refused("InvalidGroup.NotFound"):
        face.create(face.ground.subnet, groups=[f"sg-{ghost}"])
    for act in (
        face.delete,
        lambda i: face.assign(i, count=1),
        face.describe,
        lambda i: face.modify(i, description=""),
    ):
        with refused("InvalidNetworkInterfaceID.NotFound"):
            act(f"eni-{ghost}")
    with refused("InvalidInstanceID.NotFound"):
        face.attach(spare(), f"i-{ghost}", 1)
    with refused("InvalidAttachmentID.NotFound"):
        face.detach(f"eni-attach-{ghost}")
    with refused("InvalidNetworkInterfaceID.NotFound"):
        face.tag(f"eni-{ghost}", {"a": "b"})


def test_what_is_asked_for_at_create_is_what_describe_shows(face: Face) -> None:
    made = face.create(
        face.ground.subnet,
        groups=[face.ground.group],
        description="pods of node-1",
        interface_type="efa",
        tags={"cluster": "demo"},
    )
    shown = face.describe(made.id).items[0]
    assert shown == made
    assert (shown.description, shown.groups, shown.interface_type) == ("pods of node-1", (face.ground.group,), "efa")
    assert (shown.status, dict(shown.tags), shown.attachment) == ("available", {"cluster": "demo"}, None)


def test_without_groups_the_vpcs_default_group_is_used(face: Face) -> None:
    (group,) = face.create(face.ground.subnet).groups
    assert group != face.ground.group


def test_a_dry_run_says_it_would_and_does_nothing(face: Face, spare: Callable[[], str]) -> None:
    before = face.subnet(face.ground.subnet)
    with refused("DryRunOperation", 412):
        face.create(face.ground.subnet, dry=True)
    assert face.subnet(face.ground.subnet) == before
    interface = spare()
    with refused("DryRunOperation", 412):
        face.delete(interface, dry=True)
    assert face.describe(interface).items


# --- attach and detach ---


def test_an_occupied_index_is_refused_in_ec2s_words_and_changes_nothing(face: Face, spare: Callable[[], str]) -> None:
    first, second = spare(), spare()
    face.attach(first, face.ground.instance, 1)
    with pytest.raises(ModelError) as caught:
        face.attach(second, face.ground.instance, 1)
    assert caught.value.code == "InvalidParameterValue"
    assert f"Instance '{face.ground.instance}' already has an interface attached at device index '1'" in str(
        caught.value
    )
    assert face.describe(first).items[0].attachment is not None
    assert face.describe(second).items[0].attachment is None


def test_an_attached_interface_can_neither_be_attached_again_nor_deleted(face: Face, spare: Callable[[], str]) -> None:
    interface = spare()
    attachment = face.attach(interface, face.ground.instance, 1)
    with refused("InvalidNetworkInterface.InUse"):
        face.attach(interface, face.ground.instance, 2)
    with refused("InvalidNetworkInterface.InUse"):
        face.delete(interface)
    face.detach(attachment)
    face.delete(interface)
    with refused("InvalidNetworkInterfaceID.NotFound"):
        face.describe(interface)


def test_an_m5_large_takes_three_interfaces(face: Face, spare: Callable[[], str]) -> None:
    for index in (1, 2):
        face.attach(spare(), face.ground.instance, index)
    with refused("AttachmentLimitExceeded"):
        face.attach(spare(), face.ground.instance, 3)


def test_cards_have_their_own_indexes_and_limits(face: Face, spare: Callable[[], str]) -> None:
    instance = face.run(face.ground.subnet, "two-cards.test")
    on_second = spare()
    face.attach(on_second, instance, 1, card=1)
    face.attach(spare(), instance, 1, card=0)
    with refused("AttachmentLimitExceeded"):
        face.attach(spare(), instance, 2, card=0)
    with refused("InvalidParameterValue"):
        face.attach(spare(), instance, 1, card=2)
    attachment = face.describe(on_second).items[0].attachment
    assert attachment is not None
    assert (attachment.card, attachment.index) == (1, 1)


def test_interface_and_instance_must_share_a_zone(face: Face) -> None:
    with refused("InvalidParameterCombination"):
        face.attach(face.create(face.ground.other).id, face.ground.instance, 1)


def test_the_primary_interface_cannot_be_detached(face: Face, spare: Callable[[], str]) -> None:
    face.attach(spare(), face.ground.instance, 1)
    (primary,) = face.describe(
        filters={"attachment.instance-id": [face.ground.instance], "attachment.device-index": ["0"]}
    ).items
    assert primary.attachment is not None
    with refused("OperationNotPermitted"):
        face.detach(primary.attachment.id)


def test_a_terminated_instance_takes_along_what_is_to_go_with_it_and_frees_the_rest(
    face: Face, spare: Callable[[], str]
) -> None:
    gone, kept = spare(), spare()
    attachment = face.attach(gone, face.ground.instance, 1)
    face.attach(kept, face.ground.instance, 2)
    face.modify(gone, attachment_id=attachment, delete_on_termination=True)
    face.terminate(face.ground.instance)
    assert face.describe(filters={"attachment.instance-id": [face.ground.instance]}).items == ()
    assert [i.id for i in face.describe(filters={"subnet-id": [face.ground.subnet]}).items] == [kept]
    assert face.describe(kept).items[0].status == "available"
    with refused("IncorrectInstanceState"):
        face.attach(kept, face.ground.instance, 1)


# --- modify and describe ---


def test_modify_changes_groups_description_and_source_check(face: Face, spare: Callable[[], str]) -> None:
    interface = spare()
    (default,) = face.create(face.ground.subnet).groups
    face.modify(interface, groups=[default])
    face.modify(interface, description="")
    face.modify(interface, source_dest_check=False)
    shown = face.describe(interface).items[0]
    assert (shown.groups, shown.description, shown.source_dest_check) == ((default,), "", False)
    with refused("InvalidGroup.NotFound"):
        face.modify(interface, groups=["sg-0123456789abcdef0"])
    with refused("InvalidAttachmentID.NotFound"):
        face.modify(interface, attachment_id="eni-attach-0123456789abcdef0", delete_on_termination=True)


def test_filters_find_by_every_fact_the_operator_asks_for(face: Face) -> None:
    made = face.create(face.ground.subnet, groups=[face.ground.group], secondary_count=1, tags={"node": "n-1"})
    face.attach(made.id, face.ground.instance, 1)
    for name, value in {
        "network-interface-id": made.id,
        "addresses.private-ip-address": made.addresses[1],
        "private-ip-address": made.addresses[0],
        "tag:node": "n-?",
        "tag-key": "node",
        "mac-address": made.mac,
        "attachment.device-index": "1",
        "attachment.delete-on-termination": "false",
    }.items():
        assert [i.id for i in face.describe(filters={name: [value]}).items] == [made.id], name
    both = face.describe(filters={"attachment.instance-id": [face.ground.instance], "group-id": [face.ground.group]})
    assert len(both.items) == 2
    assert len(face.describe(filters={"group-name": ["nodes"]}).items) == 2
    assert face.describe(filters={"tag:node": ["n-1"], "status": ["available"]}).items == ()
    assert len(face.describe(filters={"vpc-id": [face.ground.vpc], "status": ["in-use"]}).items) == 2
    with refused("InvalidParameterValue"):
        face.describe(filters={"colour": ["red"]})


def test_pages_hold_everything_once(face: Face) -> None:
    made = {face.create(face.ground.subnet).id for _ in range(12)}
    seen: list[str] = []
    token = None
    while True:
        page = face.describe(filters={"status": ["available"]}, max_results=5, next_token=token)
        seen += [interface.id for interface in page.items]
        assert len(page.items) <= 5
        if (token := page.next_token) is None:
            break
    assert sorted(seen) == sorted(made)


def test_pages_and_ids_together_are_refused_and_so_is_a_page_too_short(face: Face, spare: Callable[[], str]) -> None:
    with refused("InvalidParameterCombination"):
        face.describe(spare(), max_results=5)
    with refused("InvalidParameterValue"):
        face.describe(max_results=4)
