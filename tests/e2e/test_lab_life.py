"""A whole lab: real operator, agents, plugin and datapath; pods live, packets pass, programs are killed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from support.lab import LabDriver, lab_up, until, why_not

from enitide_api.errors import KubeNotFound
from enitide_kube.client import HttpKube
from enitide_kube.port import LEASE, NODE
from enitide_lab.demo.workload import between, create, pod, spent
from enitide_lab.house import mounts
from enitide_lab.kubelet.cni import Runtime
from enitide_lab.kubelet.sandbox import read_all
from enitide_lab.probe.forgery import forge
from enitide_lab.probe.matrix import ask
from enitide_lab.up.bring_up import reboot_node

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

BIG, SMALL, THIRD = "node-1", "node-2", "node-3"


@pytest.fixture(scope="module")
def world() -> Iterator[LabDriver]:
    with lab_up("life", ("m5.large", "t3.medium", "t3.medium")) as driver:
        yield driver


@pytest.fixture
async def lab(world: LabDriver) -> AsyncIterator[LabDriver]:
    """The lab, without faults before and without pods after each test."""
    yield world
    world.ec2.remove_faults()
    world.kube_fault(clear=True)
    await world.remove_all()


def veths(lab: LabDriver, node: str) -> set[str]:
    """The devices of pods on a node."""
    from pyroute2 import IPRoute

    def look() -> set[str]:
        with IPRoute() as ipr:
            names = {link.get("ifname") for link in ipr.get_links()}
        return {name for name in names if name != "lo" and not name.startswith("ens")}

    return mounts.in_namespace(lab.lab.netns(lab.node(node)), look)


async def expire_lease(kube: HttpKube) -> None:
    """A dead leader's Lease would end by itself after 45 s; this is that moment."""
    await kube.patch(LEASE, "enitide-operator", {"spec": {"holderIdentity": ""}}, namespace="kube-system")


async def test_a_cold_burst_needs_no_describe_and_every_pod_gets_an_address_of_its_nodes_enis(lab: LabDriver) -> None:
    before = await spent(lab.lab)
    sandboxes = await lab.run({f"burst-{n}": BIG for n in range(20)})
    cost = between(before, await spent(lab.lab))
    held = {address for eni in lab.enis(BIG) for address in eni["addresses"][1:]}
    assert len({sandbox.addresses[0] for sandbox in sandboxes}) == 20
    assert {sandbox.addresses[0] for sandbox in sandboxes} <= held
    assert cost.ec2 == cost.mutations
    assert cost.ec2["CreateNetworkInterface"] <= 2


async def test_a_pod_runs_with_both_families_and_leaves_nothing_when_it_is_deleted(lab: LabDriver) -> None:
    await until(lambda: not veths(lab, BIG), what="the veths of earlier pods are gone")
    (sandbox,) = await lab.run({"one": BIG})
    four, six = sandbox.addresses
    assert ":" not in four
    assert ":" in six
    assert len(veths(lab, BIG)) == 1
    async with lab.kube() as kube:
        await lab.remove(kube, "one")
        await until(lambda: not read_all(lab.lab.paths.node(BIG).pods), what="no sandbox left")
    await until(lambda: not veths(lab, BIG), what="its veth is gone")
    states = {row["address"]: row["state"] for row in lab.agent(BIG, "/v1/addresses")["addresses"]}
    assert states[four] == "cooling"


async def test_pods_of_all_nodes_reach_each_other_and_the_nodes_at_the_full_mtu(lab: LabDriver) -> None:
    await lab.run({f"m-{n}": (BIG, SMALL, THIRD)[n % 3] for n in range(9)})
    pods = [lab.place(f"m-{n}") for n in range(9)]
    nodes = [lab.node_place(name) for name in (BIG, SMALL, THIRD)]
    for matrix in (ask(pods), ask(pods, targets=nodes), ask(nodes, targets=pods)):
        assert matrix.asked > 0
        assert matrix.missing == ()


async def test_a_pod_cannot_speak_in_anybody_elses_name(lab: LabDriver) -> None:
    await lab.run({"liar": BIG, "neighbour": BIG, "target": SMALL})
    liar, neighbour, target = (lab.place(name) for name in ("liar", "neighbour", "target"))
    node = lab.node(BIG).address
    for pretended in (*neighbour.addresses, node, "10.0.15.250"):
        assert forge(liar, pretended, target).outcome == "refused", pretended
    assert lab.agent(BIG, "/v1/drops")


