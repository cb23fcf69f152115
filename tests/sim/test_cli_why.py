"""`enitide why` on the API store of a running operator: each broken link is found and named with its reason."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import pytest
from support.operator_sim import ZONE, Scene
from support.virtual_loop import run_virtual

from enitide_api.errors import KubeForbidden
from enitide_kube.port import EVENT, LEASE, NODE, POD
from enitide_lab.ec2model import Fault
from enitide_operator.cli import evidence
from enitide_operator.cli.chain import Answer

pytestmark = pytest.mark.sim


async def ask(scene: Scene, subject: str, namespace: str = "", kube: Any = None) -> Answer:
    return await evidence.answer_for(kube or scene.kube, subject, namespace, ("kube-system", "enitide-operator"))


def cause(answer: Answer) -> tuple[str, str]:
    assert answer.cause is not None
    return answer.cause.name, answer.cause.reason


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Lease's age is by the scene's clock, not by the wall's."""

    class Now:
        @staticmethod
        def now(_zone: Any) -> Any:
            return asyncio.get_running_loop().wall()  # type: ignore[attr-defined]

        @staticmethod
        def fromisoformat(text: str) -> Any:
            from datetime import datetime

            return datetime.fromisoformat(text)

    monkeypatch.setattr(evidence, "datetime", Now)


async def started(scene: Scene, *, pods: int = 0, wait_s: float = 40, **class_spec: Any) -> None:
    await scene.install(**class_spec)
    await scene.node("n")
    await scene.pods("n", pods)
    scene.operator()
    await asyncio.sleep(wait_s)


def test_a_node_at_its_tide_has_nothing_amiss() -> None:
    async def scenario() -> None:
        scene = Scene()
        await started(scene)
        answer = await ask(scene, "n")
        assert answer.cause is None
        assert [each.name for each in answer.links] == [
            "node", "operator", "agent", "class", "tide", "slots", "enis", "subnets", "security groups", "ec2"
        ]  # fmt: skip
        assert {each.holds.value for each in answer.links} == {"ok"}

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("verb", "code", "link", "reason"),
    [
        ("AssignPrivateIpAddresses", "InsufficientFreeAddressesInSubnet", "subnets", "SubnetExhausted"),
        ("AssignPrivateIpAddresses", "UnauthorizedOperation", "ec2", "Unauthorized"),
        ("AssignPrivateIpAddresses", "PrivateIpAddressLimitExceeded", "slots", "LimitExceeded"),
        ("DescribeSubnets", "UnauthorizedOperation", "ec2", "Unauthorized"),
    ],
)
def test_what_ec2_refuses_is_found_at_its_link(verb: str, code: str, link: str, reason: str) -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.physics.add(Fault(verb, code=code, http_status=400))
        await started(scene, pods=3)
        answer = await ask(scene, "default/p-n-0")
        assert cause(answer) == (link, reason)
        assert f"docs/runbook.md#{reason.lower()}" in answer.next

    run_virtual(scenario())


def test_a_full_node_is_found_at_its_slots() -> None:
    async def scenario() -> None:
        scene = Scene()
        await started(scene, pods=40)
        assert cause(await ask(scene, "p-n-7")) == ("slots", "AtCapacity")

    run_virtual(scenario())


def test_missing_groups_and_subnets_are_found_at_theirs() -> None:
    async def scenario() -> None:
        scene = Scene()
        groups = {"securityGroupSelector": {"ids": ["sg-0"]}}
        await started(scene, pods=12, interfaces=groups)
        assert cause(await ask(scene, "n")) == ("security groups", "SecurityGroupsMissing")

    run_virtual(scenario())


def test_a_pod_that_no_node_takes_names_tainted_nodes() -> None:
    async def scenario() -> None:
        scene = Scene()
        await started(scene)
        taint = {"key": "enitide.io/no-address", "effect": "NoSchedule"}
        await scene.kube.patch(NODE, "n", {"spec": {"taints": [taint]}})
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lost", "namespace": "default"}}
        await scene.kube.create(POD, pod | {"spec": {"containers": [{"name": "c", "image": "i"}]}}, namespace="default")
        answer = await ask(scene, "default/lost")
        assert cause(answer) == ("bound", "PodUnbound")
        assert answer.cause is not None
        assert "1 nodes carry enitide.io/no-address" in answer.cause.says

    run_virtual(scenario())


