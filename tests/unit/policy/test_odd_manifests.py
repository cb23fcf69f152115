"""Manifests and queries as odd as people write them: each verdict was reckoned by hand from docs/policy.md."""

import json

import pytest
from support.policy_cases import differences, judged, objects_of, queries_of
from unit.policy.test_cilium import cilium
from unit.policy.test_clusternetworkpolicy import cnp
from unit.policy.test_networkpolicy import policy
from unit.policy.test_verdict import DUAL, FOURS, call, files
from unit.policy.worlds import XYZ

pytestmark = pytest.mark.unit
__all__ = ["files"]
SHUT = policy("podSelector: {}\npolicyTypes: [Ingress]")
FROM_B = policy("podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]")
OPEN_X, SHUT_X = "x/b -> x/a TCP/80 = allowed", "x/b -> x/a TCP/80 = denied"


def pod(name, namespace="x", ip="10.0.9.9", labels="{pod: q}", *, spec="nodeName: n1", status=None):
    given = status if status is not None else f"phase: Running, podIPs: [{{ip: '{ip}'}}]"
    return (
        f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {labels}}}\n"
        f"spec: {{{spec}}}\nstatus: {{{given}}}\n---\n"
    )


def service(name, spec, namespace="x"):
    return f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"


def slice_(name, endpoints, ports="[{port: 80}]", *, namespace="x", family="IPv4", of=None):
    return (
        f"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        f"metadata: {{name: {name}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {of or name}}}}}\n"
        f"addressType: {family}\nports: {ports}\nendpoints: {endpoints}\n---\n"
    )