async def test_traffic_flows_while_the_agent_is_killed_and_a_new_one_goes_on_where_it_stood(lab: LabDriver) -> None:
    await lab.run({"here": BIG, "there": SMALL})
    here, there = lab.place("here"), lab.place("there")
    owners = {row["address"]: row["owner"] for row in lab.agent(BIG, "/v1/addresses")["addresses"] if row["owner"]}
    lab.lab.kill(f"agent/{BIG}", signal.SIGKILL)
    assert ask([here, there]).missing == ()
    (node,) = [node for node in lab.lab.record.nodes if node.name == BIG]
    lab.lab.start_agent(node)
    answered = []
    while not (status := lab.agent(BIG, "/v1/status")) or status["ready"] == 0:
        answered.append(not ask([here, there], sizes=[64], timeout_s=1.0).missing)
        await asyncio.sleep(0.05)
        assert len(answered) < 400, "the agent does not come back"
    assert all(answered)
    after = {row["address"]: row["owner"] for row in lab.agent(BIG, "/v1/addresses")["addresses"] if row["owner"]}
    assert after == owners
    assert await lab.node_ready(BIG)
    await lab.run({"later": BIG})
    assert ask([lab.place("later")], targets=[here, there]).missing == ()


async def test_an_operator_killed_while_it_makes_an_eni_loses_and_doubles_none(lab: LabDriver) -> None:
    await until(lambda: len(lab.enis(THIRD)) >= 1)
    before = len(lab.enis(THIRD))
    lab.ec2.add_fault(verb="CreateNetworkInterface", effect="delay", delay_s=2.0, times=1)
    async with lab.kube() as kube:
        await create(kube, [pod(f"many-{n}", node=THIRD) for n in range(12)])
        creating = [False]

        async def pending() -> bool:
            creating[0] = bool((await lab.eninode(THIRD)).get("status", {}).get("pending"))
            return creating[0] or len(lab.enis(THIRD)) >= 3

        await until(pending, what="an intent is written")
        lab.lab.kill("operator", signal.SIGKILL)
        await expire_lease(kube)
        lab.lab.start_operator()
        for n in range(12):
            await until(lambda n=n: lab._runs(kube, f"many-{n}"), 60.0, f"many-{n} runs")
    assert len(lab.enis(THIRD)) >= before
    keys = [(eni["attachment"]["card"], eni["attachment"]["index"]) for eni in lab.enis(THIRD)]
    assert len(keys) == len(set(keys)) <= 3

    async def settled() -> bool:
        loose = [eni for eni in lab.enis() if eni["attachment"] is None]
        return not loose and not (await lab.eninode(THIRD))["status"].get("pending")

    await until(settled, 60.0, "no loose ENI and no pending intent")
    published = {each["id"] for each in (await lab.eninode(THIRD))["status"]["interfaces"]}
    assert published == {eni["id"] for eni in lab.enis(THIRD)}


async def test_while_the_api_server_is_away_traffic_flows_and_the_plugin_serves(lab: LabDriver) -> None:
    await lab.run({"a": BIG, "b": SMALL})
    folders = lab.lab.paths.node(BIG)
    netns = lab.lab.netns(lab.node(BIG))
    runtime = Runtime(folders.cni_conf_dir, folders.cni_bin_dir, netns, {"ENITIDE_SOCKET": str(folders.socket)})
    config = runtime.config()
    assert config is not None
    foreign = lab.lab.paths.root / "foreign.netns"
    mounts.make_namespace(foreign)
    call = {"CNI_CONTAINERID": "f" * 64, "CNI_NETNS": str(foreign), "CNI_IFNAME": "eth0", "CNI_ARGS": ""}
    try:
        lab.kube_fault(outage={"mode": "refuse"})
        assert ask([lab.place("a"), lab.place("b")]).missing == ()
        result = await runtime.add(config, call)
        assert result["ips"]
        await runtime.status(config)
        await runtime.delete(config, call, result)
    finally:
        lab.kube_fault(clear=True)
        mounts.drop_namespace(foreign)
    await lab.run({"after": BIG})


