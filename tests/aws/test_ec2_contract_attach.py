"""EC2's rules about attaching, changing and finding ENIs, on both faces: Python methods and the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.ec2_faces import Face, refused

from enitide_lab.ec2model import ModelError

pytestmark = pytest.mark.aws


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
