"""With the chart installed on a real API server: who may do what, and who is refused with which words."""

from contextlib import suppress

import pytest
from support.real import ENICLASSES, ENINODES, cluster_in, eninode, make_node, until

from enitide_api.errors import KubeExists, KubeForbidden, KubeInvalid, KubeNotFound
from enitide_kube.client import HttpKube
from enitide_kube.port import ENINODE, LEASE, NODE, POD
from enitide_lab.realkube import chart
from enitide_lab.realkube.access import account_token, may
from enitide_lab.realkube.rest import Credentials, Rest

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with cluster_in(tmp_path_factory.mktemp("real")) as started:
        started.install_chart()
        make_node(started, "one", "i-00000000000000001")
        make_node(started, "two", "i-00000000000000002")
        yield started


def access(verb, resource, group="", *, subresource="", name="", namespace=""):
    return {
        "verb": verb, "resource": resource, "group": group, "subresource": subresource, "name": name,
        "namespace": namespace,
    }  # fmt: skip


ENITIDE = "enitide.io"
LEASES = ("leases", "coordination.k8s.io")
EVENTS = ("events", "events.k8s.io")
IDENTITIES = ("securityidentities", "endpointbatches")
POLICIES = [
    ("networkpolicies", "networking.k8s.io"),
    ("clusternetworkpolicies", "policy.networking.k8s.io"),
    ("adminnetworkpolicies", "policy.networking.k8s.io"),
    ("baselineadminnetworkpolicies", "policy.networking.k8s.io"),
    ("ciliumnetworkpolicies", "cilium.io"),
    ("ciliumclusterwidenetworkpolicies", "cilium.io"),
    ("customresourcedefinitions", "apiextensions.k8s.io"),
]

OPERATOR_MAY = [
    *(access(verb, "nodes") for verb in ("get", "list", "watch")),
    *(access(verb, "pods") for verb in ("list", "watch")),
    *(access(verb, kind, ENITIDE) for verb in ("get", "list", "watch") for kind in ("eninodes", "eniclasses")),
    *(access("patch", kind, ENITIDE, subresource="status") for kind in ("eninodes", "eniclasses")),
    access("delete", "eninodes", ENITIDE),
    *(access(verb, *EVENTS, namespace="default") for verb in ("create", "patch")),
    access("create", *LEASES, namespace="kube-system"),
    *(access(verb, *LEASES, namespace="kube-system", name="enitide-operator") for verb in ("get", "patch")),
    *(access(verb, "namespaces") for verb in ("list", "watch")),
    *(access(verb, *kind) for verb in ("list", "watch") for kind in POLICIES),
    *(access(verb, kind, ENITIDE) for verb in ("list", "watch", "create", "patch", "delete") for kind in IDENTITIES),
    access("patch", "securityidentities", ENITIDE, subresource="status"),
]
OPERATOR_MAY_NOT = [
    *(access(verb, "eninodes", ENITIDE) for verb in ("create", "update", "patch", "deletecollection")),
    *(access(verb, "nodes") for verb in ("create", "patch", "update", "delete")),
    access("patch", "nodes", subresource="status"),
    *(access(verb, "pods", namespace="default") for verb in ("create", "delete", "patch")),
    access("create", "pods", subresource="exec", namespace="kube-system"),
    *(access(verb, "secrets", namespace="kube-system") for verb in ("get", "list")),
    access("create", "serviceaccounts", subresource="token", namespace="kube-system"),
    access("get", *LEASES, namespace="kube-system", name="kube-scheduler"),
    access("patch", *LEASES, namespace="kube-node-lease", name="one"),
    access("create", *LEASES, namespace="default"),
    access("patch", "clusterroles", "rbac.authorization.k8s.io"),
    access("impersonate", "users"),
    *(access(verb, *kind) for verb in ("create", "patch", "delete") for kind in POLICIES),
]
AGENT_MAY = [
    *(access(verb, "nodes") for verb in ("get", "list", "watch")),
    *(access(verb, "pods") for verb in ("list", "watch")),
    *(access(verb, "eninodes", ENITIDE) for verb in ("get", "list", "watch", "create", "patch")),
    *(access(verb, kind, ENITIDE) for verb in ("list", "watch") for kind in IDENTITIES),
    *(access(verb, kind) for verb in ("list", "watch") for kind in ("namespaces", "services")),
    *(access(verb, "endpointslices", "discovery.k8s.io") for verb in ("list", "watch")),
    *(access(verb, *kind) for verb in ("list", "watch") for kind in POLICIES),
    *(access(verb, *EVENTS, namespace="default") for verb in ("create", "patch")),
]
AGENT_MAY_NOT = [
    *(
        access(verb, kind, ENITIDE)
        for verb in ("create", "update", "patch", "delete", "deletecollection")
        for kind in IDENTITIES
    ),
    access("patch", "securityidentities", ENITIDE, subresource="status"),
    *(access(verb, *kind) for verb in ("create", "patch", "delete") for kind in POLICIES),
    access("patch", "eninodes", ENITIDE, subresource="status"),
    *(access(verb, "eninodes", ENITIDE) for verb in ("delete", "update", "deletecollection")),
    *(access(verb, "eniclasses", ENITIDE) for verb in ("create", "patch", "delete")),
    *(access(verb, "nodes") for verb in ("create", "patch", "delete")),
    access("patch", "nodes", subresource="status"),
    *(access(verb, "pods", namespace="default") for verb in ("create", "delete", "patch")),
    *(access(verb, "secrets", namespace="kube-system") for verb in ("get", "list")),
    access("get", "configmaps", namespace="kube-system"),
    *(access(verb, *LEASES, namespace="kube-system") for verb in ("get", "create", "patch")),
]


