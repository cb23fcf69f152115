from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from enitide_api.output import cell, table
from enitide_api.resources import ENINode, builtins, decode
from enitide_kube.objects import Node, Pod
from enitide_operator.cli.collect import Cluster
from enitide_operator.cli.rows import address_rows, is_ready, node_row, why
from enitide_operator.cli.status import report

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
STAMP = "2026-01-01T12:00:00Z"


def eninode(ready="True", reason="PoolFilled", instance="i-1", **status):
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": "m", "lastTransitionTime": STAMP}
    body = {
        "metadata": {"name": "n"},
        "spec": {"instance": {"id": "i-1", "type": "m5.large"}, "demand": {"inUse": 1, "cooling": 1, "waiting": 0}},
        "status": {
            "instanceID": instance,
            "capacity": {"slots": 27, "usedSlots": 5, "provisioned": 5},
            "interfaces": [
                {"id": "eni-1", "card": 0, "index": 0, "primary": "10.0.0.4", "addresses": ["10.0.0.5", "10.0.0.6"]}
            ],
            "conditions": [condition],
            **status,
        },
    }
    return decode(msgspec.json.encode(body), ENINode)


def pod(name="p", ip="10.0.0.5", uid="u", host=False, phase="Running"):
    body = {
        "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"nodeName": "n", "hostNetwork": host},
        "status": {"phase": phase, "podIPs": [{"ip": ip}]},
    }
    return decode(msgspec.json.encode(body), Pod)


def cluster(*nodes, leader="op", renewed="2026-01-01T12:00:20.000000Z", kube=("n",)):
    kube_nodes = tuple(decode(msgspec.json.encode({"metadata": {"name": n}}), Node) for n in kube)
    return Cluster(nodes, (), kube_nodes, (), leader, renewed)


def test_an_address_a_pod_shows_is_in_use_and_one_nobody_shows_is_free():
    rows = {r["address"]: r for r in address_rows(eninode(), [pod()])}
    assert (rows["10.0.0.5"]["state"], rows["10.0.0.5"]["owner"]) == ("in-use", "default/p")
    assert (rows["10.0.0.6"]["state"], rows["10.0.0.6"]["owner"]) == ("free", None)


def test_a_host_network_pod_owns_no_address():
    rows = {r["address"]: r for r in address_rows(eninode(), [pod(host=True)])}
    assert rows["10.0.0.5"]["state"] == "free"


def test_a_finished_pod_owns_the_address_it_still_shows_no_longer():
    finished, heir = pod("old", phase="Succeeded"), pod("heir", uid="u2")
    for pods in ([finished, heir], [heir, finished]):
        rows = {r["address"]: r for r in address_rows(eninode(), pods)}
        assert rows["10.0.0.5"]["owner"] == "default/heir"
    rows = {r["address"]: r for r in address_rows(eninode(), [finished])}
    assert rows["10.0.0.5"]["state"] == "free"


def test_an_address_reported_for_a_pod_that_shows_none_yet_is_reserved_for_it():
    node = eninode()
    node = msgspec.structs.replace(
        node,
        spec=msgspec.convert(
            builtins(node.spec) | {"endpoints": [{"addresses": ["10.0.0.6"], "podUID": "u2"}]}, type(node.spec)
        ),
    )
    rows = {r["address"]: r for r in address_rows(node, [pod("q", ip="", uid="u2")])}
    assert (rows["10.0.0.6"]["state"], rows["10.0.0.6"]["owner"]) == ("reserved", "default/q")


def test_what_is_yielded_or_releasing_says_so():
    node = eninode(releasing=["10.0.0.9/32"])
    node = msgspec.structs.replace(
        node, spec=msgspec.convert(builtins(node.spec) | {"yielded": ["10.0.0.6/32"]}, type(node.spec))
    )
    rows = {r["address"]: r["state"] for r in address_rows(node, [])}
    assert (rows["10.0.0.6"], rows["10.0.0.9/32"]) == ("yielded", "releasing")


