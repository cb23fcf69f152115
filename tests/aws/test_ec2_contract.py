"""EC2's rules about addresses, prefixes and the making of ENIs, on both faces: Python methods and the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.ec2_faces import Face, refused

pytestmark = pytest.mark.aws


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