def test_a_node_without_an_agent_or_with_another_instance_is_found_at_its_agent() -> None:
    async def scenario() -> None:
        scene = Scene()
        await started(scene)
        await scene.kube.create(NODE, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "bare"}})
        assert cause(await ask(scene, "bare")) == ("agent", "AgentAbsent")
        await scene.node("other", provider=f"aws:///{ZONE}/i-0000000000000dead")
        await asyncio.sleep(10)
        assert cause(await ask(scene, "other")) == ("agent", "InstanceMismatch")

    run_virtual(scenario())


def test_without_a_leader_the_operator_is_the_broken_link() -> None:
    async def scenario() -> None:
        scene = Scene()
        await scene.install()
        await scene.node("n")
        operator = scene.operator()
        await asyncio.sleep(20)
        operator.crash()
        await asyncio.sleep(60)
        assert cause(await ask(scene, "n")) == ("operator", "NotLeading")
        await scene.kube.delete(LEASE, "enitide-operator", namespace="kube-system")
        assert cause(await ask(scene, "n")) == ("operator", "NotLeading")

    run_virtual(scenario())


def test_with_addresses_free_what_the_runtime_was_told_is_the_cause() -> None:
    async def scenario() -> None:
        scene = Scene()
        await started(scene, pods=1)
        uid = (await evidence._Reader(scene.kube).get(POD, "p-n-0", "default"))["metadata"]["uid"]  # type: ignore[index]
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": "e1", "namespace": "default"},
            "eventTime": "2030-01-01T00:00:00.000000Z",
            "reportingController": "kubelet",
            "reportingInstance": "n",
            "action": "Creating",
            "type": "Warning",
            "reason": "FailedCreatePodSandBox",
            "note": 'plugin type="enitide-cni" failed (add): InterfaceAbsent: no device with MAC 02:00',
            "regarding": {"kind": "Pod", "name": "p-n-0", "namespace": "default", "uid": uid},
        }
        await scene.kube.create(EVENT, event, namespace="default")
        answer = await ask(scene, "p-n-0")
        assert cause(answer) == ("address", "InterfaceAbsent")

    run_virtual(scenario())


def test_a_pod_with_an_address_or_in_the_hosts_network_waits_for_nothing() -> None:
    async def scenario() -> None:
        scene = Scene()
        await started(scene, pods=1)
        await scene.kube.patch(
            POD, "p-n-0", {"status": {"podIPs": [{"ip": "10.0.0.9"}]}}, namespace="default", subresource="status"
        )
        answer = await ask(scene, "p-n-0")
        assert answer.cause is None
        assert "10.0.0.9" in answer.links[0].says

    run_virtual(scenario())


def test_what_may_not_be_read_is_said_and_not_taken_for_absent() -> None:
    async def scenario() -> None:
        scene = Scene()
        await started(scene)

        class Narrow:
            def __getattr__(self, name: str) -> Any:
                async def call(kind: Any, *args: Any, **options: Any) -> Any:
                    if kind in (LEASE, POD):
                        raise KubeForbidden(f"{kind.plural} is forbidden")
                    return await getattr(scene.kube, name)(kind, *args, **options)

                return call

        answer = await ask(scene, "n", kube=Narrow())
        assert answer.cause is None
        assert {each.name: each.holds.value for each in answer.links}["operator"] == "unknown"
        assert any("pods" in each for each in answer.unseen)
        assert any("Lease" in each for each in answer.unseen)

    run_virtual(scenario())


def test_a_name_that_is_nothing_or_too_much_is_a_usage_error() -> None:
    async def scenario() -> None:
        scene = Scene()
        await started(scene, pods=1)
        with pytest.raises(click.UsageError, match="no node and no pod 'nothing'"):
            await ask(scene, "nothing")
        with pytest.raises(click.UsageError, match="no pod 'x' in namespace 'default'"):
            await ask(scene, "default/x")
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p-n-0", "namespace": "kube-system"}}
        await scene.kube.create(
            POD, pod | {"spec": {"containers": [{"name": "c", "image": "i"}]}}, namespace="kube-system"
        )
        with pytest.raises(click.UsageError, match=r"write one of default/p-n-0, kube-system/p-n-0"):
            await ask(scene, "p-n-0")

    run_virtual(scenario())
