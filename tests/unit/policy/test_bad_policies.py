"""Each wrong manifest: the problem names the field and what to write, its part is closed, the rest stays in force."""

import pytest
from support.policy_cases import differences, judged, objects_of
from unit.policy.test_cilium import EVERY, cilium
from unit.policy.test_clusternetworkpolicy import ANCESTORS, RED, cnp
from unit.policy.test_networkpolicy import policy
from unit.policy.worlds import HOUSES, XYZ

from enitide_api.reasons import Reason

pytestmark = pytest.mark.unit
FINE = "{podSelector: {matchLabels: {pod: b}}}"
OPEN, SHUT = "x/b -> x/a TCP/80 = allowed", "x/b -> x/a TCP/80 = denied"
BLUE = "{namespaces: {matchLabels: {house: blue}}}"
BLUE_RED = "house-blue/blue-0 -> house-red/red-0 TCP/80 = "


def ingress(rules, more=""):
    return policy(f"podSelector: {{}}\ningress: {rules}{more}")


# manifests; the field; a word of the message; what follows. Of NetworkPolicy and Cilium, in world x, y, z.
NAMESPACED = {
    "cidr without a length": (
        ingress(f"[{{from: [{{ipBlock: {{cidr: 10.0.0.1}}}}, {FINE}]}}]"),
        "spec.ingress[0].from[0].ipBlock.cidr",
        "10.0.0.0/8",
        OPEN,
    ),
    "cidr that is none": (
        ingress("[{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]"),
        "spec.ingress[0].from[0].ipBlock.cidr",
        "no CIDR",
        SHUT,
    ),
    "except outside its cidr closes the whole block": (
        ingress("[{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]"),
        "spec.ingress[0].from[0].ipBlock.except[0]",
        "inside 10.0.0.0/8",
        SHUT,
    ),
    "except of the other family": (
        ingress("[{from: [{ipBlock: {cidr: 10.0.0.0/8, except: ['fd00::/8']}}]}]"),
        "spec.ingress[0].from[0].ipBlock.except[0]",
        "inside",
        SHUT,
    ),
    "a peer that says nothing": (
        ingress(f"[{{from: [{{}}, {FINE}]}}]"),
        "spec.ingress[0].from[0]",
        "podSelector",
        OPEN,
    ),
    "ipBlock beside a selector": (
        ingress("[{from: [{ipBlock: {cidr: 0.0.0.0/0}, podSelector: {}}]}]"),
        "spec.ingress[0].from[0]",
        "stands alone",
        SHUT,
    ),
    "an unknown kind of peer": (
        ingress(f"[{{from: [{{serviceSelector: {{}}}}, {FINE}]}}]"),
        "spec.ingress[0].from[0].serviceSelector",
        "ipBlock",
        OPEN,
    ),
    "an unknown field of a rule closes the rule": (
        ingress("[{from: [], until: tomorrow}]"),
        "spec.ingress[0].until",
        "from, ports",
        SHUT,
    ),
    "an unknown field of the spec isolates both directions": (
        policy("podSelector: {matchLabels: {pod: b}}\ningress: [{}]\negres: []"),
        "spec.egres",
        "egress",
        SHUT,
    ),
    "port 0": (ingress("[{ports: [{port: 0}, {port: 80}]}]"), "spec.ingress[0].ports[0].port", "1 to 65535", OPEN),
    "port 70000": (ingress("[{ports: [{port: 70000}]}]"), "spec.ingress[0].ports[0].port", "1 to 65535", SHUT),
    "a port number in quotes": (ingress("[{ports: [{port: '80'}]}]"), "spec.ingress[0].ports[0].port", "name", SHUT),
    "endPort below port": (
        ingress("[{ports: [{port: 80, endPort: 79}]}]"),
        "spec.ingress[0].ports[0].endPort",
        "80 or more",
        SHUT,
    ),
    "endPort without port": (
        ingress("[{ports: [{endPort: 79}]}]"),
        "spec.ingress[0].ports[0].endPort",
        "needs port",
        SHUT,
    ),
    "endPort with a name": (
        ingress("[{ports: [{port: web, endPort: 90}]}]"),
        "spec.ingress[0].ports[0].endPort",
        "numeric",
        SHUT,
    ),
    "an unknown protocol": (
        ingress("[{ports: [{protocol: ICMP, port: 8}]}]"),
        "spec.ingress[0].ports[0].protocol",
        "TCP, UDP, SCTP",
        SHUT,
    ),
    "ports that are no list": (ingress("[{ports: 80}]"), "spec.ingress[0].ports", "list", SHUT),
    "rules that are no list": (policy("podSelector: {}\ningress: {}"), "spec.ingress", "list", SHUT),
    "a spec that is none": (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: x}\nspec: 5\n",
        "spec",
        "mapping",
        SHUT,
    ),
    "an unknown policy type isolates both directions": (
        policy("podSelector: {matchLabels: {pod: b}}\npolicyTypes: [Ingres]\ningress: [{}]"),
        "spec.policyTypes[0]",
        "Ingress, Egress",
        SHUT,
    ),
    "an unknown operator": (
        ingress(f"[{{from: [{{podSelector: {{matchExpressions: [{{key: a, operator: Like}}]}}}}, {FINE}]}}]"),
        "spec.ingress[0].from[0].podSelector.matchExpressions[0].operator",
        "NotIn",
        OPEN,
    ),
    "In without values": (
        ingress("[{from: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]}]"),
        "spec.ingress[0].from[0].podSelector.matchExpressions[0].values",
        "at least one",
        SHUT,
    ),
    "Exists with values": (
        ingress("[{from: [{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]}]"),
        "spec.ingress[0].from[0].podSelector.matchExpressions[0].values",
        "no values",
        SHUT,
    ),
    "a label that is none": (
        ingress("[{from: [{podSelector: {matchLabels: {'a b': c}}}]}]"),
        "spec.ingress[0].from[0].podSelector.matchLabels.a b",
        "label key",
        SHUT,
    ),
    "a label value that is a number": (
        ingress("[{from: [{podSelector: {matchLabels: {version: 1}}}]}]"),
        "spec.ingress[0].from[0].podSelector.matchLabels.version",
        "quotes",
        SHUT,
    ),
    "a subject that cannot be read: the namespace is closed, nothing is opened": (
        policy("podSelector: {matchExpressions: [{key: pod, operator: Maybe}]}\ningress: [{}]"),
        "spec.podSelector.matchExpressions[0].operator",
        "DoesNotExist",
        SHUT,
    ),
    "an old version is named": (
        ingress("[{}]").replace("networking.k8s.io/v1", "extensions/v1beta1"),
        "apiVersion",
        "networking.k8s.io/v1",
        OPEN,
    ),
    "Cilium: DNS names": (
        cilium(EVERY + "egress: [{toFQDNs: [{matchName: example.com}]}]"),
        "spec.egress[0].toFQDNs",
        "CIDRs",
        "x/a -> 8.8.8.8 TCP/443 = denied",
    ),
    "Cilium: layer 7, of one item only": (
        cilium(
            EVERY + "ingress: [{toPorts: [{ports: [{port: '81'}], rules: {http: [{method: GET}]}}, "
            "{ports: [{port: '80'}]}]}]"
        ),
        "spec.ingress[0].toPorts[0].rules.http",
        "layer 7",
        OPEN + "\nx/b -> x/a TCP/81 = denied",
    ),
    "Cilium: two kinds of peers in one rule": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{}], fromEntities: [world]}]"),
        "spec.ingress[0]",
        "a rule for each",
        SHUT,
    ),
    "Cilium: an unknown entity": (
        cilium(EVERY + "ingress: [{fromEntities: [moon, all]}]"),
        "spec.ingress[0].fromEntities[0]",
        "kube-apiserver",
        OPEN,
    ),
    "Cilium: a broken item of a deny denies all": (
        cilium(EVERY + "ingress: [{fromEntities: [all]}]\ningressDeny: [{fromEntities: [moon]}]"),
        "spec.ingressDeny[0].fromEntities[0]",
        "write one of",
        SHUT + " (DeniedFailClosed)",
    ),
    "Cilium: a broken port of a deny denies all": (
        cilium(
            EVERY + "ingress: [{fromEntities: [all]}]\n"
            "ingressDeny: [{fromEndpoints: [{}], toPorts: [{ports: [{port: '99999'}]}]}]"
        ),
        "spec.ingressDeny[0].toPorts[0].ports[0].port",
        "65535",
        SHUT + " (DeniedFailClosed)",
    ),
    "Cilium: ports beside ICMP": (
        cilium(EVERY + "ingress: [{toPorts: [{ports: [{port: '80'}]}], icmps: [{fields: [{type: 8}]}]}]"),
        "spec.ingress[0].icmps",
        "rule of its own",
        SHUT,
    ),
    "Cilium: an unknown ICMP type": (
        cilium(EVERY + "ingress: [{icmps: [{fields: [{type: Ping}]}]}]"),
        "spec.ingress[0].icmps[0].fields[0].type",
        "EchoRequest",
        SHUT,
    ),
    "Cilium: policies of nodes": (
        cilium("nodeSelector: {}\ningress: [{}]", namespace=""),
        "spec.nodeSelector",
        "host_policy",
        OPEN,
    ),
    "Cilium: nodes in a namespace": (
        cilium("nodeSelector: {}\ningress: [{}]"),
        "spec.nodeSelector",
        "CiliumClusterwideNetworkPolicy",
        OPEN,
    ),
    "Cilium: groups of ranges": (
        cilium(EVERY + "egress: [{toCIDRSet: [{cidrGroupRef: g}]}]"),
        "spec.egress[0].toCIDRSet[0].cidrGroupRef",
        "cidr",
        "x/a -> 8.8.8.8 TCP/1 = denied",
    ),
    "Cilium: authentication": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{}], authentication: {mode: required}}]"),
        "spec.ingress[0].authentication.mode",
        "disabled",
        SHUT,
    ),
    "Cilium: requirements": (
        cilium(EVERY + "ingress: [{fromRequires: [{}], fromEndpoints: [{}]}]"),
        "spec.ingress[0].fromRequires",
        "endpoint selectors",
        SHUT,
    ),
    "Cilium: another namespace as subject is left aside": (
        cilium("endpointSelector: {matchLabels: {io.kubernetes.pod.namespace: y}}\ningress: [{}]"),
        "spec.endpointSelector",
        "clusterwide",
        SHUT,
    ),
    "Cilium: no subject": (cilium("ingress: [{}]"), "spec.endpointSelector", "endpointSelector: {}", SHUT),
    "Cilium: labels of a source that no pod has": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{matchLabels: {container:id: x}}]}]"),
        "spec.ingress[0].fromEndpoints[0].matchLabels.container:id",
        "k8s:id",
        SHUT,
    ),
    "a policy of a kind that is not read": (
        "apiVersion: crd.projectcalico.org/v1\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\n",
        "kind",
        "NetworkPolicy",
        OPEN,
    ),
}

