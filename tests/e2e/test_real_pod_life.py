"""One whole pod life on the lab with the real control plane, by the commands that a user has.

Nothing may more here than in production: RBAC and admission are on, operator, agents and kubelets have the credentials
that the chart and a node have, agents run with the chart's capabilities and the operator with none.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml
from support.lab import why_not
from support.real import ENINODES, STRATEGIC, deployment, eninode, until

from enitide_api.errors import KubeForbidden
from enitide_api.reasons import Reason
from enitide_lab.house.layout import lab_paths
from enitide_lab.realkube import why_unavailable
from enitide_lab.realkube.build import CNITOOL, built
from enitide_lab.realkube.existing import rest_of
from enitide_lab.up.running import Lab

pytestmark = pytest.mark.real

NAME = f"real-{os.getpid()}"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
PODS = "/api/v1/namespaces/default/pods?labelSelector=app%3Dlife"
VPC = ip_network("10.0.0.0/16")


def enitide(*arguments):
    command = [str(Path(sys.executable).parent / "enitide"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def granted(name):
    """The capabilities that the rendered chart gives the one container of workload `name`."""
    chart = Path(__file__).resolve().parents[1] / "golden" / "chart" / "rendered-default.yaml"
    for item in yaml.safe_load_all(chart.read_text()):
        if item["kind"] in ("DaemonSet", "Deployment") and item["metadata"]["name"] == name:
            (container,) = item["spec"]["template"]["spec"]["containers"]
            return container["securityContext"]["capabilities"].get("add", [])
    raise AssertionError(f"the chart renders no {name}")


def confine(name):
    """Start operator and agents again by their own commands, with what the chart leaves them and no way to get more."""
    running = Lab.open(lab_paths(name))
    for program in running.record.programs:
        role, _, node = program.name.partition("/")
        if role not in ("operator", "agent"):
            continue
        command = Path(f"/proc/{program.pid}/cmdline").read_text().strip("\0").split("\0")
        running.kill(program.name, signal.SIGTERM)
        bounds = ",".join(["-all", *(f"+{capability.lower()}" for capability in granted(f"enitide-{role}"))])
        limits = ["setpriv", "--no-new-privs", f"--bounding-set={bounds}", "--inh-caps=-all"]
        netns = running.netns(running.record.node(node)) if node else running.paths.fabric
        cgroup = f"nodes/{node}/agent" if node else f"control/{role}"
        running.start(program.name, [*limits, *command], cgroup=cgroup, netns=netns)


def effective(pid):
    """The effective capabilities of a process, as the bits that the kernel shows."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("CapEff:")[2].split()[0], 16)


@pytest.fixture(scope="module")
def lab():
    """The name of a lab with two nodes on the real control plane."""
    reason = why_unavailable(os.environ) or why_not()
    if reason:
        pytest.skip(f"no lab on a real control plane: {reason}")
    try:
        up = enitide("lab", "up", "--name", NAME, "--nodes", "2", "--kubernetes=real")
        assert up.returncode == 0, up.stderr[-6000:]
        confine(NAME)
        yield NAME
    finally:
        enitide("lab", "down", "--name", NAME)


@pytest.fixture(scope="module")
def nodes(lab):
    """What a foreign client needs of each node, by its name."""
    return {name: json.loads(enitide("lab", "env", name, "--name", lab, "-o", "json").stdout) for name in NODES}


NODES = ("node-1", "node-2")


@pytest.fixture(scope="module")
def admin(nodes, tmp_path_factory):
    """The administrator, from where the nodes are."""
    env = nodes["node-1"]
    found = rest_of(Path(env["KUBECONFIG"]), tmp_path_factory.mktemp("admin"))
    return replace(found, netns=Path(env["ENITIDE_NETNS"]))


def running(admin, replicas):
    pods = admin.get(PODS)["items"]
    ready = [pod for pod in pods if pod["status"].get("phase") == "Running" and pod["status"].get("podIPs")]
    return ready if len(ready) == len(pods) == replicas else None


@pytest.fixture(scope="module")
def pods(admin):
    """The pods of a Deployment that the real controllers made and the real scheduler bound; three for each node."""
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "life"}},
    }  # fmt: skip
    admin.call("POST", DEPLOYMENTS, deployment("life", 6, topologySpreadConstraints=[spread]))
    return until(lambda: running(admin, 6), "the pods of the Deployment do not run", 60)


def addresses_of(env):
    """Every address that the node's agent knows, from its socket."""
    connection = http.client.HTTPConnection("agent")
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(env["ENITIDE_SOCKET"])
        connection.request("GET", "/v1/addresses")
        return json.loads(connection.getresponse().read())["addresses"]
    finally:
        connection.close()


def test_each_pod_of_a_deployment_runs_with_an_address_of_its_own_nodes_enis(admin, pods):
    assert {pod["spec"]["nodeName"] for pod in pods} == set(NODES)
    held = {}
    for node in NODES:
        enis = admin.get(f"{ENINODES}/{node}")["status"]["interfaces"]
        held[node] = {address for eni in enis for address in eni["addresses"]}
    for pod in pods:
        assert ip_address(pod["status"]["podIP"]) in VPC
        assert pod["status"]["podIP"] in held[pod["spec"]["nodeName"]]
    assert len({pod["status"]["podIP"] for pod in pods}) == 6


