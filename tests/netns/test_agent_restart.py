"""Crashes of agent and plugin at any moment: no address lost, doubled or leaked, no packet missed, no failed STATUS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.agent_node import PLUGIN, PRIMARY_MAC, SECOND_MAC, AgentNode, agent_node, interface, until

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not PLUGIN.is_file(), reason="the CNI plugin is not built (make -C enidp/cni)"),
]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[AgentNode]:
    """A node with addresses and a running agent that the test may kill."""
    async with agent_node(tmp_path / "node", "r") as made:
        made.add_eni("eth1", SECOND_MAC, 1)
        made.start()
        await made.registered()
        await made.publish(interface(0, PRIMARY_MAC, first=20, count=40), interface(1, SECOND_MAC, first=20, count=40))
        await made.ready()
        yield made


async def add(node: AgentNode, container: str) -> tuple[str, str]:
    path = node.pod_netns()
    answer = await node.cni("ADD", container, path)
    assert answer.code == 0, answer
    return path, answer.body["ips"][0]["address"].partition("/")[0]


async def rows(node: AgentNode) -> dict[str, dict]:
    return {row["address"]: row for row in (await node.get("/v1/addresses"))["addresses"]}


async def consistent(node: AgentNode, alive: dict[str, str]) -> None:
    """Pool, endpoints, devices and routes speak of exactly the containers in `alive` (container -> address)."""
    endpoints = {row["containerID"]: row["addresses"][0] for row in (await node.get("/v1/endpoints"))["endpoints"]}
    assert endpoints == alive
    held = {row["containerID"]: address for address, row in (await rows(node)).items() if row["containerID"]}
    assert held == alive

    def settled() -> bool:
        devices = [line for line in node.ip("-o", "link").splitlines() if "etd" in line]
        routes = node.inside(node.netns, "ip", "route", "show", "table", "25600", check=False).split()
        return len(devices) == len(alive) and set(alive.values()) == {word for word in routes if word.startswith("10.")}

    await until(settled, "devices and routes of live containers alone")


async def test_packets_flow_while_the_agent_is_dead_and_a_new_one_adopts_its_pods(node: AgentNode) -> None:
    first, one = await add(node, "c1")
    _, other = await add(node, "c2")
    with subprocess.Popen(  # noqa: ASYNC220 - it only starts it
        ["nsenter", f"--net={first}", "ping", "-i0.02", "-W1", "-c120", other], stdout=subprocess.PIPE, text=True
    ) as ping:
        node.kill()
        node.start()
        await node.restored()
        out = await asyncio.to_thread(ping.communicate)
    assert " 0% packet loss" in out[0], out[0]
    await consistent(node, {"c1": one, "c2": other})
    assert (await node.cni("CHECK", "c1", first)).code == 0
    assert (await node.cni("DEL", "c1", first)).code == 0
    await consistent(node, {"c2": other})


async def test_a_del_without_an_agent_is_queued_and_done_by_the_next_one(node: AgentNode) -> None:
    path, one = await add(node, "c1")
    _, other = await add(node, "c2")
    node.kill()
    assert (await node.cni("DEL", "c1", path)).code == 0
    assert (await node.cni("DEL", "c1", "")).code == 0, "runtimes repeat it"
    refused = await node.cni("ADD", "c3", node.pod_netns())
    assert refused.body["code"] == 11
    assert refused.body["msg"].startswith("AgentUnreachable")
    node.start()
    await node.restored()
    await consistent(node, {"c2": other})
    assert (await rows(node))[one]["state"] in ("cooling", "free")
    assert list((node.run_dir / "spool").iterdir()) == []


async def test_a_status_call_every_moment_never_fails_through_restarts(node: AgentNode) -> None:
    done = asyncio.Event()
    codes: list[int] = []

    async def poll() -> None:
        while not done.is_set():
            codes.append((await node.cni("STATUS", config={"cniVersion": "1.1.0"})).code)
            await asyncio.sleep(0.02)

    polling = asyncio.ensure_future(poll())
    for _ in range(2):
        node.start()
        await node.restored()
    done.set()
    await polling
    assert len(codes) > 20
    assert set(codes) == {0}


async def test_a_crash_at_any_moment_of_adds_and_dels_loses_and_doubles_nothing(node: AgentNode) -> None:
    """Kill the agent at spread moments of a storm; answered ADDs live on, all else is undone or still to be deleted."""
    alive: dict[str, tuple[str, str]] = {}
    for turn, delay_s in enumerate((0.005, 0.02, 0.05)):
        paths = {f"c{turn}-{i}": node.pod_netns() for i in range(8)}
        calls = {name: asyncio.ensure_future(node.cni("ADD", name, path)) for name, path in paths.items()}
        dels = [asyncio.ensure_future(node.cni("DEL", name, path)) for name, (path, _) in alive.items()]
        await asyncio.sleep(delay_s)
        node.kill()
        gone = [answer.code for answer in await asyncio.gather(*dels)]
        assert set(gone) <= {0}, "a DEL never fails"
        alive.clear()
        for name, call in calls.items():
            answer = await call
            if answer.code == 0:
                alive[name] = (paths[name], answer.body["ips"][0]["address"].partition("/")[0])
            else:
                assert answer.body["code"] == 11, answer
        node.start()
        await node.restored()
        for name in paths.keys() - alive.keys():
            assert (await node.cni("DEL", name, paths[name])).code == 0, "what a runtime does after a failed ADD"
        await consistent(node, {name: address for name, (_, address) in alive.items()})


async def test_a_plugin_killed_in_the_middle_leaves_a_pod_that_its_del_removes(node: AgentNode) -> None:
    path = node.pod_netns()
    environment = {
        "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_NETNS": path, "CNI_IFNAME": "eth0",
        "ENITIDE_SOCKET": str(node.run_dir / "agent.sock"),
    }  # fmt: skip
    with subprocess.Popen([PLUGIN], env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as plugin:  # noqa: ASYNC220
        assert plugin.stdin is not None
        plugin.stdin.write(b'{"cniVersion":"1.0.0","name":"enitide"}')
        plugin.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            plugin.send_signal(signal.SIGKILL)
    assert (await node.cni("DEL", "c1", path)).code == 0
    late = await node.cni("ADD", "c1", path)
    assert late.code == 1
    await consistent(node, {})


async def test_an_add_that_was_never_answered_is_undone_at_the_next_start(node: AgentNode) -> None:
    """The journal says reserved, a veth is half made, and nobody was told: what a kill inside ADD leaves."""
    from enitide_enidp.journal import line_of
    from enitide_enidp.netlink.numbers import host_name
    from enitide_ipam.records import Held, PodRef

    _, one = await add(node, "c1")
    node.kill()
    half = Held("10.0.0.59", "eni-0", "", "dead/eth0", PodRef(), confirmed=False, since=1.0)
    with (node.run_dir / "journal").open("ab") as journal:
        journal.write(line_of(half))
        journal.write(line_of(half)[:20])
    node.ip("link", "add", host_name("dead/eth0"), "type", "veth", "peer", "name", "peer0")
    node.start()
    await node.restored()
    assert "torn" in node.log()
    await consistent(node, {"c1": one})
    assert (await rows(node))["10.0.0.59"]["state"] in ("cooling", "free")


async def test_a_container_whose_namespace_vanished_gives_its_address_back(node: AgentNode) -> None:
    await add(node, "c1")
    _, other = await add(node, "c2")
    node.kill()
    node.ip("netns", "del", node.pods[0], raw=True)
    await until(lambda: node.ip("-o", "link").count("etd") == 1, "the veth went with its namespace")
    node.start()
    await node.restored()
    await consistent(node, {"c2": other})


async def test_with_the_api_server_away_a_restarted_agent_serves_by_its_journal(node: AgentNode) -> None:
    _, one = await add(node, "c1")
    node.kill()
    broken = node.folder / "broken"
    broken.write_text(node.kubeconfig.read_text().replace("127.0.0.1:", "127.0.0.1:1"[:-1] + "9"))
    node.start("--kubeconfig", str(broken))
    await node.restored()
    path, two = await add(node, "c2")
    assert two != one
    await consistent(node, {"c1": one, "c2": two})
    assert (await node.cni("CHECK", "c2", path)).code == 0


async def test_a_reboot_leaves_nothing_behind_and_takes_the_old_conflist_away(node: AgentNode) -> None:
    await add(node, "c1")
    node.kill()
    conflist = node.conf_dir / "05-enitide.conflist"
    conflist.write_text(conflist.read_text().replace('bootID": "', 'bootID": "0'))
    for leftover in ("journal", "alive", "interfaces.json", "instance.json"):
        (node.run_dir / leftover).unlink(missing_ok=True)
    node.metadata_up = False
    node.start()
    await until(lambda: not conflist.exists(), "the conflist of an earlier boot removed")
    node.metadata_up = True
    await node.ready()
    await consistent(node, {})


async def test_the_conflist_stays_when_the_agent_stops(node: AgentNode) -> None:
    assert node.process is not None
    node.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(node.process.wait, 10) == 0
    assert (node.conf_dir / "05-enitide.conflist").exists()
