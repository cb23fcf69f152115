"""CiliumNetworkPolicy and its clusterwide kind: layers 3 and 4 as their documentation says."""

import pytest
from support.policy_cases import differences, judged, objects_of
from unit.policy.worlds import XYZ

pytestmark = pytest.mark.unit


def cilium(spec, name="c", namespace="x", key="spec"):
    wide = not namespace
    where = "" if wide else f", namespace: {namespace}"
    body = "\n".join("  " + line for line in spec.strip("\n").splitlines())
    return f"""
apiVersion: cilium.io/v2
kind: {"CiliumClusterwideNetworkPolicy" if wide else "CiliumNetworkPolicy"}
metadata: {{name: {name}{where}}}
{key}:
{body}
---
"""


EVERY = "endpointSelector: {}\n"
SCENARIOS = {
    "an empty rule closes its direction and opens nothing": (
        cilium(EVERY + "ingress: [{}]"),
        "x/b -> x/a TCP/80 = denied (DeniedByIsolation)\nx/a -> y/a TCP/80 = allowed",
    ),
    "an empty section does nothing": (cilium(EVERY + "ingress: []"), "x/b -> x/a TCP/80 = allowed"),
    "an endpoint selector means the policy's namespace": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{}]}]"),
        "x/b -> x/a TCP/80 = allowed\ny/b -> x/a TCP/80 = denied\n8.8.8.8 -> x/a TCP/80 = denied",
    ),
    "unless it names a namespace": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: y, pod: b}}]}]"),
        "y/b -> x/a TCP/80 = allowed\ny/a -> x/a TCP/80 = denied\nx/b -> x/a TCP/80 = denied",
    ),
    "or labels of namespaces": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{matchLabels: {io.cilium.k8s.namespace.labels.ns: z}}]}]"),
        "z/b -> x/a TCP/80 = allowed\ny/a -> x/a TCP/80 = denied\nx/b -> x/a TCP/80 = denied",
    ),
    "service accounts are labels": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.serviceaccount: default}}]}]"),
        "x/b -> x/a TCP/80 = allowed",
    ),
    "a clusterwide selector means pods of every namespace, and pods only": (
        cilium("endpointSelector: {matchLabels: {pod: a}}\ningress: [{fromEndpoints: [{}]}]", namespace=""),
        "y/b -> x/a TCP/80 = allowed\n8.8.8.8 -> x/a TCP/80 = denied\nnode/n2 -> x/a TCP/80 = denied",
    ),
    "an empty list of peers selects nothing": (
        cilium(EVERY + "ingress: [{fromEndpoints: [], toPorts: [{ports: [{port: '80'}]}]}]"),
        "x/b -> x/a TCP/80 = denied",
    ),
    "ports without peers are for every peer": (
        cilium(EVERY + "ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]"),
        "8.8.8.8 -> x/a TCP/80 = allowed\nx/b -> x/a UDP/80 = denied\nx/b -> x/a ICMP/8 = denied",
    ),
    "ANY is TCP, UDP and SCTP, not ICMP": (
        cilium(EVERY + "ingress: [{toPorts: [{ports: [{port: '80'}]}]}]"),
        """x/b -> x/a TCP/80 = allowed
        x/b -> x/a UDP/80 = allowed
        x/b -> x/a SCTP/80 = allowed
        x/b -> x/a ICMP/8 = denied""",
    ),
    "port 0 is every port, and endPort ends a range": (
        cilium(
            EVERY + "ingress: [{toPorts: [{ports: [{port: '0', protocol: UDP}, "
            "{port: '80', endPort: 90, protocol: TCP}]}]}]"
        ),
        "x/b -> x/a UDP/9999 = allowed\nx/b -> x/a TCP/85 = allowed\nx/b -> x/a TCP/91 = denied",
    ),
    "port names are the receiving pod's, in any case of letters": (
        cilium(EVERY + "ingress: [{toPorts: [{ports: [{port: Serve-80, protocol: TCP}]}]}]"),
        "x/b -> x/a TCP/80 = allowed\nx/b -> x/a TCP/81 = denied",
    ),
    "ICMP by number and by name": (
        cilium(EVERY + "ingress: [{icmps: [{fields: [{type: 8}, {type: TimeExceeded, family: IPv4}]}]}]"),
        """x/b -> x/a ICMP/8 = allowed
        x/b -> x/a ICMP/11 = allowed
        x/b -> x/a ICMP/0 = denied
        x/b -> x/a TCP/80 = denied""",
    ),
    "deny is stronger than allow, however special": (
        cilium(
            EVERY + "ingress: [{fromEndpoints: [{matchLabels: {pod: b}}], toPorts: [{ports: [{port: '80'}]}]}]\n"
            "ingressDeny: [{fromEntities: [cluster]}]"
        ),
        "x/b -> x/a TCP/80 = denied (DeniedByRule)",
    ),
    "deny takes back what a NetworkPolicy allows": (
        cilium(EVERY + "ingressDeny: [{fromEndpoints: [{matchLabels: {pod: b}}]}]")
        + "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n, namespace: x}\n"
        "spec: {podSelector: {}, ingress: [{}]}",
        "x/b -> x/a TCP/80 = denied\nx/c -> x/a TCP/80 = allowed",
    ),
    "a deny section isolates as well": (
        cilium(EVERY + "ingressDeny: [{fromEndpoints: [{matchLabels: {pod: b}}]}]"),
        "x/c -> x/a TCP/80 = denied (DeniedByIsolation)",
    ),
    "without default deny the rest stays open": (
        cilium(
            EVERY + "enableDefaultDeny: {ingress: false}\ningressDeny: [{fromEndpoints: [{matchLabels: {pod: b}}]}]"
        ),
        "x/b -> x/a TCP/80 = denied\nx/c -> x/a TCP/80 = allowed",
    ),
    "isolation by another policy wins over enableDefaultDeny false": (
        cilium(EVERY + "enableDefaultDeny: {ingress: false}\ningress: [{fromEndpoints: [{matchLabels: {pod: b}}]}]")
        + cilium(EVERY + "ingress: [{}]", "closes"),
        "x/b -> x/a TCP/80 = allowed\nx/c -> x/a TCP/80 = denied",
    ),
    "world is what is outside, host the own node, remote-node the others": (
        cilium(EVERY + "egress: [{toEntities: [world, host]}]"),
        """x/a -> 8.8.8.8 TCP/80 = allowed
        x/a -> node/n1 TCP/80 = allowed
        x/a -> node/n2 TCP/80 = denied
        x/a -> x/host TCP/80 = denied
        x/a -> y/a TCP/80 = denied""",
    ),
    "remote-node": (
        cilium(EVERY + "egress: [{toEntities: [remote-node]}]"),
        "x/a -> node/n2 TCP/80 = allowed\nx/a -> node/n1 TCP/80 = denied\nx/b -> node/n1 TCP/80 = allowed",
    ),
    "cluster is pods and nodes": (
        cilium(EVERY + "egress: [{toEntities: [cluster]}]"),
        "x/a -> y/a TCP/80 = allowed\nx/a -> node/n2 TCP/80 = allowed\nx/a -> 8.8.8.8 TCP/80 = denied",
    ),
    "all is all": (
        cilium(EVERY + "egress: [{toEntities: [all]}]"),
        "x/a -> y/a TCP/80 = allowed\nx/a -> 8.8.8.8 ICMP/8 = allowed",
    ),
    "reserved labels are entities": (
        cilium(EVERY + "egress: [{toEndpoints: [{matchLabels: {reserved:world: ''}}]}]"),
        "x/a -> 8.8.8.8 TCP/80 = allowed\nx/a -> y/a TCP/80 = denied",
    ),
    "ranges match neither pods nor nodes": (
        cilium(EVERY + "egress: [{toCIDR: [0.0.0.0/0]}]"),
        "x/a -> 8.8.8.8 TCP/80 = allowed\nx/a -> y/a TCP/80 = denied\nx/a -> node/n2 TCP/80 = denied",
    ),
    "an address alone is a range of one": (
        cilium(EVERY + "egress: [{toCIDR: [8.8.8.8]}]"),
        "x/a -> 8.8.8.8 TCP/80 = allowed\nx/a -> 8.8.8.9 TCP/80 = denied",
    ),
    "except takes away from its own range": (
        cilium(EVERY + "egress: [{toCIDRSet: [{cidr: 8.0.0.0/8, except: [8.8.0.0/16]}]}, {toCIDR: [8.8.8.8/32]}]"),
        "x/a -> 8.9.0.1 TCP/80 = allowed\nx/a -> 8.8.0.1 TCP/80 = denied\nx/a -> 8.8.8.8 TCP/80 = allowed",
    ),
    "a narrow range under a wide deny stays denied, beside it open": (
        cilium(EVERY + "egress: [{toCIDR: [8.8.8.0/24]}]\negressDeny: [{toCIDR: [8.8.0.0/16]}]"),
        "x/a -> 8.8.8.8 TCP/80 = denied (DeniedByRule)",
    ),
    "the API server is the endpoints of its Service": (
        cilium(EVERY + "egress: [{toEntities: [kube-apiserver]}]")
        + """
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 172.20.0.1, ports: [{name: https, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
ports: [{name: https, port: 443}]
endpoints: [{addresses: [10.99.0.1]}]
""",
        """x/a -> service/default/kubernetes TCP/443 = allowed
        x/a -> 10.99.0.1 TCP/443 = allowed
        x/a -> 8.8.8.8 TCP/443 = denied""",
    ),
    "toServices: its endpoints and what the Service selects": (
        cilium(EVERY + "egress: [{toServices: [{k8sService: {serviceName: web, namespace: x}}]}]"),
        "x/a -> service/x/web TCP/80 = allowed\nx/a -> x/b TCP/9 = allowed\nx/a -> x/c TCP/80 = denied",
    ),
    "toServices: the endpoints of a Service without a selector": (
        cilium(EVERY + "egress: [{toServices: [{k8sServiceSelector: {selector: {matchLabels: {app: ext}}}}]}]")
        + """
apiVersion: v1
kind: Service
metadata: {name: ext, namespace: z, labels: {app: ext}}
spec: {ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ext-1, namespace: z, labels: {kubernetes.io/service-name: ext}}
addressType: IPv4
ports: [{port: 5432}]
endpoints: [{addresses: [192.0.2.7]}]
""",
        "x/a -> 192.0.2.7 TCP/5432 = allowed\nx/a -> 192.0.2.8 TCP/5432 = denied",
    ),
    "nodes by their labels": (
        cilium(EVERY + "egress: [{toNodes: [{matchLabels: {zone: two}}]}]"),
        "x/a -> node/n2 TCP/80 = allowed\nx/a -> node/n1 TCP/80 = denied",
    ),
    "several specs in one object": (
        cilium("- {endpointSelector: {}, ingress: [{}]}\n- {endpointSelector: {}, ingress: [{fromEndpoints: "
               "[{matchLabels: {pod: b}}]}]}", key="specs"),
        "x/b -> x/a TCP/80 = allowed\nx/c -> x/a TCP/80 = denied",
    ),
    "another cluster's pods are none of ours": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.cluster: other}}]}, "
               "{fromEndpoints: [{matchLabels: {io.cilium.k8s.policy.cluster: default, pod: b}}]}]"),
        "x/b -> x/a TCP/80 = allowed\nx/c -> x/a TCP/80 = denied",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_cilium_policy_works_as_its_documentation_says(name):
    policies, lines = SCENARIOS[name]
    objects = objects_of(XYZ, policies)
    assert differences(objects, lines) == []
    assert {problem["reason"] for problem in judged(objects, [])[1]} <= {"PriorityClash"}


def test_a_deny_rule_is_named_by_its_own_list_and_action():
    rows, problems = judged(
        objects_of(XYZ, cilium(EVERY + "ingress: [{}]\ningressDeny: [{}, {fromEndpoints: [{matchLabels: {pod: b}}]}]")),
        [{"id": "q", "from": "x/b", "to": "x/a", "protocol": "TCP", "port": 80}],
    )
    assert problems == []
    rule = rows["q"]["ingress"]["rule"]
    assert (rule["kind"], rule["tier"], rule["index"], rule["action"]) == ("CiliumNetworkPolicy", "Cilium", 1, "Deny")
