"""Policy on a real node: pods, kernel and agent are real, the operator's directory runs beside the API server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.agent_node import NODE_NAME, PLUGIN, PRIMARY_MAC, AgentNode, agent_node, interface, until
from support.datapath.former import to_schema_2
from support.directory_sim import Operator

from enitide_enidp.datapath import loader
from enitide_kube.port import EVENT, NAMESPACE, NETWORKPOLICY, POD

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not PLUGIN.is_file(), reason="the CNI plugin is not built (make -C enidp/cni)"),
]

SERVE = """
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("0.0.0.0", 80)); s.listen(64)
print("up", flush=True)
while True:
    c, _ = s.accept(); c.sendall(b"hello"); c.close()
"""
CONNECT = """
import socket, sys
s = socket.socket(); s.settimeout(float(sys.argv[2]))
try:
    s.connect((sys.argv[1], 80)); print(s.recv(5).decode())
except OSError as error:
    print("no:", error)
"""


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[AgentNode]:
    async with agent_node(tmp_path / "node", "q") as made:
        made.policy = "enforce"
        await made.kube.create(NAMESPACE, {"metadata": {"name": "d"}})
        made.start()
        await made.registered()
        await made.publish(interface(0, PRIMARY_MAC, first=20, count=40))
        await made.ready()
        yield made


@pytest.fixture
async def operator(node: AgentNode) -> AsyncIterator[Operator]:
    made = Operator(SimpleNamespace(store=node.server.store, unix=time.time), identity_labels=["app"])
    await made.lead()
    yield made
    made.stop()


class Pods:
    """Pods of the node, by their label app."""

    def __init__(self, node: AgentNode) -> None:
        self.node = node
        self.path: dict[str, str] = {}
        self.address: dict[str, str] = {}

    async def make(self, app: str) -> Any:
        """Create, bind and ADD; the plugin's answer."""
        spec = {"nodeName": NODE_NAME, "containers": [{"name": "c", "image": "i"}]}
        meta = {"name": app, "namespace": "d", "labels": {"app": app}}
        raw = await self.node.kube.create(POD, {"metadata": meta, "spec": spec}, namespace="d")
        uid = json.loads(raw)["metadata"]["uid"]
        path = self.node.pod_netns()
        answer = await self.node.cni("ADD", f"c-{app}", path, pod=("d", app, uid))
        if answer.code == 0:
            self.path[app], self.address[app] = path, answer.body["ips"][0]["address"].partition("/")[0]
        return answer

    def start(self, app: str, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["nsenter", f"--net={self.path[app]}", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def reaches(self, source: str, target: str, timeout_s: float = 0.5) -> bool:
        with self.start(source, "python3", "-c", CONNECT, self.address[target], str(timeout_s)) as done:
            out, _ = await asyncio.to_thread(done.communicate)
        return out.startswith("hello")


async def allow(node: AgentNode, target: str, *sources: str) -> None:
    """Pods `target` take traffic from these alone."""
    peers = [{"podSelector": {"matchLabels": {"app": source}}} for source in sources]
    ingress = [{"from": peers}] if peers else []
    spec = {"podSelector": {"matchLabels": {"app": target}}, "policyTypes": ["Ingress"], "ingress": ingress}
    body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": target}, "spec": spec}
    await node.kube.create(NETWORKPOLICY, body, namespace="d")


async def eventually(check: Any, what: str) -> None:
    for _ in range(50):
        if await check():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"never: {what}")


async def test_a_network_policy_holds_between_pods_from_their_first_packet_on(
    node: AgentNode, operator: Operator
) -> None:
    await allow(node, "db", "web")
    pods = Pods(node)
    for app in ("db", "web", "evil"):
        answer = await pods.make(app)
        assert answer.code == 0, answer
    with pods.start("db", "python3", "-c", SERVE) as server:
        try:
            assert server.stdout is not None
            assert await asyncio.to_thread(server.stdout.readline) == "up\n"
            assert await pods.reaches("web", "db", 3)
            # a kubelet's probe: the pod's own node is always let in
            probe = node.inside(node.netns, "python3", "-c", CONNECT, pods.address["db"], "3")
            assert probe.startswith("hello"), probe
            assert not await pods.reaches("evil", "db")
        finally:
            server.kill()
    shown = {row["owner"]: row for row in (await node.get("/v1/endpoints"))["endpoints"]}
    db = shown["d/db"]
    assert (db["state"], db["labels"]) == ("enforced", ["namespace=d", "app=db"])
    (web,) = (row["id"] for row in (await node.get("/v1/identities"))["identities"] if "app=web" in row["labels"])
    assert web == shown["d/web"]["identity"]
    (policy,) = (await node.get("/v1/policies"))["policies"]
    assert policy["selects"] == [f"{db['containerID']}/eth0"]
    selectors = (await node.get("/v1/selectors"))["selectors"]
    assert [web] in [row["identities"] for row in selectors]


async def test_a_policy_that_comes_later_cuts_what_flows_and_lets_it_flow_again_when_it_goes(
    node: AgentNode, operator: Operator
) -> None:
    pods = Pods(node)
    for app in ("db", "web"):
        assert (await pods.make(app)).code == 0
    with pods.start("db", "python3", "-c", SERVE) as server:
        try:
            assert server.stdout is not None
            await asyncio.to_thread(server.stdout.readline)
            await eventually(lambda: pods.reaches("web", "db"), "open without a policy")
            await allow(node, "db")

            async def closed() -> bool:
                return not await pods.reaches("web", "db", 0.2)

            await eventually(closed, "closed by the policy")
            await node.kube.delete(NETWORKPOLICY, "db", namespace="d")
            await eventually(lambda: pods.reaches("web", "db"), "open again")
        finally:
            server.kill()


@asynccontextmanager
async def pinged(node: AgentNode) -> AsyncIterator[None]:
    """Meanwhile an allowed pod, all of whose pings must be answered, and a forbidden one, none of whose."""
    await allow(node, "db", "web")
    pods = Pods(node)
    for app in ("db", "web", "evil"):
        assert (await pods.make(app)).code == 0
    target = pods.address["db"]
    with (
        pods.start("web", "ping", "-i0.01", "-W1", "-c300", target) as good,
        pods.start("evil", "ping", "-i0.01", "-W1", "-c300", target) as bad,
    ):
        yield
        allowed, forbidden = await asyncio.gather(
            asyncio.to_thread(good.communicate), asyncio.to_thread(bad.communicate)
        )
    assert " 0% packet loss" in allowed[0], allowed[0]
    assert " 100% packet loss" in forbidden[0], forbidden[0]


async def test_a_restart_under_traffic_drops_nothing_that_is_allowed_and_opens_nothing(
    node: AgentNode, operator: Operator
) -> None:
    async with pinged(node):
        node.kill()
        node.start()
        await node.restored()
        await until(lambda: "policy in force" in node.log().rpartition("listening")[2], "the first whole reading")


async def test_an_upgrade_to_another_map_layout_under_traffic_drops_nothing_and_opens_nothing(
    node: AgentNode, operator: Operator
) -> None:
    async with pinged(node):
        await asyncio.sleep(0.3)
        node.kill()
        to_schema_2(node.pin_dir)
        node.start()
        await node.restored()
    assert "pins of another schema removed: v2" in node.log()
    assert "ConnectionsNotCarried" not in node.log()


async def test_an_upgrade_from_a_layout_that_is_not_known_is_told_on_the_node(
    node: AgentNode, operator: Operator
) -> None:
    pods = Pods(node)
    assert (await pods.make("web")).code == 0
    node.kill()
    loader.schema_dir(node.pin_dir).rename(node.pin_dir / "v99")
    node.start()
    await node.restored()

    async def told() -> bool:
        page = await node.kube.list(EVENT, limit=500)
        found = [event for event in map(json.loads, page.items) if event["reason"] == "ConnectionsNotCarried"]
        return any("v99" in event["note"] for event in found)

    await eventually(told, "an Event that names the schema")


async def test_a_pod_whose_identity_does_not_come_fails_with_the_reason_and_starts_once_it_is_there(
    node: AgentNode,
) -> None:
    pods = Pods(node)
    answer = await pods.make("db")
    assert answer.code == 1
    assert answer.body["code"] == 11
    assert "SecurityIdentity" in answer.body["msg"], answer.body
    assert answer.took_ms > 4500
    operator = Operator(SimpleNamespace(store=node.server.store, unix=time.time), identity_labels=["app"])
    await operator.lead()
    path = node.pod_netns()
    uid = json.loads(await node.kube.get(POD, "db", namespace="d"))["metadata"]["uid"]
    assert (await node.cni("ADD", "c-db2", path, pod=("d", "db", uid))).code == 0
    operator.stop()