def test_pods_of_different_nodes_reach_each_other_in_both_families(lab, pods):
    here = next(pod for pod in pods if pod["spec"]["nodeName"] == "node-1")
    there = next(pod for pod in pods if pod["spec"]["nodeName"] == "node-2")
    for target in there["status"]["podIPs"]:
        name = here["metadata"]["name"]
        done = enitide("lab", "exec", "--name", lab, name, "--", "ping", "-c1", "-W5", target["ip"])
        assert done.returncode == 0, f"{target['ip']}: {done.stdout}{done.stderr}"
    assert len(there["status"]["podIPs"]) == 2


@pytest.fixture
def foreign_namespace():
    """A network namespace that no kubelet knows of."""
    name = f"{NAME}-cni"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield Path("/run/netns") / name
    subprocess.run(["ip", "netns", "del", name], check=True)


def test_all_this_is_done_with_the_capabilities_of_the_chart(lab, pods):
    bits = {"NET_ADMIN": 12, "SYS_ADMIN": 21, "PERFMON": 38, "BPF": 39}
    programs = {program.name: program.pid for program in Lab.open(lab_paths(lab)).record.programs}
    assert effective(programs["operator"]) == 0
    for node in NODES:
        assert effective(programs[f"agent/{node}"]) == sum(1 << bits[name] for name in granted("enitide-agent"))


def test_a_foreign_cni_client_adds_checks_and_deletes(nodes, pods, foreign_namespace):
    tool = built(CNITOOL)
    if tool is None:
        pytest.skip("cnitool is not built (`make test-real` builds it)")
    env = nodes["node-1"]

    def cni(verb):
        command = ["nsenter", f"--net={env['ENITIDE_NETNS']}", str(tool), verb, env["ENITIDE_NETWORK"]]
        return subprocess.run(
            [*command, str(foreign_namespace)], env=os.environ | env, capture_output=True, text=True, timeout=60
        )

    def owner(address):
        return next(item for item in addresses_of(env) if item["address"] == address)

    added = cni("add")
    assert added.returncode == 0, added.stdout + added.stderr
    result = json.loads(added.stdout)
    address = result["ips"][0]["address"].removesuffix("/32")
    shown = subprocess.run(
        ["ip", "-json", "-n", foreign_namespace.name, "address", "show", "eth0"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert address in {item["local"] for item in json.loads(shown.stdout)[0]["addr_info"]}
    assert owner(address)["owner"].startswith("container/cnitool-")
    target = next(pod for pod in pods if pod["spec"]["nodeName"] == "node-2")["status"]["podIP"]
    ping = ["nsenter", f"--net={foreign_namespace}", "ping", "-c1", "-W5", target]
    assert subprocess.run(ping, capture_output=True).returncode == 0
    assert cni("check").returncode == 0
    assert cni("del").returncode == 0
    assert cni("del").returncode == 0
    assert cni("check").returncode != 0
    assert owner(address)["owner"] is None


def test_a_node_that_drops_its_own_pods_gets_new_ones_and_scaling_down_returns_every_address(admin, nodes, pods):
    victim = next(pod for pod in pods if pod["spec"]["nodeName"] == "node-1")
    admin.call("DELETE", f"/api/v1/namespaces/default/pods/{victim['metadata']['name']}")
    until(
        lambda: (now := running(admin, 6)) and victim["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in now},
        "the Deployment does not replace its pod",
        60,
    )
    admin.call("PATCH", f"{DEPLOYMENTS}/life", {"spec": {"replicas": 0}}, STRATEGIC)
    until(lambda: not admin.get(PODS)["items"], "the pods are not gone", 60)
    for env in nodes.values():
        until(
            lambda env=env: not [item for item in addresses_of(env) if item["owner"]], "an address has an owner still"
        )
    for node in NODES:
        until(
            lambda node=node: admin.get(f"{ENINODES}/{node}")["spec"]["demand"]["inUse"] == 0,
            f"{node} does not report that its addresses are back",
            90,
        )


def test_an_agents_own_credentials_are_refused_for_another_nodes_eninode(lab, nodes, tmp_path):
    kubeconfig = lab_paths(lab).credentials("agent", "node-1")
    agent = replace(rest_of(kubeconfig, tmp_path), netns=Path(nodes["node-1"]["ENITIDE_NETNS"]))
    with pytest.raises(KubeForbidden, match="this token is of node node-1, not of node-2"):
        agent.call("PATCH", f"{ENINODES}/node-2", {"spec": {"demand": {"inUse": 99}}}, agent.MERGE_PATCH)
    with pytest.raises(KubeForbidden, match="this token is of node node-1, not of node-9"):
        agent.call("POST", ENINODES, eninode("node-9"))


def test_no_program_was_ever_refused_what_it_asked_for(lab):
    logs = lab_paths(lab).root / "logs"
    refused = [
        f"{log.name}: {line}"
        for log in logs.glob("*.log")
        for line in log.read_text(errors="replace").splitlines()
        if f'"{Reason.API_FORBIDDEN}"' in line
    ]
    assert list(logs.glob("operator*.log"))
    assert refused == []


def test_the_lab_ends_without_a_trace(lab):
    paths = lab_paths(lab)
    down = enitide("lab", "down", "--name", lab)
    assert down.returncode == 0, down.stderr
    assert not paths.root.exists()