def test_the_agents_word_wins_over_what_the_resources_show():
    live = {"10.0.0.6": {"address": "10.0.0.6", "state": "cooling", "owner": None, "since": STAMP}}
    row = next(r for r in address_rows(eninode(), [], live) if r["address"] == "10.0.0.6")
    assert (row["state"], row["since"]) == ("cooling", STAMP)


def test_a_prefix_shows_as_its_sixteen_addresses():
    interface = {"id": "eni-2", "card": 0, "index": 1, "prefixes": ["10.0.1.16/28"]}
    rows = address_rows(eninode(interfaces=[interface]), [])
    assert [r["address"] for r in rows] == [f"10.0.1.{i}" for i in range(16, 32)]


def test_the_first_eni_of_a_second_card_gives_its_own_address_to_pods_and_only_the_nodes_own_does_not():
    interfaces = [
        {"id": "eni-0", "card": 0, "index": 0, "primary": "10.0.0.4"},
        {"id": "eni-1", "card": 1, "index": 0, "primary": "10.0.0.5"},
    ]
    node = eninode(interfaces=interfaces, **{"class": {"name": "default", "usePrimaryAddress": True}})
    assert [r["address"] for r in address_rows(node, [])] == ["10.0.0.5"]


def test_a_status_of_another_instance_is_no_readiness():
    node = eninode(instance="i-2")
    assert not is_ready(node)
    assert why(node)[0] == "InstanceMismatch"


def test_a_node_row_counts_free_addresses_without_those_that_cool():
    row = node_row(eninode())
    assert (row["free"], row["slots"], row["ready"]) == (3, "5/27", True)


def test_status_is_healthy_when_all_nodes_are_ready_and_a_leader_renews():
    assert report(cluster(eninode()), NOW)["healthy"]


@pytest.mark.parametrize(
    ("given", "check"),
    [
        (cluster(eninode(), leader="", renewed=""), "operator"),
        (cluster(eninode(), renewed="2026-01-01T11:00:00.000000Z"), "operator"),
        (cluster(eninode(ready="False", reason="SubnetExhausted")), "node n"),
        (cluster(eninode(), kube=("n", "m")), "agents"),
    ],
)
def test_status_names_what_fails_and_the_command_that_explains_it(given, check):
    found = report(given, NOW)
    failing = {c["check"]: c for c in found["checks"] if c["state"] != "ok"}
    assert not found["healthy"]
    assert failing[check]["next"]


def test_an_eninode_whose_node_is_gone_is_named_as_left_over_and_makes_nothing_unhealthy():
    found = report(cluster(eninode(ready="False", reason="InstanceMismatch"), kube=()), NOW)
    assert found["healthy"]
    assert found["nodes"]["leftover"] == ["n"]
    assert any("kubectl delete en n" in c["next"] for c in found["checks"])


def test_a_table_has_a_dash_where_there_is_nothing():
    assert table(["a", "b"], [[cell(None), cell([])], ["x", cell(True)]]) == "A  B\n-  -\nx  yes"


def tainted(free):
    taint = {"key": "enitide.io/no-address", "effect": "NoSchedule"}
    body = {"metadata": {"name": "n"}, "spec": {"taints": [taint]}}
    node = decode(msgspec.json.encode(body), Node)
    pool = {"preAllocate": 4}
    seen = cluster(
        eninode(capacity={"slots": 27, "usedSlots": 9, "provisioned": 2 + free}, **{"class": {"pool": pool}})
    )
    found = report(replace(seen, kube_nodes=(node,)), NOW)
    return next(each for each in found["checks"] if each["check"] == "taints")


def test_a_tainted_node_without_addresses_is_told_and_one_that_has_them_is_a_fault():
    assert tainted(0)["state"] == "ok"
    assert tainted(0)["next"] == "enitide why n"
    assert tainted(3)["state"] == "ok"  # the hysteresis may hold it a while
    assert tainted(4)["state"] == "failing"
    assert tainted(4)["next"] == "kubectl taint nodes n enitide.io/no-address:NoSchedule-"
