"""What the lab decides without touching anything: names, types, the scheduler's choice, a proof's verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from enitide_api.errors import LabFailed, UsageError
from enitide_kube.objects import Meta, Taint
from enitide_lab.cli import chosen
from enitide_lab.demo.proof import Proof
from enitide_lab.house.cgroups import cgroup2_root
from enitide_lab.house.layout import lab_paths
from enitide_lab.kubelet.cni import NetworkConfig, addresses_of
from enitide_lab.kubelet.objects import (
    KubeletPod,
    KubeletPodSpec,
    NodeCondition,
    ScheduledNode,
    ScheduledNodeSpec,
    ScheduledNodeStatus,
    Toleration,
)
from enitide_lab.kubelet.scheduler import choose
from enitide_lab.probe.forgery import Forgery
from enitide_lab.probe.matrix import Cell, Matrix
from enitide_lab.probe.packets import checksum, echo, whole
from enitide_lab.up.options import max_pods, read_types

pytestmark = pytest.mark.unit


def node(
    name: str, *, ready: bool = True, pods: int = 10, labels: dict[str, str] | None = None, **spec: object
) -> ScheduledNode:
    return ScheduledNode(
        metadata=Meta(name=name, labels=labels),
        spec=ScheduledNodeSpec(**spec),  # type: ignore[arg-type]
        status=ScheduledNodeStatus(
            allocatable={"pods": str(pods)}, conditions=(NodeCondition(type="Ready", status=str(ready)),)
        ),
    )


def pod(**spec: object) -> KubeletPod:
    return KubeletPod(metadata=Meta(name="p"), spec=KubeletPodSpec(**spec))  # type: ignore[arg-type]


def test_a_pod_goes_to_the_ready_node_with_the_fewest() -> None:
    nodes = [node("a"), node("b"), node("c", ready=False)]
    assert choose(pod(), nodes, {"a": 2, "b": 1}) == "b"
    assert choose(pod(), nodes, {"a": 1, "b": 1}) == "a"


def test_a_full_or_cordoned_node_takes_none() -> None:
    assert choose(pod(), [node("a", pods=1)], {"a": 1}) is None
    assert choose(pod(), [node("a", unschedulable=True)], {}) is None


def test_selectors_and_taints_are_obeyed() -> None:
    nodes = [node("a", taints=(Taint(key="x", value="1", effect="NoSchedule"),)), node("b", labels={"size": "big"})]
    assert choose(pod(node_selector={"size": "big"}), nodes, {"b": 9}) == "b"
    assert choose(pod(node_selector={"size": "small"}), nodes, {}) is None
    assert choose(pod(), nodes, {"b": 9}) == "b"
    assert choose(pod(tolerations=(Toleration(key="x", value="1"),)), nodes, {"b": 9}) == "a"
    assert choose(pod(tolerations=(Toleration(operator="Exists"),)), nodes, {"b": 9}) == "a"


def test_types_are_read_and_wrong_ones_are_answered_with_what_to_write() -> None:
    assert read_types((), None) == ("t3.medium",) * 3
    assert read_types(("m5.large:2",), None) == ("m5.large", "m5.large")
    assert read_types(("m5.large",), 2) == ("m5.large", "t3.medium")
    for wrong, words in (("m5.larg", "m5.large"), ("m5", "TYPE:COUNT"), ("m5.large:", "TYPE:COUNT")):
        with pytest.raises(UsageError, match=words):
            read_types((wrong,), None)
    with pytest.raises(UsageError, match="fewer"):
        read_types(("m5.large:3",), 2)


def test_kubelet_is_told_to_take_as_many_pods_as_aws_says() -> None:
    assert max_pods("m5.large", prefix_delegation=False) == 29
    assert max_pods("t3.medium", prefix_delegation=False) == 17
    assert max_pods("m5.large", prefix_delegation=True) == 110


def test_a_lab_name_fits_into_paths_and_socket_names() -> None:
    longest = lab_paths("a" * 24).node("node-32")
    assert len(str(longest.socket)) < 108
    for wrong in ("", "A", "a_b", "-a", "a" * 25, "../x"):
        with pytest.raises(UsageError):
            lab_paths(wrong)


def test_cgroup_v2_is_found_wherever_it_is_mounted() -> None:
    assert cgroup2_root("none /a\\040b cgroup2 rw 0 0\n") == Path("/a b")
    with pytest.raises(LabFailed, match="mount -t cgroup2"):
        cgroup2_root("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n")


def test_status_is_asked_only_of_configurations_that_have_it() -> None:
    assert NetworkConfig("n", (), "1.1.0").has_status
    assert not NetworkConfig("n", (), "1.0.0").has_status


def test_a_pods_first_address_is_its_ipv4_one() -> None:
    result = {"ips": [{"address": "2600::1/128"}, {"address": "10.0.0.9/32"}]}
    assert addresses_of(result) == ("10.0.0.9", "2600::1")


def test_a_proof_holds_only_if_something_was_asked_and_every_answer_is_right() -> None:
    cell = Cell("a", "b", "10.0.0.1", 64)
    good, bad = Matrix(1, 1, (), 0.1), Matrix(1, 0, (cell,), 0.1)
    refused = Forgery("a", "10.0.0.2", "b", "refused")
    assert Proof({"x": good}, (refused,)).holds
    assert not Proof({"x": bad}, (refused,)).holds
    assert not Proof({"x": good}, (Forgery("a", "10.0.0.2", "b", "arrived"),)).holds
    assert not Proof({"x": good}, (Forgery("a", "10.0.0.2", "b", "unproven"),)).holds
    assert not Proof({"x": Matrix(0, 0, (), 0.0)}, (refused,)).holds
    assert not Proof({"x": good}, ()).holds


@pytest.mark.parametrize(("source", "target"), [("10.0.0.1", "10.0.0.2"), ("2600::1", "2600::2")])
def test_packets_carry_right_checksums(source: str, target: str) -> None:
    packet = whole(source, target, 7, 3, b"x" * 9)
    if ":" in target:
        pseudo = packet[8:40] + len(packet[40:]).to_bytes(4, "big") + (58).to_bytes(4, "big")
        assert checksum(pseudo + packet[40:]) == 0
    else:
        assert checksum(packet[:20]) == 0
        assert checksum(packet[20:]) == 0
        assert packet[20:] == echo(4, 7, 3, b"x" * 9)


def test_without_a_name_the_only_lab_is_meant_and_of_several_the_one_with_the_usual_name() -> None:
    demo, other = lab_paths("demo"), lab_paths("other")
    assert chosen(None, [demo]) == demo
    assert chosen(None, [demo, other]) == lab_paths("lab")
    assert chosen(None, []) == lab_paths("lab")
    assert chosen("other", [demo]) == other