async def test_a_rebooted_node_without_instance_metadata_waits_with_its_reason_and_then_serves(lab: LabDriver) -> None:
    node = lab.node(THIRD)
    lab.ec2.set_metadata_fault(node.instance_id, absent=True)
    log = lab.lab.paths.log(f"agent/{THIRD}")
    length = log.stat().st_size
    reboot_node(lab.lab, node)

    def waits() -> bool:
        return "MetadataUnavailable" in log.read_bytes()[length:].decode()

    await until(waits, what="the agent says MetadataUnavailable")
    lab.ec2.set_metadata_fault(node.instance_id)
    (sandbox,) = await lab.run({"again": THIRD})
    assert sandbox.addresses[0] in {address for eni in lab.enis(THIRD) for address in eni["addresses"][1:]}
    await until(lambda: lab.node_ready(THIRD), what="the node is ready")
    assert ask([lab.place("again")], targets=[lab.node_place(BIG)]).missing == ()


async def test_a_node_whose_provider_id_names_another_instance_is_left_alone_and_says_why(lab: LabDriver) -> None:
    async with lab.kube() as kube:
        before = len(lab.enis(THIRD))
        await kube.delete(NODE, THIRD)
        wrong = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": THIRD, "labels": {"kubernetes.io/hostname": THIRD}},
            "spec": {"providerID": "aws:///us-west-2a/i-0123456789abcdef0"},
        }
        await kube.create(NODE, wrong)
        try:
            await until(lambda: _says(lab, THIRD, "InstanceMismatch"), what="InstanceMismatch in the conditions")
            told = lab.enitide("status")
            assert told.returncode == 1
            assert "InstanceMismatch" in told.stdout
            assert len(lab.enis(THIRD)) == before
        finally:
            await kube.delete(NODE, THIRD)
        await until(lambda: lab.node_ready(THIRD), 30.0, "the node is registered again")
        with pytest.raises(KubeNotFound):
            await kube.get(NODE, "node-9")
    await until(lambda: _lacks(lab, THIRD, "InstanceMismatch"), 30.0, "InstanceMismatch has gone")


async def test_pods_without_an_address_wait_with_a_reason_that_status_shows(lab: LabDriver) -> None:
    subnet = lab.enis(SMALL)[0]["subnet_id"]
    lab.ec2.set_room(subnet, 0, 0)
    names = [f"thirsty-{n}" for n in range(14)]
    async with lab.kube() as kube:
        await create(kube, [pod(name, node=SMALL) for name in names])
        await until(lambda: _says(lab, SMALL, "SubnetExhausted"), 30.0, "SubnetExhausted in the conditions")
        told = json.loads(lab.enitide("status", "-o", "json").stdout)
        assert "SubnetExhausted" in json.dumps(told)
    lab.ec2.set_room(subnet, 1000)


async def test_a_foreign_client_gets_all_it_needs_from_lab_env_and_exec(lab: LabDriver) -> None:
    name = lab.lab.paths.name
    told = lab.enitide("lab", "env", "--name", name, BIG, "-o", "json")
    assert set(json.loads(told.stdout)) == {
        "NETCONFPATH",
        "CNI_PATH",
        "ENITIDE_NETWORK",
        "ENITIDE_NETNS",
        "ENITIDE_SOCKET",
        "KUBECONFIG",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
    }
    listing = ["node", "list", "--kubeconfig", json.loads(told.stdout)["KUBECONFIG"]]
    program = str(Path(sys.executable).parent / "enitide")
    inside = lab.enitide("lab", "exec", "--name", name, BIG, "--", program, *listing)
    assert BIG in inside.stdout
    assert BIG in lab.enitide(*listing).stdout
    (sandbox,) = await lab.run({"guest": BIG})
    shown = lab.enitide("lab", "exec", "--name", name, "default/guest", "--", "ip", "-j", "addr", "show", "eth0")
    (device,) = msgspec.json.decode(shown.stdout)
    assert sandbox.addresses[0] in {each["local"] for each in device["addr_info"]}
    assert lab.enitide("lab", "exec", "--name", name, BIG, "--", "sh", "-c", "exit 7").returncode == 7
    assert lab.enitide("lab", "exec", "--name", name, "nobody", "--", "true").returncode == 2
    assert lab.enitide("lab", "status", "--name", name).returncode == 0


async def _says(lab: LabDriver, node: str, reason: str) -> bool:
    return reason in await lab.reasons(node)


async def _lacks(lab: LabDriver, node: str, reason: str) -> bool:
    return reason not in await lab.reasons(node)