CASES = {
    # --- Namespace
    "a namespace that no object declares": (
        pod("lone", "w") + policy("podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: "
        "{kubernetes.io/metadata.name: w}}}]}]"),
        "w/lone -> x/a TCP/80 = allowed\nx/b -> x/a TCP/80 = denied", [],
    ),
    "a namespace whose metadata.name label is another's": (
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: w, labels: {kubernetes.io/metadata.name: x}}\n"
        + pod("lone", "w") + policy("podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: "
        "{kubernetes.io/metadata.name: x}}}]}]"),
        "w/lone -> x/a TCP/80 = denied\nx/b -> x/a TCP/80 = allowed", [],
    ),
    "labels null": (
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: w, labels: null}\n" + pod("lone", "w", labels="null")
        + policy("podSelector: {}\ningress: [{from: [{namespaceSelector: {matchExpressions: "
        "[{key: ns, operator: DoesNotExist}]}}]}]"),
        "w/lone -> x/a TCP/80 = allowed\ny/b -> x/a TCP/80 = denied", [],
    ),
    "a label that is a number": (
        pod("five", labels="{pod: 5}") + FROM_B, "x/five -> x/a TCP/80 = denied",
        [("Pod/x/five", "metadata.labels.pod")],
    ),
    # --- Pod
    "a pod without a namespace is in default": (
        pod("d").replace("namespace: x, ", "")
        + policy("podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: "
                 "{kubernetes.io/metadata.name: default}}}]}]"),
        "default/d -> x/a TCP/80 = allowed", [],
    ),
    "a pod without status": (pod("bare", labels="{pod: b}", status="") + FROM_B, "x/bare -> x/a TCP/80 = allowed", []),
    "podIP alone": (
        pod("one", labels="{pod: b}", status="podIP: 10.0.9.1") + FROM_B,
        "10.0.9.1 -> x/a TCP/80 = allowed\nx/one -> x/a TCP/80 = allowed", [],
    ),
    "podIPs empty beside podIP": (
        pod("one", labels="{pod: b}", status="podIP: 10.0.9.1, podIPs: []") + FROM_B,
        "10.0.9.1 -> x/a TCP/80 = allowed", [],
    ),
    "an empty podIP is none yet": (
        pod("one", labels="{pod: b}", status="podIP: ''") + FROM_B, "x/one -> x/a TCP/80 = allowed", [],
    ),
    "a wrong podIP": (
        pod("one", ip="10.0.9.300") + SHUT, "x/one -> x/a TCP/80 = denied", [("Pod/x/one", "status.podIPs")],
    ),
    "a failed pod's address is nobody's": (
        pod("f", labels="{pod: b}", status="phase: Failed, podIPs: [{ip: 10.0.9.1}]") + FROM_B,
        "10.0.9.1 -> x/a TCP/80 = denied\nx/f -> x/a TCP/80 = denied (PodEnded)", [],
    ),
    "an ended pod's address was given again": (
        pod("f", status="phase: Succeeded, podIPs: [{ip: 10.0.9.1}]") + pod("g", ip="10.0.9.1", labels="{pod: b}")
        + FROM_B, "10.0.9.1 -> x/a TCP/80 = allowed", [],
    ),
    "a pending and an unknown pod count": (
        pod("p", ip="10.0.9.1", labels="{pod: b}", status="phase: Pending, podIPs: [{ip: 10.0.9.1}]")
        + pod("u", labels="{pod: b}", status="phase: Unknown, podIPs: [{ip: 10.0.9.2}]") + FROM_B,
        "10.0.9.1 -> x/a TCP/80 = allowed\n10.0.9.2 -> x/a TCP/80 = allowed", [],
    ),
    "a host-network pod is its node": (
        FROM_B + pod("h", ip="172.16.0.1", labels="{pod: b}", spec="nodeName: n1, hostNetwork: true"),
        "x/h -> x/a TCP/80 = allowed (OwnNodeTraffic)\nx/h -> x/b TCP/80 = denied\nx/a -> x/h TCP/80 = allowed", [],
    ),
    "hostNetwork in quotes is no true": (
        FROM_B + pod("h", labels="{pod: b}", spec="nodeName: n1, hostNetwork: 'false'"),
        "x/h -> x/a TCP/80 = allowed", [("Pod/x/h", "spec.hostNetwork")],
    ),
    "two live pods with one address": (
        pod("m", ip="10.0.9.1", labels="{pod: b}") + pod("n", ip="10.0.9.1") + FROM_B,
        "x/m -> x/a TCP/80 = allowed\nx/n -> x/a TCP/80 = denied",
        [("Pod/x/m", "status.podIPs"), ("Pod/x/n", "status.podIPs")],
    ),
    "a pod with its node's address and no hostNetwork": (
        pod("m", ip="172.16.0.1", labels="{pod: b}") + FROM_B, "x/m -> x/a TCP/80 = allowed",
        [("Node/n1", "status.addresses"), ("Pod/x/m", "status.podIPs")],
    ),
    "ports of containers: a name twice, a sidecar, an init container": (
        pod("s", labels="{pod: s}", spec="nodeName: n1, containers: [{name: a, ports: [{containerPort: 1, name: web}]},"
            " {name: b, ports: [{containerPort: 2, name: web}]}], initContainers: [{name: i, ports: [{containerPort: 3,"
            " name: web}]}, {name: side, restartPolicy: Always, ports: [{containerPort: 4, name: web}]}]")
        + policy("podSelector: {matchLabels: {pod: s}}\ningress: [{ports: [{port: web}]}]"),
        "x/a -> x/s TCP/1 = allowed\nx/a -> x/s TCP/2 = allowed\nx/a -> x/s TCP/3 = denied\nx/a -> x/s TCP/4 = allowed",
        [],
    ),
    "a container port that is no number": (
        pod("s", labels="{pod: s}", spec="nodeName: n1, containers: [{name: a, ports: [{containerPort: '80', name: web}"
            ", {containerPort: 99999999999999999999, name: web}, {containerPort: true, name: web}]}]")
        + policy("podSelector: {matchLabels: {pod: s}}\ningress: [{ports: [{port: web}]}]"),
        "x/a -> x/s TCP/80 = denied\nx/a -> x/s TCP/1 = denied", [("Pod/x/s", "spec.containers")] * 3,
    ),
    "labels in the pod's name": (
        pod("'1'", labels="{pod: b}") + FROM_B, "x/1 -> x/a TCP/80 = allowed", [],
    ),
    # --- Node
    "addresses of a node: hostnames are none, external ones are": (
        "---\napiVersion: v1\nkind: Node\nmetadata: {name: n3}\nstatus: {addresses: [{type: ExternalIP, address: "
        "198.51.100.7}, {type: InternalDNS, address: n3.local}, {type: InternalIP, address: 172.16.0.3}]}\n---\n"
        + policy("podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 172.16.0.3/32}}]}]"),
        "node/n3 -> x/a TCP/80 = allowed\n198.51.100.7 -> x/a TCP/80 = denied", [],
    ),
    "a node without status": (
        "---\napiVersion: v1\nkind: Node\nmetadata: {name: n4}\n---\n" + SHUT, "node/n4 -> x/a TCP/80 = denied", [],
    ),
    "a node known only by its pods": (
        pod("away", spec="nodeName: n7", labels="{pod: away}") + SHUT, "node/n7 -> x/away TCP/80 = allowed", [],
    ),
    # --- Service and EndpointSlice
    "a headless Service": (
        service("hl", "clusterIP: None, selector: {pod: b}, ports: [{port: 80}]")
        + slice_("hl", "[{addresses: [10.0.1.2]}]") + SHUT, "x/a -> service/x/hl TCP/80 = denied", [],
    ),
    "ExternalName": (
        service("ext", "type: ExternalName, externalName: example.com"),
        "x/a -> service/x/ext TCP/80 = denied (NoEndpoints)", [(("query/x/a -> service/x/ext TCP/80 = denied "
        "(NoEndpoints)"), "to")],
    ),
    "a Service without a selector": (
        service("man", "clusterIP: 172.20.0.30, ports: [{port: 443}]")
        + slice_("man", "[{addresses: [8.8.8.8]}]", "[{port: 8443}]")
        + policy("podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 8.8.8.8/32}}], "
                 "ports: [{port: 8443}]}]"),
        "x/a -> service/x/man TCP/443 = allowed\nx/a -> 172.20.0.30 TCP/443 = allowed", [],
    ),
    "a named targetPort is what the slice says": (
        service("nt", "clusterIP: 172.20.0.31, selector: {pod: b}, ports: [{port: 80, name: w, targetPort: serve-81}]")
        + slice_("nt", "[{addresses: [10.0.1.2]}]", "[{name: w, port: 81}]")
        + policy("podSelector: {}\ningress: [{ports: [{port: 81}]}]"), "x/a -> service/x/nt TCP/80 = allowed", [],
    ),
    "endpoints that are not ready, not said, null, and terminating": (
        service("st", "clusterIP: 172.20.0.32, ports: [{port: 80}]")
        + slice_("st", "[{addresses: [10.0.1.1], conditions: {ready: false}}, {addresses: [10.0.1.2], conditions: {}}, "
                 "{addresses: [10.0.1.3], conditions: {ready: null}}, {addresses: [10.0.2.1], conditions: "
                 "{ready: false, serving: true, terminating: true}}]"),
        "x/a -> service/x/st TCP/80 = allowed", [],
    ),
    "only terminating endpoints": (
        service("tt", "clusterIP: 172.20.0.33, ports: [{port: 80}]")
        + slice_("tt", "[{addresses: [10.0.2.1], conditions: {ready: false, serving: true, terminating: true}}]"),
        "x/a -> service/x/tt TCP/80 = denied (NoEndpoints)", [],
    ),
    "a port that the slice does not list": (
        service("np", "clusterIP: 172.20.0.34, ports: [{port: 80, name: w}]")
        + slice_("np", "[{addresses: [10.0.1.2]}]", "[{name: other, port: 80}]"),
        "x/a -> service/x/np TCP/80 = denied (NoEndpoints)", [],
    ),
    "UDP and TCP of one number": (
        service("ut", "clusterIP: 172.20.0.35, ports: [{port: 53, name: u, protocol: UDP}, {port: 53, name: t}]")
        + slice_("ut", "[{addresses: [10.0.1.2]}]", "[{name: u, port: 5353, protocol: UDP}, {name: t, port: 53}]")
        + policy("podSelector: {}\ningress: [{ports: [{port: 5353, protocol: UDP}]}]"),
        "x/a -> service/x/ut UDP/53 = allowed\nx/a -> service/x/ut TCP/53 = denied", [],
    ),
    "a slice without a Service's name": (
        ("---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: x}\n"
        "addressType: IPv4\nports: []\nendpoints: []\n"), OPEN_X, [("EndpointSlice/x/s", "metadata.labels")],
    ),
    "an endpoint's address is wrong": (
        service("w", "clusterIP: 172.20.0.36, ports: [{port: 80}]") + slice_("w", "[{addresses: [10.0.1]}]"),
        "x/a -> service/x/w TCP/80 = denied (NoEndpoints)", [("EndpointSlice/x/w", "endpoints[0]")],
    ),
    "the same endpoint in two slices": (
        service("tw", "clusterIP: 172.20.0.37, ports: [{port: 80}]")
        + slice_("tw1", "[{addresses: [10.0.1.2]}]", of="tw")
        + slice_("tw2", "[{addresses: [10.0.1.2]}]", of="tw"), "x/a -> service/x/tw TCP/80 = allowed", [],
    ),
    # --- forms of addresses
    "IPv6 long, short and in capitals": (
        DUAL + policy("podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 'FD00:0:0::1/128'}}]}]"),
        ("fd00:0000:0000:0000:0000:0000:0000:0001 -> x/dual2 TCP/80 IPv6 = allowed\n"
        "FD00::1 -> x/dual2 TCP/80 IPv6 = allowed\nfd00::3 -> x/dual2 TCP/80 IPv6 = denied"), [],
    ),
    "a podIP that is IPv4 in IPv6": (
        pod("m", ip="::ffff:10.0.9.1", labels="{pod: b}") + FROM_B, "10.0.9.1 -> x/a TCP/80 = allowed", [],
    ),
    # --- policies
    "a NetworkPolicy without spec": (policy("").replace("spec:", ""), SHUT_X, []),
    "a policy without a namespace is in default": (
        pod("d", "default", "10.0.9.1") + SHUT.replace(", namespace: x", ""),
        OPEN_X + "\nx/a -> default/d TCP/80 = denied", [],
    ),
    "a namespace on a policy of the whole cluster": (
        cnp("c", 1, "subject: {namespaces: {}}\ningress: [{action: Deny, from: [{namespaces: {}}]}]").replace(
            "metadata: {", "metadata: {namespace: y, "), SHUT_X, [],
    ),
    "a rule null": (
        policy("podSelector: {}\ningress: [null]"), SHUT_X, [("NetworkPolicy/x/p", "spec.ingress[0]")],
    ),
    "ports with null protocol and null port": (
        policy("podSelector: {}\ningress: [{ports: [{protocol: null, port: null}]}]"),
        "x/b -> x/a TCP/80 = allowed\nx/b -> x/a UDP/80 = denied", [],
    ),
    "a huge port": (
        policy("podSelector: {}\ningress: [{ports: [{port: 18446744073709551696}, {port: 81}]}]"),
        "x/b -> x/a TCP/80 = denied\nx/b -> x/a TCP/81 = allowed",
        [("NetworkPolicy/x/p", "spec.ingress[0].ports[0].port")],
    ),
    "a Cilium named port towards what has no names": (
        cilium("endpointSelector: {}\negress: [{toEntities: [world, remote-node], toPorts: [{ports: [{port: dns}]}]}]"),
        "x/a -> 8.8.8.8 UDP/53 = denied\nx/a -> y/a UDP/53 = denied",
        [("CiliumNetworkPolicy/x/c", "spec.egress[0].toPorts")],
    ),
    "a Cilium named port towards the API server": (
        cilium("endpointSelector: {}\negress: [{toEntities: [kube-apiserver], toPorts: [{ports: [{port: https}]}]}]"),
        "x/a -> 8.8.8.8 TCP/443 = denied", [("CiliumNetworkPolicy/x/c", "spec.egress[0].toPorts")],
    ),
    "a Cilium named port towards all and towards the cluster asks pods": (
        cilium("endpointSelector: {}\negress: [{toEntities: [cluster], toPorts: [{ports: [{port: dns}]}]}]"),
        "x/a -> y/a UDP/53 = allowed\nx/a -> y/a UDP/54 = denied\nx/a -> 8.8.8.8 UDP/53 = denied", [],
    ),
    # --- versions, kinds and lists
    "a kind of the same name in another group is no Service": (
        service("kn", "clusterIP: 172.20.0.50, ports: [{port: 80}]").replace("v1", "serving.knative.dev/v1"),
        "x/a -> 172.20.0.50 TCP/80 = allowed (AllowedByDefault)", [],
    ),
    "an unknown version of a Pod is read, and named": (
        pod("v", labels="{pod: b}").replace("apiVersion: v1", "apiVersion: v2") + FROM_B,
        "x/v -> x/a TCP/80 = allowed", [("Pod/x/v", "apiVersion")],
    ),
    "a policy that says no version closes": (
        SHUT.replace("apiVersion: networking.k8s.io/v1\n", ""), SHUT_X, [("NetworkPolicy/x/p", "apiVersion")],
    ),
    "a kind in small letters": (
        SHUT.replace("NetworkPolicy", "networkpolicy"), OPEN_X, [("networkpolicy/x/p", "kind")],
    ),
    "a kind that is a list": ("kind: [NetworkPolicy]\napiVersion: v1\n", OPEN_X, [("['NetworkPolicy']", "kind")]),
    "a list that holds itself": ("---\n&a\nkind: List\napiVersion: v1\nitems: [*a]\n", OPEN_X, [("List", "items")]),
    "a list without items": ("---\nkind: List\napiVersion: v1\n", OPEN_X, [("List", "items")]),
    "items that are no objects": (
        "---\nkind: List\napiVersion: v1\nitems: [1, null]\n", OPEN_X, [("List", "items")] * 2,
    ),
    "a namespace that is a number": (
        pod("n").replace("namespace: x", "namespace: 5"), OPEN_X, [("Pod/5/n", "metadata.namespace")],
    ),
    "a range of IPv4 written in IPv6": (
        policy("podSelector: {}\ningress: [{from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]"), SHUT_X,
        [("NetworkPolicy/x/p", "spec.ingress[0].from[0].ipBlock.cidr")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_odd_manifests_come_to_the_verdict_reckoned_by_hand(name):
    more, lines, wanted = CASES[name]
    objects = objects_of(XYZ, more)
    assert differences(objects, lines) == []
    problems = judged(objects, queries_of(lines)[0])[1]
    assert sorted((row["object"], row["field"]) for row in problems) == sorted(wanted)
    assert all(row["message"] for row in problems)


ENCODINGS = {
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "carriage returns": lambda text: text.replace("\n", "\r\n").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "empty documents": lambda text: f"---\n---\n# none\n---\n{text}\n---\n...\n".encode(),
    "anchors and merges": lambda text: text.replace("{}", "&s {}", 1).encode() + b"x-more: {<<: {a: 1}}\n",
}


@pytest.mark.parametrize("how", ENCODINGS)
def test_a_file_is_read_however_it_was_saved(files, capsys, how):
    objects, query = files
    (objects / "more.YAML").write_bytes(ENCODINGS[how](SHUT.replace("name: p,", "name: shut,")))
    (objects / "policies" / "p.yml").unlink()
    code, out, _ = call(capsys, "verdict", "--objects", objects, "--query", query, "-o", "json")
    assert code == 0
    assert json.loads(out)["verdicts"][0]["reason"] == "DeniedByIsolation"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"a:\n\tb: 1\n", "line 2"),
        (b"# \xe9\na: 1\n", "no YAML"),
        (b"a: " + b"9" * 5000, "digits"),
        (b"!!python/object/apply:os.getcwd []", "constructor"),
    ],
)
def test_a_manifest_that_is_no_yaml_is_exit_2_with_its_name(files, capsys, data, word):
    objects, query = files
    (objects / "bad.yaml").write_bytes(data)
    code, out, err = call(capsys, "verdict", "--objects", objects, "--query", query, "-o", "json")
    assert (code, out) == (2, "")
    assert "bad.yaml" in err
    assert word in err