def test_the_operator_has_every_right_that_it_uses_and_none_beyond(cluster):
    operator = cluster.rest_for("operator")
    assert [right for right in OPERATOR_MAY if not may(operator, right)] == []
    assert [right for right in OPERATOR_MAY_NOT if may(operator, right)] == []


def test_an_agent_has_every_right_that_it_uses_and_none_beyond(cluster):
    agent = cluster.rest_for("agent", node="one")
    assert [right for right in AGENT_MAY if not may(agent, right)] == []
    assert [right for right in AGENT_MAY_NOT if may(agent, right)] == []


def test_an_agent_writes_the_eninode_of_its_own_node(cluster):
    agent = cluster.rest_for("agent", node="one")
    made = agent.call("POST", ENINODES, eninode("one", instance={"id": "i-00000000000000001"}))
    assert made["spec"]["instance"]["id"] == "i-00000000000000001"
    patched = agent.call("PATCH", f"{ENINODES}/one", {"spec": {"demand": {"inUse": 3}}}, Rest.MERGE_PATCH)
    assert patched["spec"]["demand"]["inUse"] == 3


def test_a_foreign_eninode_is_refused_with_a_sentence_that_names_both_nodes(cluster):
    agent = cluster.rest_for("agent", node="one")
    with pytest.raises(KubeForbidden, match="this token is of node one, not of two"):
        agent.call("POST", ENINODES, eninode("two"))
    cluster.rest_for("agent", node="two").call("POST", ENINODES, eninode("two"))
    with pytest.raises(KubeForbidden, match="this token is of node one, not of two"):
        agent.call("PATCH", f"{ENINODES}/two", {"spec": {"demand": {"inUse": 100}}}, Rest.MERGE_PATCH)
    assert cluster.admin.get(f"{ENINODES}/two")["spec"].get("demand", {}).get("inUse", 0) == 0


def test_an_agent_whose_token_names_no_node_writes_nothing(cluster):
    token = account_token(cluster.admin, "kube-system", "enitide-agent")
    stranger = Rest(cluster.server, cluster.admin.authority, Credentials(token=token))
    with pytest.raises(KubeForbidden, match="names no node"):
        stranger.call("POST", ENINODES, eninode("three"))


def test_an_agent_that_was_granted_more_still_writes_neither_status_nor_deletes(cluster):
    grant = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "too-much"},
        "rules": [{"apiGroups": [ENITIDE], "resources": ["eninodes", "eninodes/status"], "verbs": ["patch", "delete"]}],
    }  # fmt: skip
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "too-much"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "too-much"},
        "subjects": [{"kind": "ServiceAccount", "name": "enitide-agent", "namespace": "kube-system"}],
    }  # fmt: skip
    chart.apply(cluster.admin, [grant, binding])
    try:
        make_node(cluster, "granted")
        agent = cluster.rest_for("agent", node="granted")
        agent.call("POST", ENINODES, eninode("granted"))
        with pytest.raises(KubeForbidden, match="writes spec alone"):
            agent.call("PATCH", f"{ENINODES}/granted/status", {"status": {"instanceID": "i-1"}}, Rest.MERGE_PATCH)
        with pytest.raises(KubeForbidden, match="writes spec alone"):
            agent.call("DELETE", f"{ENINODES}/granted")
    finally:
        chart.uninstall(cluster.admin, [grant, binding])


