"""What a lab does with what should not be: EC2's errors while pods start, an API server that hangs, wrong classes.

Each ends with the same question: do EC2, resources, agents, journals, kernel and pods agree on every address.
"""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import consistency
from support.lab import LabDriver, lab_up, until, why_not

from enitide_api.errors import KubeInvalid
from enitide_kube.port import ENICLASS
from enitide_lab.demo.workload import create, pod, running
from enitide_lab.house import mounts, programs
from enitide_lab.kubelet.cni import Runtime, addresses_of

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

NODES = ("node-1", "node-2", "node-3", "node-4")
ONE, TWO, THREE, FOUR = NODES


@pytest.fixture(scope="module")
def world() -> Iterator[LabDriver]:
    with lab_up("bad", ("m5.large",) * len(NODES)) as driver:
        yield driver


@pytest.fixture
async def lab(world: LabDriver) -> AsyncIterator[LabDriver]:
    """The lab without faults and pods, and once more afterwards, when every address must be accounted for."""
    yield world
    world.ec2.remove_faults()
    world.kube_fault(clear=True)
    await world.remove_all()
    await consistency.settle(world)


async def test_calls_whose_outcome_is_unknown_are_read_again_and_nothing_is_lost_doubled_or_leaked(
    lab: LabDriver,
) -> None:
    faults: dict[str, tuple[str, dict[str, str]]] = {
        ONE: ("CreateNetworkInterface", {"effect": "lost"}),
        TWO: ("AttachNetworkInterface", {"effect": "garbage"}),
        THREE: ("AssignPrivateIpAddresses", {"effect": "refuse-after", "code": "InternalError"}),
        FOUR: ("ModifyNetworkInterfaceAttribute", {"effect": "refuse", "code": "Unavailable"}),
    }
    for node, (verb, fault) in faults.items():
        lab.ec2.add_fault(verb=verb, subject=of_node(lab, node), times=1, **fault)
    names = await pods_on_every_node(lab, "unheard", 6)
    await all_run(lab, names, 30.0)
    for verb, _ in faults.values():
        await until(lambda verb=verb: warned(lab, "OutcomeUnknown", verb), 20.0, f"OutcomeUnknown of {verb}")
    await consistency.settle(lab, 45.0)
    assert {node: len(lab.enis(node)) for node in NODES} == dict.fromkeys(NODES, 2)


async def test_what_ec2_refuses_is_told_with_its_reason_and_done_when_it_no_longer_does(lab: LabDriver) -> None:
    refusals = {
        ONE: ("RequestLimitExceeded", "Throttled"),
        TWO: ("UnauthorizedOperation", "Unauthorized"),
        THREE: ("InvalidNetworkInterfaceID.NotFound", "NotFound"),
        FOUR: ("InvalidParameterValue", "Refused"),
    }
    for node, (code, _) in refusals.items():
        lab.ec2.add_fault(verb="mutations", subject=of_node(lab, node), effect="refuse", code=code)
    names = await pods_on_every_node(lab, "refused", 18)
    for node, (_, reason) in refusals.items():
        await until(lambda node=node, reason=reason: says(lab, node, reason), 20.0, f"{reason} of {node}")
    shown = lab.enitide("status", "-o", "json")
    assert shown.returncode == 1
    assert {each["name"]: each["reason"] for each in json.loads(shown.stdout)["notReady"]} == {
        node: reason for node, (_, reason) in refusals.items()
    }
    lab.ec2.remove_faults()
    await all_run(lab, names, 60.0)
    await consistency.settle(lab)


async def test_while_the_api_server_hangs_containers_come_and_go_and_all_is_told_afterwards(lab: LabDriver) -> None:
    node, folders = lab.node(ONE), lab.lab.paths.node(ONE)
    environment = {"ENITIDE_SOCKET": str(folders.socket)}
    runtime = Runtime(folders.cni_conf_dir, folders.cni_bin_dir, lab.lab.netns(node), environment)
    config = runtime.config()
    assert config is not None
    await lab.run({"ends": ONE, "stays": ONE})
    ends = lab.sandbox("ends")
    assert ends is not None
    with namespaces(lab, "come", "gone") as (come, gone):
        with hanging(lab, "kubernetes"):
            kept = await runtime.add(config, call_of("c" * 64, come))
            left = await runtime.add(config, call_of("d" * 64, gone))
            await runtime.delete(config, call_of("d" * 64, gone), left)
            await runtime.delete(config, ends.call(), ends.result)
            await runtime.status(config)
        async with lab.kube() as kube:
            await lab.remove(kube, "ends")
        await until(lambda: lab.sandbox("ends") is None, 20.0, "the ended pod is gone")
        (address, _) = addresses_of(kept)
        await consistency.settle(lab, foreign={ONE: {"c" * 64: address}})
        await runtime.delete(config, call_of("c" * 64, come), kept)


async def test_a_class_that_is_wrong_is_refused_in_a_sentence_and_nodes_keep_the_last_one(lab: LabDriver) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"pool": {"preAlocate": 3}}, "unknown field"),
        ({"pool": {"minAllocate": 9, "maxAllocate": 3}}, "maxAllocate"),
        ({"pool": {"preAllocate": -1}}, "preAllocate"),
        ({"release": {"delay": "soon"}}, "delay"),
    ]
    before = (await lab.eninode(ONE))["status"]["class"]
    async with lab.kube() as kube:
        for spec, word in wrong:
            with pytest.raises(KubeInvalid, match=word):
                await kube.patch(ENICLASS, "default", {"spec": spec})
    assert (await lab.eninode(ONE))["status"]["class"] == before


def of_node(lab: LabDriver, node: str) -> str:
    """The node's instance, which names it to EC2."""
    instance: str = lab.node(node).instance_id
    return instance


async def pods_on_every_node(lab: LabDriver, word: str, count: int) -> list[str]:
    names = {f"{word}-{node[-1]}-{number}": node for node in NODES for number in range(count)}
    async with lab.kube() as kube:
        await create(kube, [pod(name, node=node) for name, node in names.items()])
    return list(names)


async def all_run(lab: LabDriver, names: list[str], timeout_s: float) -> None:
    def missing() -> set[str]:
        return set(names) - {each.sandbox.name for each in running(lab.lab)}

    await until(lambda: not missing(), timeout_s, f"{len(names)} pods run")


async def says(lab: LabDriver, node: str, reason: str) -> bool:
    return reason in await lab.reasons(node)


def warned(lab: LabDriver, reason: str, verb: str) -> bool:
    """Whether the operator's log has this reason with this call."""
    lines = lab.lab.paths.log("operator").read_text().splitlines()
    return any(f'"{reason}"' in line and verb in line for line in lines)


def call_of(container: str, netns: Path) -> dict[str, str]:
    return {"CNI_CONTAINERID": container, "CNI_NETNS": str(netns), "CNI_IFNAME": "eth0", "CNI_ARGS": ""}


@contextmanager
def namespaces(lab: LabDriver, *words: str) -> Iterator[list[Path]]:
    """Network namespaces of containers that no kubelet knows."""
    paths = [lab.lab.paths.root / f"{word}.netns" for word in words]
    try:
        for path in paths:
            mounts.make_namespace(path)
        yield paths
    finally:
        for path in paths:
            mounts.drop_namespace(path)


@contextmanager
def hanging(lab: LabDriver, program: str) -> Iterator[None]:
    """The program stands still: connections are accepted and nothing is ever answered."""
    assert programs.send(lab.lab.program(program), signal.SIGSTOP)
    try:
        yield
    finally:
        assert programs.send(lab.lab.program(program), signal.SIGCONT)