CLUSTER = {
    "an unknown tier": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Accept, from: [{BLUE}]}}]", "Platform"),
        "spec.tier",
        "Admin, Baseline",
        "allowed",
    ),
    "a priority out of bounds": (
        cnp("c", 1001, f"{RED}\ningress: [{{action: Pass, from: [{BLUE}]}}]"),
        "spec.priority",
        "0 to 1000",
        "denied",
    ),
    "an unknown action denies": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Allow, from: [{BLUE}]}}]"),
        "spec.ingress[0].action",
        "Accept, Deny, Pass",
        "denied",
    ),
    "no peers": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Deny, from: []}}]"),
        "spec.ingress[0].from",
        "1 to 25",
        "denied",
    ),
    "an unknown kind of peer in an Accept matches nothing": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Accept, from: [{{moons: {{}}}}]}}, {{action: Deny, from: [{BLUE}]}}]"),
        "spec.ingress[0].from[0].moons",
        "namespaces",
        "denied",
    ),
    "an unknown kind of peer in a Pass denies all": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Pass, from: [{{moons: {{}}}}]}}]"),
        "spec.ingress[0].from[0].moons",
        "namespaces",
        "denied (DeniedFailClosed)",
    ),
    "networks are for egress": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Deny, from: [{{networks: [10.0.0.0/8]}}]}}]"),
        "spec.ingress[0].from[0].networks",
        "pods",
        "denied",
    ),
    "domain names": (
        cnp("c", 1, f"{RED}\negress: [{{action: Accept, to: [{{domainNames: [example.com]}}]}}]"),
        "spec.egress[0].to[0].domainNames",
        "networks",
        "allowed",
    ),
    "a range that is none": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Accept, from: [{BLUE}], protocols: [{{tcp: {{destinationPort: "
                    "{range: {start: 9, end: 9}}}}]}]"),
        "spec.ingress[0].protocols[0].tcp.destinationPort.range.end",
        "above",
        "allowed",
    ),
    "a name for addresses": (
        cnp("c", 1, f"{RED}\negress: [{{action: Accept, to: [{{networks: [10.0.0.0/8]}}], "
                    "protocols: [{destinationNamedPort: web}]}]"),
        "spec.egress[0].protocols",
        "number",
        "allowed",
    ),
    "a subject that cannot be read: whatever it denies is denied to all": (
        cnp("c", 1, f"subject: {{houses: {{}}}}\ningress: [{{action: Deny, from: [{BLUE}]}}]"),
        "spec.subject.houses",
        "namespaces, pods",
        "denied",
    ),
    "two subjects": (
        cnp("c", 1, f"subject: {{namespaces: {{}}, pods: {{}}}}\ningress: [{{action: Pass, from: [{BLUE}]}}]"),
        "spec.subject",
        "exactly one",
        "denied",
    ),
    "equal priorities": (
        cnp("a", 7, f"{RED}\ningress: [{{action: Accept, from: [{BLUE}]}}]")
        + cnp("b", 7, f"{RED}\ningress: [{{action: Deny, from: [{BLUE}]}}]"),
        "spec.priority",
        "ClusterNetworkPolicy/b",
        "allowed",
    ),
    "a baseline of another name": (
        ANCESTORS.partition("---")[2].replace("{name: default}", "{name: mine}"),
        "metadata.name",
        "default",
        "denied",
    ),
}  # fmt: skip

OTHERS = policy("podSelector: {}", "other", "z")


@pytest.mark.parametrize("name", NAMESPACED)
def test_a_wrong_part_is_named_and_closed_and_the_rest_stays(name):
    manifest, field, word, lines = NAMESPACED[name]
    objects = objects_of(XYZ, manifest, OTHERS)
    _, problems = judged(objects, [])
    assert [problem["field"] for problem in problems] == [field], problems
    assert word in problems[0]["message"]
    assert problems[0]["reason"] in set(Reason)
    assert differences(objects, lines + "\nx/a -> z/a TCP/80 = denied") == []


@pytest.mark.parametrize("name", CLUSTER)
def test_a_wrong_part_of_a_cluster_policy_is_named_and_closed(name):
    manifest, field, word, verdict = CLUSTER[name]
    objects = objects_of(HOUSES, manifest)
    _, problems = judged(objects, [])
    assert {problem["field"] for problem in problems} == {field}, problems
    assert word in problems[0]["message"]
    assert differences(objects, BLUE_RED + verdict) == []


def test_a_closed_deny_says_that_it_is_closed():
    broken = cnp("c", 1, f"{RED}\ningress: [{{action: Deny, from: [{{moons: {{}}}}]}}]")
    assert differences(objects_of(HOUSES, broken), BLUE_RED + "denied (DeniedFailClosed)") == []


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("kind: Pod\nmetadata: {name: p, labels: {v: 1}}", "metadata.labels.v"),
        ("kind: Pod\nmetadata: {name: p}\nstatus: {podIPs: [{ip: 10.0.0.256}]}", "status.podIPs"),
        ("kind: Pod\nmetadata: {}", "metadata.name"),
        ("kind: Pod\nmetadata: {name: p}\nspec: {containers: [{ports: [{containerPort: 0}]}]}", "spec.containers"),
        ("kind: Node\nmetadata: {name: p}\nstatus: {addresses: [{type: InternalIP, address: x}]}", "status.addresses"),
        ("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: p}", "metadata.labels"),
        ("kind: Service\nmetadata: {name: p}\nspec: {ports: [{port: 0}]}", "spec.ports[0]"),
        ("metadata: {name: p}", "kind"),
        ("kind: Namespace\nmetadata: {name: x}", "metadata.name"),
    ],
)
def test_a_wrong_object_is_named_and_the_verdicts_go_on(text, field):
    objects = objects_of(XYZ, text if text.startswith("apiVersion") else "apiVersion: v1\n" + text)
    _, problems = judged(objects, [])
    assert [(problem["field"], problem["reason"]) for problem in problems] == [(field, "ObjectInvalid")]
    assert differences(objects, "x/b -> x/a TCP/80 = allowed") == []


def test_no_manifest_at_all_makes_parsing_raise():
    odd = [None, 5, "text", [], [[]], {"a": {}}, {"spec": []}, True, 1.5, {"": None}]
    kinds = ("NetworkPolicy", "ClusterNetworkPolicy", "CiliumNetworkPolicy", "AdminNetworkPolicy", "Pod", "Service")
    places = ("spec", "metadata", "status")
    sections = ("ingress", "egress", "ingressDeny", "subject", "podSelector", "endpointSelector", "priority", "specs")
    for kind in kinds:
        for value in odd:
            for place in places:
                judged([{"kind": kind, "apiVersion": "a/b", "metadata": {"name": "n"}, place: value}], [])
            for section in sections:
                for spec in ({section: value}, {section: [value]}, {section: [{"from": value, "ports": value}]}):
                    judged([{"kind": kind, "apiVersion": "a/b", "metadata": {"name": "n"}, "spec": spec}], [])
