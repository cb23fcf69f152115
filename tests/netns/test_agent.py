"""A real agent, the real plugin and real packets: the life of pods on one node, in both families."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.agent_node import (
    NODE_NAME,
    PLUGIN,
    PRIMARY_MAC,
    SECOND_MAC,
    AgentNode,
    agent_node,
    interface,
    until,
)

pytestmark = [
    pytest.mark.netns,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not PLUGIN.is_file(), reason="the CNI plugin is not built (make -C enidp/cni)"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AgentNode]:
    """A node with two ENIs, an agent, and addresses on both; one for all tests that leave it as it was."""
    async with agent_node(tmp_path_factory.mktemp("shared") / "node", "s") as made:
        made.add_eni("eth1", SECOND_MAC, 1)
        made.start()
        await made.registered()
        await made.publish(interface(0, PRIMARY_MAC, first=20, count=3), interface(1, SECOND_MAC, first=20, count=180))
        await made.ready()
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def node(shared: AgentNode) -> AsyncIterator[AgentNode]:
    """The shared node without pods."""
    yield shared
    await shared.clear()


def addresses(body: dict) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in body["ips"]]


async def add(node: AgentNode, container: str) -> tuple[str, list[str]]:
    """A wired container: its namespace path and addresses."""
    path = node.pod_netns()
    answer = await node.cni("ADD", container, path)
    assert answer.code == 0, answer
    return path, addresses(answer.body)


def ping(node: AgentNode, path: str, target: str, *options: str) -> bool:
    out = node.inside(Path(path).name, "ping", "-c1", "-W1", *options, target, check=False)
    return " 0% packet loss" in out


async def waits_for(node: AgentNode, reason: str) -> bool:
    try:
        return reason in [wait["reason"] for wait in (await node.get("/v1/status"))["waits"]]
    except OSError:
        return False


async def states(node: AgentNode) -> dict[str, str]:
    return {row["address"]: row["state"] for row in (await node.get("/v1/addresses"))["addresses"]}


async def test_pods_reach_each_other_their_node_and_the_gateway_in_both_families(node: AgentNode) -> None:
    first, own = await add(node, "c1")
    _, others = await add(node, "c2")
    assert len(own) == len(others) == 2
    for target in (*others, "10.0.0.10", "10.0.0.1"):
        assert ping(node, first, target), target
    # the ENI's own link-local address is still being checked for duplicates when the node is some seconds old
    await until(lambda: ping(node, first, "2600:db8::1"), "the gateway answers over IPv6")
    assert ping(node, first, others[0], "-M", "do", "-s", str(9001 - 28)), "a full-MTU packet must pass whole"


async def test_a_packet_with_a_foreign_source_is_dropped_and_counted(node: AgentNode) -> None:
    path, _ = await add(node, "c1")
    _, others = await add(node, "c2")
    node.inside(Path(path).name, "ip", "address", "add", "10.0.99.99/32", "dev", "eth0")
    assert not ping(node, path, others[0], "-I", "10.0.99.99")
    drops = {row["reason"]: row["packets"] for row in (await node.get("/v1/drops"))["drops"]}
    assert drops["SpoofedSource"] >= 1
    assert ping(node, path, others[0])


async def test_packets_of_a_pod_leave_by_the_eni_of_its_address(node: AgentNode) -> None:
    for index in range(3):
        await add(node, f"filler{index}")
    path, own = await add(node, "c1")
    assert own[0].startswith("10.0.1."), "the fullest ENI first: the primary's three are taken"

    def heard() -> int:
        text = node.inside(node.fabric, "cat", "/proc/net/dev")
        return next(int(line.split()[2]) for line in text.splitlines() if line.strip().startswith("port1:"))

    before = heard()
    assert ping(node, path, "10.0.0.1", "-c5", "-i0.1")
    assert heard() >= before + 5


async def test_add_again_gives_the_same_answer_and_check_finds_what_is_missing(node: AgentNode) -> None:
    path, own = await add(node, "c1")
    again = await node.cni("ADD", "c1", path)
    assert addresses(again.body) == own
    prev = {"prevResult": again.body}
    assert (await node.cni("CHECK", "c1", path, config=prev)).code == 0
    node.inside(Path(path).name, "ip", "route", "del", "default")
    refused = await node.cni("CHECK", "c1", path, config=prev)
    assert refused.code == 1
    assert "default route" in refused.body["msg"]


async def test_an_add_that_finds_its_network_damaged_makes_it_whole(node: AgentNode) -> None:
    path, own = await add(node, "c1")
    node.inside(Path(path).name, "ip", "route", "flush", "dev", "eth0")
    again = await node.cni("ADD", "c1", path)
    assert addresses(again.body) == own
    assert ping(node, path, "10.0.0.10")


async def test_an_add_that_cannot_be_finished_leaves_nothing_half_done(node: AgentNode) -> None:
    path = node.pod_netns()
    node.inside(Path(path).name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    refused = await node.cni("ADD", "c1", path)
    assert refused.body["code"] == 11
    assert "another network made it" in refused.body["msg"]
    assert "etd" not in node.ip("link")
    assert set((await states(node)).values()) <= {"free", "cooling"}
    node.inside(Path(path).name, "ip", "link", "del", "eth0")
    assert (await node.cni("ADD", "c1", path)).code == 0, "the runtime may try again"


async def test_del_is_idempotent_cools_the_address_and_refuses_a_late_add(node: AgentNode) -> None:
    path, own = await add(node, "c1")
    for netns in (path, path, ""):
        assert (await node.cni("DEL", "c1", netns)).code == 0
    assert (await node.cni("DEL", "never-seen")).code == 0
    assert (await states(node))[own[0]] == "cooling"
    late = await node.cni("ADD", "c1", path)
    assert late.code == 1
    assert late.body["msg"].startswith("PodDeleted")
    assert (await node.get("/v1/endpoints"))["endpoints"] == []
    await until(lambda: "etd" not in node.ip("link"), "the veth gone")


async def test_gc_releases_what_is_not_listed(node: AgentNode) -> None:
    await add(node, "keep")
    _, gone = await add(node, "drop")
    listed = {"cni.dev/valid-attachments": [{"containerID": node.container_id("keep"), "ifname": "eth0"}]}
    assert (await node.cni("GC", config=listed)).code == 0
    assert [row["containerID"] for row in (await node.get("/v1/endpoints"))["endpoints"]] == [node.container_id("keep")]
    assert (await states(node))[gone[0]] == "cooling"
    assert (await node.cni("GC")).body["code"] == 7, "without the list nothing may be released"


async def test_bad_calls_get_the_specifications_codes(node: AgentNode) -> None:
    path = node.pod_netns()
    regular = node.folder / "file"
    regular.write_text("")
    cases = [
        (await node.cni("ADD", "c1", path, config=b"{"), 6, "JSON"),
        (await node.cni("ADD", "c1", path, config=b""), 6, "JSON"),
        (await node.cni("ADD", "c1", path, config={"cniVersion": "9.9.9"}), 1, "cniVersion"),
        (await node.cni("ADD", "c1", path, config={"name": ""}), 7, "name"),
        (await node.cni("ADD", "c1", path, config={"name": 7}), 7, "name"),
        (await node.cni("ADD", "c1", "/no/such/namespace"), 4, "CNI_NETNS"),
        (await node.cni("ADD", "c1", str(regular)), 4, "CNI_NETNS"),
        (await node.cni("ADD", "c1", f"/run/netns/{node.netns}"), 4, "own network namespace"),
        (await node.cni("ADD", "c1", ""), 4, "CNI_NETNS"),
        (await node.cni("ADD", "-c1", path), 4, "CNI_CONTAINERID"),
        (await node.cni("ADD", "c1", path, ifname="much-too-long-a-name"), 4, "CNI_IFNAME"),
        (await node.cni("BAKE"), 4, "CNI_COMMAND"),
    ]
    for answer, code, text in cases:
        assert answer.code == 1
        assert answer.body["code"] == code, answer
        assert text in answer.body["msg"], answer
    assert set((await states(node)).values()) <= {"free", "cooling"}, "no refused call holds an address"


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
async def test_a_result_has_the_version_of_its_request(node: AgentNode, version: str) -> None:
    answer = await node.cni("ADD", "c1", node.pod_netns(), config={"cniVersion": version})
    assert answer.body["cniVersion"] == version
    assert ("version" in answer.body["ips"][0]) == version.startswith("0.")


async def test_an_address_is_reserved_when_the_pod_is_bound_and_taken_by_its_add(node: AgentNode) -> None:
    uid = await node.bind_pod("web-0")

    async def reserved_one() -> str:
        return next((address for address, state in (await states(node)).items() if state == "reserved"), "")

    reserved = await until(reserved_one, "an address reserved")
    answer = await node.cni("ADD", "c1", node.pod_netns(), pod=("default", "web-0", uid))
    assert addresses(answer.body)[0] == reserved
    rows = (await node.get("/v1/addresses"))["addresses"]
    assert [row["owner"] for row in rows if row["state"] == "in-use"] == ["default/web-0"]


async def test_demand_of_waiting_pods_is_reported_and_an_add_ends_when_addresses_come(tmp_path: Path) -> None:
    async with agent_node(tmp_path / "node") as node:
        node.start()
        await node.registered()
        await node.publish(interface(0, PRIMARY_MAC, first=20, count=1))
        await node.ready()
        await add(node, "c1")
        waiting = asyncio.ensure_future(node.cni("ADD", "c2", node.pod_netns()))

        async def demanded() -> bool:
            found = await node.eninode()
            return found is not None and found.spec.demand.waiting == 1

        await until(demanded, "the waiting pod reported")
        assert not waiting.done()
        await node.publish(interface(0, PRIMARY_MAC, first=20, count=5))
        assert (await waiting).code == 0


async def test_an_add_without_an_address_ends_with_the_nodes_reason(tmp_path: Path) -> None:
    from enitide_api.resources import Condition

    async with agent_node(tmp_path / "node") as node:
        node.start("--add-wait", "300ms")
        await node.registered()
        await node.publish(interface(0, PRIMARY_MAC, first=20, count=1))
        await node.ready()
        await add(node, "c1")
        full = Condition(
            type="Ready",
            status="False",
            reason="SubnetExhausted",
            message="subnet-a is full",
            last_transition_time="2026-01-01T00:00:00Z",
        )
        await node.publish(interface(0, PRIMARY_MAC, first=20, count=1), conditions=(full,))
        refused = await node.cni("ADD", "c2", node.pod_netns())
        assert refused.body["code"] == 11
        assert refused.body["msg"] == "SubnetExhausted: subnet-a is full"
        assert (await node.cni("STATUS", config={"cniVersion": "1.1.0"})).code == 0, "a full node is a ready node"


async def test_an_eni_that_appears_late_is_configured_and_used(tmp_path: Path) -> None:
    async with agent_node(tmp_path / "node") as node:
        node.start()
        await node.registered()
        await node.publish(interface(1, SECOND_MAC, first=20, count=5))

        await until(lambda: waits_for(node, "InterfaceAbsent"), "the absent ENI told")
        assert not (node.conf_dir / "05-enitide.conflist").exists()
        node.add_eni("eth1", SECOND_MAC, 1)
        await node.ready()
        link = node.ip("link", "show", "eth1")
        assert "mtu 9001" in link
        assert ",UP" in link
        await add(node, "c1")


async def test_what_the_system_configures_on_a_secondary_eni_is_undone_and_told(node: AgentNode) -> None:
    node.ip("address", "add", "10.0.0.11/16", "dev", "eth1")
    node.ip("route", "add", "default", "via", "10.0.0.1", "dev", "eth1", "metric", "5", "onlink")

    def undone() -> bool:
        main, own = node.ip("route", "show", "default"), node.ip("address", "show", "eth1")
        return "eth1" not in main and "10.0.0.11/16" not in own and "10.0.0.11/32" in own

    await until(undone, "foreign configuration undone")
    assert "dev eth0" in node.ip("route", "show", "default"), "the primary ENI is the system's"
    assert any("default" in what for what in (await node.get("/v1/status"))["undone"])


async def test_a_strict_rp_filter_on_an_eni_is_loosened_again(node: AgentNode) -> None:
    for device in ("eth0", "eth1"):
        name = f"/proc/sys/net/ipv4/conf/{device}/rp_filter"
        node.inside(node.netns, "sysctl", "-qw", f"net.ipv4.conf.{device}.rp_filter=1")
        await until(lambda name=name: node.inside(node.netns, "cat", name).strip() == "2", f"{name} is 2 again")


async def test_rules_that_someone_flushes_come_back(node: AgentNode) -> None:
    path, _ = await add(node, "c1")
    node.ip("rule", "flush")
    node.ip("rule", "add", "priority", "32766", "lookup", "main")
    node.ip("route", "flush", "table", "25600")
    await until(lambda: "25602" in node.ip("rule") and "etd" in node.ip("route", "show", "table", "25600"), "rules")
    assert ping(node, path, "10.0.0.10")


async def test_a_hundred_and_ten_pods_at_once_all_get_their_own_address(node: AgentNode) -> None:
    paths = [node.pod_netns() for _ in range(110)]
    answers = await asyncio.gather(*(node.cni("ADD", f"c{i}", path) for i, path in enumerate(paths)))
    assert [answer for answer in answers if answer.code] == []
    assert len({addresses(answer.body)[0] for answer in answers}) == 110
    await asyncio.gather(*(node.cni("DEL", f"c{i}", path) for i, path in enumerate(paths)))
    await until(lambda: "etd" not in node.ip("link"), "all veths gone")
    assert (await node.get("/v1/endpoints"))["endpoints"] == []


async def test_a_node_that_is_another_instance_publishes_nothing_and_says_so(tmp_path: Path) -> None:
    async with agent_node(tmp_path / "node") as node:
        node.instance = "i-0fffffffffffffff0"
        node.start()

        await until(lambda: waits_for(node, "InstanceMismatch"), "the mismatch told")
        assert await node.eninode() is None


async def test_without_metadata_the_agent_waits_with_its_reason_and_goes_on_when_it_comes(tmp_path: Path) -> None:
    async with agent_node(tmp_path / "node") as node:
        node.metadata_up = False
        node.start("--add-wait", "100ms")
        await until((node.run_dir / "agent.sock").exists, "socket")
        refused = await node.cni("ADD", "c1", node.pod_netns())
        assert refused.body["code"] == 11
        assert refused.body["msg"].startswith("MetadataUnavailable")
        assert (await node.cni("DEL", "c1")).code == 0, "a pod can always be removed"
        assert [path.name for path in (node.run_dir / "spool").iterdir()] == ["c1@eth0"]
        node.metadata_up = True
        found = await node.registered()
        assert found.metadata.name == NODE_NAME
        await until(lambda: not list((node.run_dir / "spool").iterdir()), "the queued DEL done")


async def test_a_foreign_manager_keeps_the_agent_from_starting(tmp_path: Path) -> None:
    async with agent_node(tmp_path / "node") as node:
        node.conf_dir.mkdir(parents=True)
        config = {"cniVersion": "0.4.0", "name": "aws-cni", "plugins": [{"type": "aws-cni"}]}
        (node.conf_dir / "10-aws.conflist").write_text(json.dumps(config))
        node.start()
        assert node.process is not None
        await until(lambda: node.process is not None and node.process.poll() is not None, "the agent's end")
        assert node.process.returncode == 1
        assert "ForeignManager" in node.log()
        assert not node.run_dir.exists()


async def test_without_ipv6_on_the_eni_the_pod_has_none_and_sends_none(tmp_path: Path) -> None:
    async with agent_node(tmp_path / "node") as node:
        node.start("--mtu", "1400")
        await node.registered()
        await node.publish(interface(0, PRIMARY_MAC, first=20, count=2, ipv6=False))
        await node.ready()
        path, own = await add(node, "c1")
        assert own == ["10.0.0.20"]
        assert ping(node, path, "10.0.0.1")
        shown = node.inside(Path(path).name, "ip", "address", "show", "eth0")
        assert "inet6" not in shown
        assert "mtu 1400" in shown
        assert node.ip("-6", "rule").count("25600") == 0


async def test_metrics_and_health_are_answered_on_the_tcp_address_and_nothing_else_is(node: AgentNode) -> None:
    await add(node, "c1")

    def fetch(path: str) -> str:
        script = (
            "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 9809); c.request('GET', sys.argv[1]);"
            "r = c.getresponse(); print(r.read().decode() + str(r.status), end='')"
        )
        return node.inside(node.netns, sys.executable, "-c", script, path)

    metrics = fetch("/metrics")
    assert metrics.endswith("200")
    assert 'enitide_cni_calls_total{code="0",command="ADD"}' in metrics
    assert "enitide_endpoints 1.0" in metrics
    assert 'enitide_addresses{state="in-use"} 1.0' in metrics
    assert fetch("/healthz") == "ok\n200"
    assert fetch("/v1/addresses").endswith("404")


async def test_with_forwarding_by_the_stack_the_mark_takes_a_pods_packets_to_its_eni(tmp_path: Path) -> None:
    async with agent_node(tmp_path / "node") as node:
        node.add_eni("eth1", SECOND_MAC, 1)
        node.start("--forwarding", "stack")
        await node.registered()
        await node.publish(interface(1, SECOND_MAC, first=20, count=2))
        await node.ready()
        path, _ = await add(node, "c1")

        def heard() -> int:
            text = node.inside(node.fabric, "cat", "/proc/net/dev")
            return next(int(line.split()[2]) for line in text.splitlines() if line.strip().startswith("port1:"))

        before = heard()
        assert ping(node, path, "10.0.0.1", "-c5", "-i0.1")
        assert heard() >= before + 5
