"""The VPC's router with real packets: what AWS lets through passes, what it drops vanishes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from enitide_lab.fabric import guest, kernel, plan
from enitide_lab.fabric.daemon import Daemon
from enitide_lab.fabric.facts import EniFacts, SubnetFacts, VpcState
from enitide_lab.fabric.router import build_router
from enitide_lab.house import mounts, teardown
from enitide_lab.house.layout import LabPaths
from enitide_lab.probe.forgery import forge
from enitide_lab.probe.matrix import FULL_MTU, Place, ask

pytestmark = [pytest.mark.netns, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

SUBNET = SubnetFacts("subnet-a", "10.0.0.0/20", "2600:db8:0:1::/64")
ONE = EniFacts(
    "eni-00000000000000001", "02:00:00:00:00:01", "i-1", 0, 0, SUBNET.id, ("10.0.0.10",), (), ("2600:db8:0:1::a",)
)
TWO = EniFacts(
    "eni-00000000000000002", "02:00:00:00:00:02", "i-2", 0, 0, SUBNET.id, ("10.0.0.20",), (), ("2600:db8:0:1::b",)
)
SECOND_OF_TWO = EniFacts(
    "eni-00000000000000003",
    "02:00:00:00:00:03",
    "i-2",
    0,
    1,
    SUBNET.id,
    ("10.0.1.20",),
    ("10.0.2.0/28",),
    (),
    ("2600:db8:0:1:5::/80",),
)
STATE = VpcState(1, ("10.0.0.0/16",), (SUBNET,), (ONE, TWO))


class Told:
    """A feed that is never asked: passes are made by hand."""

    def state(self) -> VpcState:
        raise AssertionError

    def wait(self, since: int, timeout_s: float) -> None:
        raise AssertionError


class World:
    def __init__(self, paths: LabPaths) -> None:
        self.paths = paths
        build_router(self.paths.fabric)
        for instance in ("i-1", "i-2"):
            mounts.make_namespace(self.node(instance), {**guest.NODE_SYSCTLS, "ipv6/conf/default/accept_dad": "0"})
        self.now = 0.0
        self.daemon = Daemon(Told(), self.paths.namespaces, appear_delay_s=5.0, clock=lambda: self.now)

    def node(self, instance: str):
        return self.paths.namespaces / instance

    def reconcile(self, state: VpcState) -> bool:
        return mounts.in_namespace(self.paths.fabric, lambda: self.daemon.reconcile(state))

    def devices(self, instance: str) -> dict[str, str]:
        def look() -> dict[str, str]:
            with kernel.IPRoute() as ipr:
                return {
                    link.get("ifname"): link.get("address") for link in ipr.get_links() if link.get("ifname") != "lo"
                }

        return mounts.in_namespace(self.node(instance), look)

    def changes(self, state: VpcState) -> bool:
        """What another pass would change."""

        def look() -> bool:
            with kernel.IPRoute() as ipr:
                return bool(plan.changes(plan.wanted(state, {"i-1", "i-2"}), kernel.actual(ipr)))

        return mounts.in_namespace(self.paths.fabric, look)

    def icmp_errors(self, instance: str) -> int:
        """Destination unreachable messages that the node has received."""

        def look() -> int:
            names, values = (
                line.split()
                for line in Path("/proc/thread-self/net/snmp").read_text().splitlines()
                if line[:5] == "Icmp:"
            )
            return int(dict(zip(names, values, strict=True))["InDestUnreachs"])

        return mounts.in_namespace(self.node(instance), look)

    @staticmethod
    def until(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5.0
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def place(self, eni: EniFacts) -> Place:
        return Place(eni.instance_id, self.node(eni.instance_id), (*eni.addresses, *eni.ipv6_addresses))


@pytest.fixture
def world() -> Iterator[World]:
    paths = LabPaths(f"t-fabric-{os.getpid()}")
    try:
        yield World(paths)
    finally:
        teardown.take_down(paths)
        assert not teardown.traces(paths)


def test_nodes_reach_each_other_in_both_families_at_the_full_mtu(world: World) -> None:
    assert world.reconcile(STATE)
    matrix = ask([world.place(ONE), world.place(TWO)])
    assert matrix.asked == 16
    assert matrix.missing == ()


def test_a_packet_larger_than_the_mtu_does_not_pass_unsplit(world: World) -> None:
    world.reconcile(STATE)
    matrix = ask([world.place(ONE)], targets=[world.place(TWO)], sizes=[FULL_MTU + 1], timeout_s=0.4)
    assert matrix.answered == 0


@pytest.mark.parametrize("pretended", ["10.0.0.99", "10.0.1.20", "2600:db8:0:1::77", "2600:db8:0:1:5::9"])
def test_a_source_that_is_not_on_the_eni_is_dropped(world: World, pretended: str) -> None:
    world.reconcile(replace(STATE, enis=(ONE, TWO)))
    assert forge(world.place(ONE), pretended, world.place(TWO)).outcome == "refused"


def test_an_address_of_the_eni_is_a_legal_source(world: World) -> None:
    assigned = replace(ONE, addresses=("10.0.0.10", "10.0.0.99"), ipv6_prefixes=("2600:db8:0:1:7::/80",))
    world.reconcile(replace(STATE, enis=(assigned, TWO)))
    for address in ("10.0.0.99", "2600:db8:0:1:7::1"):
        assert forge(world.place(ONE), address, world.place(TWO)).outcome == "arrived"


def test_a_hot_plugged_card_appears_after_its_delay_unconfigured_and_with_the_mac_of_its_eni(world: World) -> None:
    world.reconcile(STATE)
    more = replace(STATE, enis=(ONE, TWO, SECOND_OF_TWO))
    assert not world.reconcile(more)
    assert set(world.devices("i-2")) == {"ens5"}
    world.now = 5.0
    assert world.reconcile(more)
    assert world.devices("i-2") == {"ens5": TWO.mac, "ens6": SECOND_OF_TWO.mac}


def test_addresses_follow_their_eni_and_a_second_pass_changes_nothing(world: World) -> None:
    world.reconcile(replace(STATE, enis=(replace(ONE, addresses=("10.0.0.10", "10.0.0.99")), TWO)))
    moved = replace(STATE, enis=(ONE, replace(TWO, addresses=("10.0.0.20", "10.0.0.99"))))
    world.reconcile(moved)
    assert forge(world.place(TWO), "10.0.0.99", world.place(ONE)).outcome == "arrived"
    assert forge(world.place(ONE), "10.0.0.99", world.place(TWO)).outcome == "refused"
    assert not world.changes(moved)


def test_a_detached_eni_takes_its_device_and_its_routes_with_it(world: World) -> None:
    world.now = 5.0
    world.reconcile(replace(STATE, enis=(ONE, TWO, SECOND_OF_TWO)))
    world.now = 10.0
    world.reconcile(replace(STATE, enis=(ONE, TWO, SECOND_OF_TWO)))
    world.reconcile(STATE)
    assert set(world.devices("i-2")) == {"ens5"}
    assert not world.changes(STATE)


def test_what_belongs_to_no_eni_ends_without_an_answer(world: World) -> None:
    world.reconcile(STATE)
    ghost = Place("ghost", world.node("i-2"), ("10.0.9.9", "8.8.8.8"))
    assert ask([world.place(ONE)], targets=[ghost], sizes=[64], timeout_s=0.3).answered == 0
    assert world.icmp_errors("i-1") == 0


def test_a_node_that_is_made_anew_is_plugged_in_again(world: World) -> None:
    world.reconcile(STATE)
    mounts.drop_namespace(world.node("i-2"))
    world.until(lambda: world.reconcile(STATE) is False)
    mounts.make_namespace(world.node("i-2"))
    world.until(lambda: world.reconcile(STATE))
    assert ask([world.place(ONE)], targets=[world.place(TWO)]).missing == ()


def test_a_node_loses_all_devices_also_one_that_goes_while_they_are_removed(world: World) -> None:
    def look() -> list[str]:
        with IPRoute() as ipr:
            ipr.link("add", ifname="one", kind="veth", peer={"ifname": "other"})  # the second ends with the first
        kernel.remove_devices()
        with IPRoute() as ipr:
            return [link.get("ifname") for link in ipr.get_links()]

    assert mounts.in_namespace(world.node("i-2"), look) == ["lo"]