def test_a_token_dies_with_its_node(cluster):
    make_node(cluster, "brief")
    agent = cluster.rest_for("agent", node="brief")
    cluster.admin.call("DELETE", "/api/v1/nodes/brief")
    until(lambda: agent.raw("GET", "/api/v1/nodes/one")[0] == 401, "the token of a deleted node is still accepted")


def test_the_operator_writes_status_and_is_refused_spec(cluster):
    make_node(cluster, "four")
    cluster.rest_for("agent", node="four").call("POST", ENINODES, eninode("four", demand={"inUse": 1}))
    operator = cluster.rest_for("operator")
    body = {"status": {"instanceID": "i-0123456789abcdef0"}, "spec": {"demand": {"inUse": 9}}}
    written = operator.call("PATCH", f"{ENINODES}/four/status", body, Rest.MERGE_PATCH)
    assert written["status"]["instanceID"] == "i-0123456789abcdef0"
    assert written["spec"]["demand"]["inUse"] == 1
    with pytest.raises(KubeForbidden):
        operator.call("PATCH", f"{ENINODES}/four", {"spec": {"demand": {"inUse": 9}}}, Rest.MERGE_PATCH)


def test_a_kubelet_cannot_speak_for_another_node_nor_for_an_agent(cluster):
    kubelet = cluster.rest_for("kubelet", node="one")
    with pytest.raises(KubeForbidden):
        kubelet.call("PATCH", "/api/v1/nodes/two", {"metadata": {"labels": {"a": "b"}}}, Rest.MERGE_PATCH)
    with pytest.raises(KubeForbidden):
        kubelet.call("POST", ENINODES, eninode("one"))


def test_the_chart_brings_the_default_class_and_the_server_fills_its_defaults(cluster):
    spec = cluster.admin.get(f"{ENICLASSES}/default")["spec"]
    assert spec["pool"] == {"preAllocate": 4, "minAllocate": 0, "maxAboveWatermark": 4}
    assert spec["cooldown"] == "30s"


def test_a_contradiction_in_a_class_is_refused_by_the_server(cluster):
    body = {"apiVersion": "enitide.io/v1alpha1", "kind": "ENIClass", "metadata": {"name": "odd"}}
    with pytest.raises(KubeInvalid):
        cluster.admin.call("POST", ENICLASSES, body | {"spec": {"pool": {"preAllocate": -1}}})
    with pytest.raises(KubeInvalid, match="preAlocate"):
        cluster.admin.call("POST", f"{ENICLASSES}?fieldValidation=Strict", body | {"spec": {"pool": {"preAlocate": 1}}})
    with pytest.raises(KubeNotFound):
        cluster.admin.get(f"{ENICLASSES}/odd")


def test_the_server_accepts_the_workloads_as_they_are_rendered(cluster):
    workloads = [item for item in cluster.render_chart() if item["kind"] in chart.WORKLOADS]
    assert {item["kind"] for item in chart.apply(cluster.admin, workloads, dry_run=True)} == chart.WORKLOADS


def test_installing_the_chart_again_changes_nothing(cluster):
    before = cluster.admin.get(f"{ENICLASSES}/default")["metadata"]["resourceVersion"]
    cluster.install_chart()
    assert cluster.admin.get(f"{ENICLASSES}/default")["metadata"]["resourceVersion"] == before


async def test_the_programs_port_works_with_each_kubeconfig_and_its_rights(cluster):
    async with HttpKube.connect(str(cluster.kubeconfig_for("agent", node="one")), "test") as kube:
        await kube.get(NODE, "one")
        await kube.list(POD, field_selector="spec.nodeName=one")
        with pytest.raises(KubeForbidden):
            await kube.get(LEASE, "enitide-operator", namespace="kube-system")
        with pytest.raises(KubeForbidden, match="this token is of node one"):
            await kube.create(ENINODE, eninode("foreign"))
    async with HttpKube.connect(str(cluster.kubeconfig_for("operator")), "test") as kube:
        await kube.list(NODE)
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "enitide-operator"}}
        with suppress(KubeExists):  # a cluster that had an operator before
            await kube.create(LEASE, lease, namespace="kube-system")
        await kube.get(LEASE, "enitide-operator", namespace="kube-system")
        with pytest.raises(KubeForbidden):
            await kube.get(LEASE, "kube-scheduler", namespace="kube-system")
    async with HttpKube.connect(str(cluster.kubeconfig_for("kubelet", node="one")), "test") as kube:
        await kube.list(POD, field_selector="spec.nodeName=one")
        with pytest.raises(KubeForbidden):
            await kube.list(POD, field_selector="spec.nodeName=two")