@pytest.mark.parametrize(
    ("second", "word"),
    [
        ("{id: two, from: x/b, to: x/zz, port: 80}", "query 'two': to: there is no Pod x/zz"),
        ("{id: one, from: x/b, to: x/a, port: 80}", "query id 'one' is written twice"),
        ("{from: x/b, to: x/a, port: 80}", "query 1: id is missing"),
        ("5", "query 1 must be a mapping"),
        ("{id: two, from: 'fe80::1%eth0', to: x/a, port: 80}", "has a zone"),
        ("{id: two, from: x/b, to: x/a, port: '٨٠'}", "write a number from 1 to 65535"),
        ("{id: two, from: x/b, to: x/a, port: 99999999999999999999}", "write a number from 1 to 65535"),
    ],
)
def test_a_query_that_cannot_be_read_is_told_by_file_line_and_id(files, capsys, second, word):
    objects, query = files
    query.write_text(f"# two queries\n- id: one\n  from: x/b\n  to: x/a\n  port: 80\n\n- {second}\n")
    code, out, err = call(capsys, "verdict", "--objects", objects, "--query", query, "-o", "json")
    assert (code, out) == (2, "")
    assert f"{query}:7: " in err
    assert word in err


def test_families_that_differ_are_both_shown_and_the_problem_says_what_to_write():
    ask = {"id": "both", "from": "x/dual", "to": "x/dual2", "protocol": "TCP", "port": 80}
    rows, problems = judged(objects_of(XYZ, DUAL, FOURS), [ask])
    row = rows["both"]
    assert (row["verdict"], row["reason"]) == ("denied", "FamilyMismatch")
    shown = {name: (each["verdict"], each["reason"]) for name, each in row["families"].items()}
    assert shown == {"IPv4": ("allowed", "AllowedByRule"), "IPv6": ("denied", "DeniedByIsolation")}
    assert [row["field"] for row in problems] == ["family"]
    assert "the query needs family: IPv4 or family: IPv6" in problems[0]["message"]
    assert "families" not in judged(objects_of(XYZ, DUAL), [ask])[0]["both"]


@pytest.mark.parametrize("target", ["service/x/web", "172.20.0.10"])
def test_a_service_asked_by_icmp_says_that_it_answers_none(target):
    ask = {"id": "ping", "from": "x/a", "to": target, "protocol": "ICMP", "icmpType": 8}
    rows, problems = judged(objects_of(XYZ), [ask])
    assert rows["ping"]["reason"] == "NoEndpoints"
    assert [(row["field"], row["reason"]) for row in problems] == [("protocol", "NoEndpoints")]
    assert "answers no ICMP" in problems[0]["message"]
