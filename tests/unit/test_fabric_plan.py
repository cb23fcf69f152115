"""What the VPC's router must look like for a state of EC2, and what to change to get there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enitide_lab.fabric.facts import Actual, ActualPort, EniFacts, SubnetFacts, VpcState
from enitide_lab.fabric.feed import facts
from enitide_lab.fabric.plan import changes, link_local, wanted

pytestmark = pytest.mark.unit

SUBNET = SubnetFacts("s", "10.0.16.0/20", "2600:db8::/64")
ENI = EniFacts(
    "eni-0123456789abcdef0", "02:9e:37:79:b1:00", "i-1", 0, 1, "s", ("10.0.16.9", "10.0.16.10"), ("10.0.17.0/28",)
)
STATE = VpcState(7, ("10.0.0.0/16",), (SUBNET,), (ENI,))


def as_built(state: VpcState) -> Actual:
    """The kernel when everything wanted has been made."""
    fabric = wanted(state, {"i-1", "i-2"})
    ports = tuple(ActualPort(p.name, p.label, 5 + n, p.routes, p.routes6) for n, p in enumerate(fabric.ports))
    return Actual(ports, fabric.silent)


def test_every_address_and_prefix_lies_behind_its_eni_and_the_router_has_the_first_of_the_subnet() -> None:
    (port,) = wanted(STATE, {"i-1"}).ports
    assert port.routes == {"10.0.16.9/32", "10.0.16.10/32", "10.0.17.0/28"}
    assert port.next_hop == "10.0.16.9"
    assert {"10.0.16.1/32", "2600:db8::1/128"} <= port.addresses
    assert len(port.name) <= 15


def test_an_instance_without_a_place_has_no_port() -> None:
    assert wanted(STATE, {"i-2"}).ports == ()


def test_what_is_right_already_is_not_touched() -> None:
    assert not changes(wanted(STATE, {"i-1"}), as_built(STATE))


def test_an_address_that_moves_is_taken_from_one_port_and_given_to_the_other() -> None:
    other = replace(ENI, id="eni-0123456789abcdef1", mac="02:9e:37:79:b1:01", addresses=("10.0.16.20",), prefixes=())
    before = replace(STATE, enis=(ENI, other))
    after = replace(
        STATE, enis=(replace(ENI, addresses=("10.0.16.9",)), replace(other, addresses=("10.0.16.20", "10.0.16.10")))
    )
    change = changes(wanted(after, {"i-1"}), as_built(before))
    assert [(port.eni.id, route) for port, route in change.add_routes] == [(other.id, "10.0.16.10/32")]
    assert [(port.label.split()[0], route) for port, route in change.remove_routes] == [(ENI.id, "10.0.16.10/32")]
    assert not change.make
    assert not change.remove


def test_the_same_eni_on_another_instance_is_another_cable() -> None:
    moved = replace(STATE, enis=(replace(ENI, instance_id="i-2"),))
    change = changes(wanted(moved, {"i-1", "i-2"}), as_built(STATE))
    assert [port.label.split()[1] for port in change.remove] == ["i-1"]
    assert [port.eni.instance_id for port in change.make] == ["i-2"]


def test_the_link_local_address_follows_from_the_mac() -> None:
    assert link_local("02:9e:37:79:b1:00") == "fe80::9e:37ff:fe79:b100"


def test_only_what_is_fully_attached_has_a_cable() -> None:
    def eni(name: str, status: str | None) -> dict[str, object]:
        attachment = status and {"instance_id": "i-1", "card": 0, "index": 1, "status": status}
        empty: dict[str, object] = dict.fromkeys(("addresses", "prefixes", "ipv6_addresses", "ipv6_prefixes"), ())
        return {"id": name, "mac": "02:00:00:00:00:01", "subnet_id": "s", "attachment": attachment, **empty}

    interfaces = [eni("eni-a", "attached"), eni("eni-b", "attaching"), eni("eni-c", "detaching"), eni("eni-d", None)]
    state = facts({"last": 3, "vpcs": [], "subnets": [], "interfaces": interfaces})
    assert [each.id for each in state.enis] == ["eni-a"]
