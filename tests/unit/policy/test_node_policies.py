"""Policies whose subject is the node: a nodeSelector in a CiliumClusterwideNetworkPolicy, where host_policy is set."""

import json

import pytest
import yaml
from support.policy_cases import differences, judged, objects_of
from unit.policy.worlds import XYZ

from enitide_api.cli import main

pytestmark = pytest.mark.unit


def policy(spec, kind="CiliumClusterwideNetworkPolicy", namespace=""):
    meta = {"name": "nodes", **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": meta, "spec": yaml.safe_load(spec)}


def problems(spec, **more):
    return [(p["field"], p["reason"], p["message"]) for p in judged([policy(spec, **more)], [], host_policy=True)[1]]


SSH = """
nodeSelector: {matchLabels: {zone: one}}
ingress: [{fromCIDR: [8.8.8.8], toPorts: [{ports: [{port: '22', protocol: TCP}]}]}]
"""
SCENARIOS = {
    "one port from one peer, on the nodes it selects alone": (
        SSH,
        """
        8.8.8.8 -> node/n1 TCP/22 = allowed (AllowedByRule)
        8.8.8.8 -> node/n1 TCP/23 = denied (DeniedByIsolation)
        9.9.9.9 -> node/n1 TCP/22 = denied
        x/b -> node/n1 TCP/22 = denied        # a pod of another node
        x/a -> node/n1 TCP/22 = denied        # and one of its own
        node/n2 -> node/n1 TCP/22 = denied
        x/host -> node/n1 TCP/22 = denied     # a host-network pod is its node
        node/n1 -> 9.9.9.9 TCP/443 = allowed (AllowedByDefault)
        9.9.9.9 -> node/n2 TCP/23 = allowed
        9.9.9.9 -> x/a TCP/23 = allowed       # pods are not its subjects
        9.9.9.9 -> x/host TCP/23 = allowed    # on n2, which it does not select
        """,
    ),
    "host-network pods are the node": (
        "nodeSelector: {matchLabels: {zone: two}}\ningress: [{fromEntities: [world]}]",
        """
        x/a -> x/host TCP/80 = denied
        9.9.9.9 -> x/host TCP/80 = allowed
        """,
    ),
    "a node always reaches its own pods and itself, and its pods ask before they reach it": (
        "nodeSelector: {}\ningress: [{}]\negress: [{}]",
        """
        node/n1 -> x/a TCP/80 = allowed (OwnNodeTraffic)
        node/n1 -> x/b TCP/80 = denied
        node/n1 -> node/n1 TCP/80 = allowed (SelfTraffic)
        node/n2 -> x/host TCP/80 = allowed (SelfTraffic)
        x/a -> node/n1 TCP/80 = denied (DeniedByIsolation)
        node/n1 -> 8.8.8.8 TCP/443 = denied (DeniedByIsolation)
        x/a -> x/b TCP/80 = allowed
        """,
    ),
    "peers are what they are for pods": (
        """
        nodeSelector: {matchExpressions: [{key: 'k8s:zone', operator: NotIn, values: [two]}]}
        ingress:
        - fromEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': y}}]
        - fromEntities: [remote-node]
        ingressDeny: [{fromEndpoints: [{matchLabels: {pod: c}}]}]
        """,
        """
        y/a -> node/n1 TCP/80 = allowed
        y/c -> node/n1 TCP/80 = denied (DeniedByRule)
        x/b -> node/n1 TCP/80 = denied
        node/n2 -> node/n1 TCP/80 = allowed
        8.8.8.8 -> node/n1 TCP/80 = denied
        """,
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_verdicts_about_nodes(name):
    spec, lines = SCENARIOS[name]
    assert differences([*objects_of(XYZ), policy(spec)], lines, host_policy=True) == []


def test_where_host_policy_is_off_the_policy_is_not_in_force_and_says_what_to_set():
    rows, found = judged(
        [*objects_of(XYZ), policy(SSH)], [{"id": 1, "from": "9.9.9.9", "to": "node/n1", "protocol": "TCP", "port": 23}]
    )
    assert rows[1]["verdict"] == "allowed"
    (problem,) = found
    assert (problem["field"], problem["reason"]) == ("spec.nodeSelector", "PolicyUnsupported")
    assert "set host_policy to true for operator and agents" in problem["message"]


def test_a_node_that_is_known_by_its_pods_alone_is_nobodys_subject():
    objects = [each for each in objects_of(XYZ) if each["kind"] != "Node"]
    lines = "9.9.9.9 -> x/host TCP/80 = allowed (AllowedByDefault)"
    assert differences([*objects, policy("nodeSelector: {}\ningress: [{}]")], lines, host_policy=True) == []


@pytest.mark.parametrize(
    ("spec", "field", "reason", "word"),
    [
        ("nodeSelector: {}\nendpointSelector: {}", "spec.nodeSelector", "PolicyInvalid", "endpointSelector"),
        ("nodeSelector: {matchLabels: {'a b': c}}", "spec.nodeSelector.matchLabels.a b", "PolicyInvalid", "label key"),
        ("nodeSelector: 5", "spec.nodeSelector", "PolicyInvalid", "mapping"),
        (
            "nodeSelector: {}\ningress: [{toPorts: [{ports: [{port: http}]}]}]",
            "spec.nodeSelector",
            "PolicyUnsupported",
            "write a number",
        ),
        ("nodeSelector: {}\nelse: 1", "spec.else", "PolicyUnknownField", "nodeSelector"),
    ],
)
def test_what_is_wrong_with_a_policy_of_nodes_is_named(spec, field, reason, word):
    ((at, why, message),) = problems(spec)
    assert (at, why) == (field, reason)
    assert word in message


def test_a_policy_of_nodes_in_a_namespace_names_the_kind_to_write():
    ((at, why, message),) = problems("nodeSelector: {}", kind="CiliumNetworkPolicy", namespace="x")
    assert (at, why) == ("spec.nodeSelector", "PolicyInvalid")
    assert "CiliumClusterwideNetworkPolicy" in message


@pytest.mark.parametrize("spec", ["nodeSelector: 5\ningress: [{}]", "nodeSelector: {}\nelse: 1"])
def test_a_policy_of_nodes_that_is_not_understood_locks_no_node(spec):
    line = "9.9.9.9 -> node/n1 TCP/80 = allowed (AllowedByDefault)"
    assert differences([*objects_of(XYZ), policy(spec)], line, host_policy=True) == []


def test_the_command_judges_nodes_where_it_is_asked_to(tmp_path, capsys):
    (tmp_path / "world.yaml").write_text(XYZ)
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy(SSH)))
    query = tmp_path / "query"
    query.write_text(yaml.safe_dump([{"id": 1, "from": "8.8.8.8", "to": "node/n1", "protocol": "TCP", "port": 22}]))
    rules = []
    for more in ((), ("--host-policy",)):
        with pytest.raises(SystemExit):
            main(["policy", "verdict", "--objects", str(tmp_path), "--query", str(query), *more, "-o", "json"])
        (row,) = json.loads(capsys.readouterr().out)["verdicts"]
        rules.append(row["ingress"]["rule"])
    assert rules[0] is None
    assert (rules[1]["kind"], rules[1]["index"]) == ("CiliumClusterwideNetworkPolicy", 0)
