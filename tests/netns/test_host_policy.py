"""Policy of the node itself, in namespaces: a real agent, peers behind the fabric, connections of before."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.agent_node import NODE_NAME, PLUGIN, PRIMARY_MAC, AgentNode, agent_node, interface, run, until
from support.policy_definitions import definition

from enitide_enidp.datapath.types import AGENT_MARK
from enitide_kube.port import CILIUMCLUSTERWIDENETWORKPOLICY, CRD, NODE

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not PLUGIN.is_file(), reason="the CNI plugin is not built (make -C enidp/cni)"),
]

FRIEND, STRANGER, OWN = "198.51.100.1", "198.51.100.2", "10.0.0.10"
OPEN, SHUT, OUTWARD = 7000, 7001, 9000

SERVE = """
import socket, sys, threading
def serve(port):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port)); s.listen(64)
    kept = []
    while True: kept.append(s.accept())
for port in sys.argv[1:]: threading.Thread(target=serve, args=(int(port),)).start()
print("up", flush=True)
"""
CONNECT = """
import socket, sys, time
source, target, port, many, timeout = sys.argv[1:]
done = 0
for _ in range(int(many)):
    s = socket.socket(); s.settimeout(float(timeout))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((source, 0))
    try: s.connect((target, int(port))); done += 1
    except OSError: pass
    s.close(); time.sleep(0.01)
print(done)
"""
REACH = """
import socket, sys
s = socket.socket(); s.settimeout(0.3)
try: s.connect((sys.argv[1], int(sys.argv[2]))); print("yes")
except OSError: print("no:", sys.argv[2])
"""
TALK = """
import select, socket, sys
kind, source, target, port = sys.argv[1:]
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if kind == "listen":
    s.bind((source, int(port))); s.listen(); print("up", flush=True); s, _ = s.accept()
else:
    s.bind((source, 0)); s.connect((target, int(port)))
print("joined", flush=True)
while True:
    for each in select.select([s, sys.stdin], [], [])[0]:
        if each is s: print(s.recv(99).decode().strip(), flush=True)
        else: s.sendall(sys.stdin.readline().encode())
"""
ONE_PORT = {
    "nodeSelector": {"matchLabels": {"role": "guarded"}},
    "ingress": [
        {"fromCIDR": [f"{FRIEND}/32"], "toPorts": [{"ports": [{"port": str(OPEN), "protocol": "TCP"}]}]},
    ],
}


class Talk:
    """One side of a connection that stays: what is written to it comes out at the other."""

    def __init__(self, netns: str, kind: str, source: str, target: str, port: int) -> None:
        command = ["nsenter", f"--net=/run/netns/{netns}", "python3", "-c", TALK, kind, source, target, str(port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    async def hears(self, word: str, within_s: float = 5.0) -> bool:
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            return (await asyncio.to_thread(self.process.stdout.readline)).strip() == word

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()


class Peers:
    """What is outside: a friend and a stranger in the fabric, servers on the node."""

    def __init__(self, node: AgentNode) -> None:
        self.node = node

    def start(self, source: str, port: int, many: int = 1, timeout_s: float = 0.5) -> subprocess.Popen[str]:
        words = [source, OWN, str(port), str(many), str(timeout_s)]
        return subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.node.fabric}", "python3", "-c", CONNECT, *words],
            stdout=subprocess.PIPE,
            text=True,
        )

    async def reach(self, source: str, port: int, many: int = 1, timeout_s: float = 0.5) -> int:
        """How many of so many connections came about."""
        with self.start(source, port, many, timeout_s) as done:
            out, _ = await asyncio.to_thread(done.communicate)
        return int(out)


@contextmanager
def serving(node: AgentNode) -> Iterator[None]:
    command = ["nsenter", f"--net=/run/netns/{node.netns}", "python3", "-c", SERVE, str(OPEN), str(SHUT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "up\n"
            yield
        finally:
            server.kill()


@contextmanager
def talking(*sides: Talk) -> Iterator[None]:
    try:
        yield
    finally:
        for side in sides:
            with side.process:  # closes its pipes
                side.process.kill()


async def prepared(node: AgentNode, role: str, spec: dict[str, Any] = ONE_PORT) -> None:
    """A node whose Node object has a role, peers outside, and the policy at the API server; no agent yet."""
    for address in (FRIEND, STRANGER):
        run("ip", "-n", node.fabric, "address", "add", f"{address}/32", "dev", "lo")
    await node.kube.create(CRD, definition(CILIUMCLUSTERWIDENETWORKPOLICY))
    await node.kube.patch(NODE, NODE_NAME, {"metadata": {"labels": {"role": role}}})
    body = {"metadata": {"name": "guard"}, "spec": spec}
    body |= {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy"}
    await node.kube.create(CILIUMCLUSTERWIDENETWORKPOLICY, body)
    node.policy = "enforce"
    node.extra = ["--host-policy", "true"]


async def started(node: AgentNode) -> None:
    node.start()
    await node.registered()
    await node.publish(interface(0, PRIMARY_MAC, first=20, count=40))
    await node.ready()


def said(node: AgentNode, state: str) -> bool:
    """Whether the agent that runs now has told this of the node's policy, as the last word."""
    lines = [line for line in node.log().rpartition('"listening"')[2].splitlines() if "policy of the node" in line]
    return bool(lines) and json.loads(lines[-1])["state"] == state


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[AgentNode]:
    async with agent_node(tmp_path / "node", "h") as made:
        await prepared(made, "guarded")
        yield made


