"""NetworkPolicy in a whole lab: real operator and agents, pods on two nodes, packets between them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from support.lab import LabDriver, lab_up, until, why_not

from enitide_kube.client import HttpKube
from enitide_kube.port import ENDPOINTBATCH, NETWORKPOLICY, POD, SECURITYIDENTITY

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

ONE, TWO = "node-1", "node-2"
# Sends a numbered datagram every millisecond until it is killed; the receiver prints each number that it gets.
SEND = """
import socket, sys, time
s, n = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0
while True:
    s.sendto(str(n).encode(), (sys.argv[1], 9)); n += 1; time.sleep(0.001)
"""
RECEIVE = """
import json, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 9)); s.settimeout(float(sys.argv[1]))
seen = {}
end = time.time() + float(sys.argv[1])
print("up", flush=True)
while time.time() < end:
    try:
        _, (who, _) = s.recvfrom(64)
    except TimeoutError:
        break
    seen[who] = seen.get(who, 0) + 1
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def world() -> Iterator[LabDriver]:
    with lab_up("policy", ("t3.medium", "t3.medium")) as driver:
        yield driver


@pytest.fixture
async def lab(world: LabDriver) -> AsyncIterator[LabDriver]:
    yield world
    async with world.kube() as kube:
        for raw in (await kube.list(NETWORKPOLICY)).items:
            meta = json.loads(raw)["metadata"]
            await kube.delete(NETWORKPOLICY, meta["name"], namespace=meta["namespace"])
    await world.remove_all()


async def label(kube: HttpKube, name: str) -> None:
    await kube.patch(POD, name, {"metadata": {"labels": {"app": name}}}, namespace="default")


async def allow(kube: HttpKube, target: str, *sources: str) -> None:
    """Pods `target` take traffic from these alone."""
    peers = [{"podSelector": {"matchLabels": {"app": source}}} for source in sources]
    spec = {
        "podSelector": {"matchLabels": {"app": target}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": peers}] if peers else [],
    }
    meta = {"name": target, "namespace": "default"}
    body = {"apiVersion": NETWORKPOLICY.api_version, "kind": NETWORKPOLICY.kind, "metadata": meta, "spec": spec}
    await kube.create(NETWORKPOLICY, body, namespace="default")


def inside(lab: LabDriver, pod: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    command = ["nsenter", f"--net={lab.place(pod).netns}", "python3", "-c", program, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def heard(lab: LabDriver, target: str, senders: list[str], seconds: float = 2.0) -> dict[str, int]:
    """How many datagrams of each sender reach the target; senders by name."""
    names = {lab.place(name).addresses[0]: name for name in senders}
    with inside(lab, target, RECEIVE, str(seconds)) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "up\n"
        sending = [inside(lab, name, SEND, lab.place(target).addresses[0]) for name in senders]
        out, _ = receiver.communicate()
        for each in sending:
            each.kill()
            each.communicate()
    return {names[address]: count for address, count in json.loads(out).items()}


def received(lab: LabDriver, pod: str) -> int:
    """Datagrams that reached the pod's stack, wanted there or not."""
    command = ["nsenter", f"--net={lab.place(pod).netns}", "cat", "/proc/net/snmp"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    titles, numbers = (line.split()[1:] for line in text.splitlines() if line.startswith("Udp:"))
    found = dict(zip(titles, map(int, numbers), strict=True))
    return found["InDatagrams"] + found["NoPorts"]


def by_labels(rows: list[dict[str, Any]], word: str) -> list[int]:
    return [row["id"] for row in rows if word in row["labels"]]


async def test_a_policy_holds_between_pods_of_two_nodes_and_opens_when_it_goes(lab: LabDriver) -> None:
    await lab.run({"db": ONE, "web": TWO, "evil": TWO})
    async with lab.kube() as kube:
        for name in ("db", "web", "evil"):
            await label(kube, name)
        assert set(heard(lab, "db", ["web", "evil"])) == {"web", "evil"}
        await allow(kube, "db", "web")

        def told() -> bool:
            rows = lab.agent(ONE, "/v1/policies")["policies"]
            selected = bool(rows) and bool(rows[0]["selects"])
            return selected and bool(by_labels(lab.agent(ONE, "/v1/identities")["identities"], "app=web"))

        await until(told, what="the policy selects db on its node")
        await until(lambda: set(heard(lab, "db", ["web", "evil"], 1.5)) == {"web"}, what="only web reaches db")
        assert set(heard(lab, "db", ["web", "evil"], 2.0)) == {"web"}
        await kube.delete(NETWORKPOLICY, "db", namespace="default")
        await until(lambda: set(heard(lab, "db", ["web", "evil"], 1.5)) == {"web", "evil"}, what="open again")


async def test_no_forbidden_packet_reaches_a_pod_that_starts_under_a_policy(lab: LabDriver) -> None:
    """A sender that is forbidden sends to every address that the next pods may get, before and while they start."""
    await lab.run({"evil": TWO})
    async with lab.kube() as kube:
        await allow(kube, "none")
        spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []}
        meta = {"name": "closed", "namespace": "default"}
        body = {"apiVersion": NETWORKPOLICY.api_version, "kind": NETWORKPOLICY.kind, "metadata": meta, "spec": spec}
        await kube.create(NETWORKPOLICY, body, namespace="default")
        await until(lambda: len(lab.agent(ONE, "/v1/policies")["policies"]) == 2, what="node-1 knows the policies")
    free = [row["address"] for row in lab.agent(ONE, "/v1/addresses")["addresses"] if row["state"] == "free"]
    targets = [address for address in free if ":" not in address]
    sending = [inside(lab, "evil", SEND, address) for address in targets]
    try:
        names = [f"new-{n}" for n in range(3)]
        await lab.run(dict.fromkeys(names, ONE))
        for name in names:
            assert lab.place(name).addresses[0] in targets
            assert received(lab, name) == 0
    finally:
        for each in sending:
            each.kill()
            each.communicate()


async def test_identities_and_endpoints_can_be_looked_at(lab: LabDriver) -> None:
    async with lab.kube() as kube:
        await allow(kube, "db", "web")
        await lab.run({"web": TWO})
        await label(kube, "web")
        await until(
            lambda: "app=web" in lab.enitide("identity", "list", "--endpoints").stdout, what="the identity is listed"
        )
        address = lab.place("web").addresses[0]
        await until(
            lambda: any(
                "app=web" in row["labels"] and address in row["addresses"]
                for row in json.loads(lab.enitide("identity", "list", "--endpoints", "-o", "json").stdout)
            ),
            what="its address is shown beside it",
        )
        assert (await kube.list(SECURITYIDENTITY)).items
        assert (await kube.list(ENDPOINTBATCH)).items
    rows = lab.agent(TWO, "/v1/endpoints")["endpoints"]
    await until(lambda: lab.agent(TWO, "/v1/endpoints")["endpoints"][0]["state"] == "enforced", what="enforced")
    assert rows[0]["owner"] == "default/web"
