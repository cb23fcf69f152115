"""Reservations of the pods that are bound to a node: made before an ADD, and never left with a pod that is gone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from enitide_api.resources import ENINodeStatus, Interface
from enitide_enidp.journal import Journal
from enitide_enidp.memory import Memory
from enitide_enidp.pods import BoundPods, ref_of
from enitide_ipam.pool import Grant, Pool
from enitide_kube.objects import Pod

pytestmark = pytest.mark.unit

OWNER = "c1/eth0"


class Node:
    """Pool, journal and bound pods of a node with some addresses, and the reflector that the test is."""

    def __init__(self, folder: Path, addresses: int) -> None:
        held = tuple(f"10.0.0.{5 + each}" for each in range(addresses))
        self.pool = Pool("i-1")
        self.pool.apply_status(
            ENINodeStatus(instance_id="i-1", interfaces=(Interface(id="eni-1", card=0, index=0, addresses=held),)),
            "1",
            0.0,
        )
        self.pool.set_ready(["eni-1"])
        self.memory = Memory(self.pool, Journal(folder / "journal"), lambda: 0.0)
        self.pods = BoundPods(self.memory)
        self.pods.drop_stale()

    def see(self, old: Pod | None, new: Pod | None) -> None:
        self.pods.on_change("", old, new)

    def reserved(self) -> list[str]:
        return [each.uid for each in self.pool.reserved()]


def bound(name: str, **metadata: str) -> Pod:
    document = {
        "metadata": {"namespace": "ns", "name": name, "uid": f"uid-{name}", **metadata},
        "spec": {"nodeName": "n"},
    }
    return msgspec.convert(document, Pod)


def leaving(name: str) -> Pod:
    return bound(name, deletionTimestamp="2026-01-01T00:00:00Z")


def test_a_pod_that_is_being_deleted_keeps_no_reservation_from_one_that_waits(tmp_path: Path) -> None:
    node = Node(tmp_path, 1)
    node.see(None, bound("old"))
    node.see(None, bound("new"))
    assert node.reserved() == ["uid-old"]
    node.see(bound("old"), leaving("old"))
    assert node.reserved() == ["uid-new"]


def test_a_pod_that_was_deleted_while_it_waited_takes_no_reservation_any_more(tmp_path: Path) -> None:
    node = Node(tmp_path, 1)
    node.see(None, bound("first"))
    node.see(None, bound("second"))
    node.see(bound("second"), leaving("second"))
    node.see(bound("first"), None)
    assert node.reserved() == []
    assert node.pool.demand(0.0).in_use == 0


def test_an_add_that_fails_after_its_pod_has_gone_leaves_no_reservation(tmp_path: Path) -> None:
    node = Node(tmp_path, 1)
    node.see(None, bound("one"))
    assert isinstance(node.pool.allocate(OWNER, ref_of(bound("one")), 0.0), Grant)
    node.see(bound("one"), None)
    node.memory.keep(node.pool.abort(OWNER, 0.0))
    assert node.reserved() == []
    node.see(None, bound("two"))
    assert node.reserved() == ["uid-two"]


def test_an_add_that_fails_while_its_pod_is_still_wanted_keeps_the_reservation(tmp_path: Path) -> None:
    node = Node(tmp_path, 1)
    node.see(None, bound("one"))
    assert isinstance(node.pool.allocate(OWNER, ref_of(bound("one")), 0.0), Grant)
    node.memory.keep(node.pool.abort(OWNER, 0.0))
    assert node.reserved() == ["uid-one"]


def test_an_address_that_comes_free_is_reserved_for_the_pod_whose_add_is_open(tmp_path: Path) -> None:
    node = Node(tmp_path, 1)
    for name in ("holds", "sleeps", "asks"):
        node.see(None, bound(name))
    node.pool.allocate(OWNER, ref_of(bound("asks")), 0.0)
    node.see(bound("holds"), None)
    assert node.reserved() == ["uid-asks"]