async def test_a_node_s_policy_holds_once_connections_are_known_and_survives_the_agent(node: AgentNode) -> None:
    peers = Peers(node)
    outside = Talk(node.fabric, "listen", STRANGER, "", OUTWARD)
    assert await outside.hears("up")
    with serving(node), talking(outside):
        inside = Talk(node.netns, "connect", OWN, STRANGER, OUTWARD)
        with talking(inside):
            assert await inside.hears("joined")
            assert await outside.hears("joined")
            assert await peers.reach(STRANGER, SHUT) == 1, "before any agent"
            await started(node)
            await until(lambda: said(node, "tracked"), "the first whole reading")
            assert await peers.reach(STRANGER, SHUT) == 1, "after the first whole reading all pass for a while"
            status = (await node.get("/v1/status"))["waits"]
            assert [wait["reason"] for wait in status if wait["subject"] == "node policy"] == ["HostPolicyPending"]
            await until(lambda: said(node, "enforced"), "enforcement")

            assert await peers.reach(FRIEND, OPEN) == 1
            assert await peers.reach(FRIEND, SHUT) == 0
            assert await peers.reach(STRANGER, OPEN) == 0
            # The other end of a connection that the node began speaks first, and is no stranger's new one.
            outside.say("still-here")
            assert await inside.hears("still-here")
            inside.say("so-am-I")
            assert await outside.hears("so-am-I")
            sockets = node.inside(node.netns, "ss", "-tneH")
            assert f"fwmark:{AGENT_MARK:#x}" in sockets, "the agent's way to the API server is marked"

            good, bad = peers.start(FRIEND, OPEN, 200, 2), peers.start(STRANGER, SHUT, 40, 0.1)
            with good, bad:
                node.kill()
                assert await peers.reach(STRANGER, SHUT) == 0, "without an agent"
                node.start()
                await node.restored()
                await until(lambda: said(node, "enforced"), "enforced by the next agent")
                allowed, forbidden = await asyncio.gather(
                    asyncio.to_thread(good.communicate), asyncio.to_thread(bad.communicate)
                )
            assert (int(allowed[0]), int(forbidden[0])) == (200, 0)
            assert not any('"tracked"' in line for line in node.log().rpartition('"listening"')[2].splitlines())
            outside.say("again")
            assert await inside.hears("again")

            await node.kube.delete(CILIUMCLUSTERWIDENETWORKPOLICY, "guard")
            await until(lambda: said(node, "none"), "opened")
            assert await peers.reach(STRANGER, SHUT) == 1
            outside.say("for-ever")
            assert await inside.hears("for-ever")


async def test_a_node_that_the_policy_does_not_select_is_left_alone_until_its_labels_say_so(tmp_path: Path) -> None:
    async with agent_node(tmp_path / "other", "i") as other:
        await prepared(other, "free")
        peers = Peers(other)
        with serving(other):
            await started(other)
            await until(lambda: "policy in force" in other.log(), "the first whole reading")
            assert await peers.reach(STRANGER, SHUT) == 1
            (policy,) = (await other.get("/v1/policies"))["policies"]
            assert (policy["selects"], policy["problems"]) == ([], [])
            await other.kube.patch(NODE, NODE_NAME, {"metadata": {"labels": {"role": "guarded"}}})
            await until(lambda: said(other, "enforced"), "the label counts")
            (policy,) = (await other.get("/v1/policies"))["policies"]
            assert policy["selects"] == ["node"]
            assert await peers.reach(STRANGER, SHUT) == 0
            other.extra = []
            other.start()
            await other.restored()
            await until(lambda: "policy in force" in other.log().rpartition('"listening"')[2], "the setting is off")
            assert await peers.reach(STRANGER, SHUT) == 1
            (policy,) = (await other.get("/v1/policies"))["policies"]
            assert [each["reason"] for each in policy["problems"]] == ["PolicyUnsupported"]


async def test_a_node_that_may_say_nothing_still_hears_that_its_policy_has_gone(tmp_path: Path) -> None:
    """Its agent's way to the API server is over the ENI, and new after a restart."""
    async with agent_node(tmp_path / "mute", "m", far=True) as mute:
        await prepared(mute, "guarded", {"nodeSelector": {}, "ingress": [{}], "egress": [{}]})
        peers = Peers(mute)
        with serving(mute):
            await started(mute)
            await until(lambda: said(mute, "enforced"), "enforcement")
            port = mute.api_port
            assert f"no: {port}" in mute.inside(mute.netns, "python3", "-c", REACH, "10.0.0.1", str(port))
            mute.start()
            await mute.restored()
            await until(lambda: said(mute, "enforced"), "read through the policy, by the next agent")
            assert await peers.reach(FRIEND, OPEN) == 0
            await mute.kube.delete(CILIUMCLUSTERWIDENETWORKPOLICY, "guard")
            await until(lambda: said(mute, "none"), "opened")
            assert await peers.reach(FRIEND, OPEN) == 1
