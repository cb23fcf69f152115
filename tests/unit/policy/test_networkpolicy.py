"""NetworkPolicy: each sentence of its specification as a scenario, judged by `policy verdict`."""

import pytest
from support.policy_cases import differences, judged, objects_of
from unit.policy.worlds import XYZ

pytestmark = pytest.mark.unit


def policy(spec, name="p", namespace="x"):
    body = "\n".join("  " + line for line in spec.strip("\n").splitlines())
    return f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
{body}
"""


SCENARIOS = {
    "without a policy everything is open": ("", "x/a -> y/b TCP/80 = allowed (AllowedByDefault)"),
    "default deny of ingress closes what it selects and nothing else": (
        policy("podSelector: {}\npolicyTypes: [Ingress]"),
        """x/b -> x/a TCP/80 = denied (DeniedByIsolation)
        y/a -> x/a UDP/80 = denied
        x/a -> y/a TCP/80 = allowed
        y/a -> z/a TCP/80 = allowed
        x/a -> x/a TCP/80 = allowed (SelfTraffic)""",
    ),
    "default deny of egress closes what leaves": (
        policy("podSelector: {matchLabels: {pod: a}}\npolicyTypes: [Egress]"),
        """x/a -> x/b TCP/80 = denied
        x/a -> 8.8.8.8 UDP/53 = denied
        x/b -> x/a TCP/80 = allowed""",
    ),
    "an empty rule allows all": (
        policy("podSelector: {}\ningress: [{}]"),
        "y/a -> x/a TCP/81 = allowed (AllowedByRule)\n8.8.8.8 -> x/b ICMP/8 = allowed",
    ),
    "an empty list of peers is every peer, an empty list of ports every port": (
        policy("podSelector: {}\ningress: [{from: [], ports: []}]"),
        "8.8.8.8 -> x/a SCTP/9 = allowed",
    ),
    "a pod selector alone means the policy's own namespace": (
        policy("podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]"),
        "x/b -> x/a TCP/80 = allowed\ny/b -> x/a TCP/80 = denied\nx/c -> x/a TCP/80 = denied",
    ),
    "a namespace selector alone means all pods of these namespaces, and nothing outside": (
        policy("podSelector: {}\ningress: [{from: [{namespaceSelector: {}}]}]"),
        "y/b -> x/a TCP/80 = allowed\n8.8.8.8 -> x/a TCP/80 = denied\nnode/n2 -> x/a TCP/80 = denied",
    ),
    "both in one peer are AND": (
        policy(
            "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}, "
            "podSelector: {matchLabels: {pod: b}}}]}]"
        ),
        "y/b -> x/a TCP/80 = allowed\ny/a -> x/a TCP/80 = denied\nx/b -> x/a TCP/80 = denied",
    ),
    "two peers are OR": (
        policy(
            "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}, "
            "{podSelector: {matchLabels: {pod: b}}}]}]"
        ),
        "y/a -> x/a TCP/80 = allowed\nx/b -> x/a TCP/80 = allowed\nz/b -> x/a TCP/80 = denied",
    ),
    "a namespace is found by the label that the API server adds": (
        policy(
            "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]}]"
        ),
        "z/a -> x/a TCP/80 = allowed\ny/a -> x/a TCP/80 = denied",
    ),
    "match expressions": (
        policy(
            "podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}\n"
            "ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [y]}]}, "
            "podSelector: {matchExpressions: [{key: absent, operator: DoesNotExist}, {key: pod, operator: Exists}]}}]}]"
        ),
        "z/a -> x/a TCP/80 = allowed\ny/a -> x/b TCP/80 = denied\ny/a -> x/c TCP/80 = allowed",
    ),
    "a rule is peers AND ports": (
        policy(
            "podSelector: {}\ningress: [{from: [{podSelector: {}}], ports: [{port: 80}, {port: 53, protocol: UDP}]}]"
        ),
        """x/b -> x/a TCP/80 = allowed
        x/b -> x/a UDP/53 = allowed
        x/b -> x/a UDP/80 = denied
        x/b -> x/a TCP/53 = denied
        x/b -> x/a ICMP/8 = denied
        y/b -> x/a TCP/80 = denied""",
    ),
    "a rule without ports allows ICMP too": (
        policy("podSelector: {}\ningress: [{from: [{podSelector: {}}]}]"),
        "x/b -> x/a ICMP/8 = allowed\ny/b -> x/a ICMP/8 = denied",
    ),
    "SCTP is a protocol of its own": (
        policy("podSelector: {}\ningress: [{ports: [{protocol: SCTP, port: 80}]}]"),
        "x/b -> x/a SCTP/80 = allowed\nx/b -> x/a TCP/80 = denied",
    ),
    "a protocol without a port is all its ports": (
        policy("podSelector: {}\ningress: [{ports: [{protocol: UDP}]}]"),
        "x/b -> x/a UDP/1 = allowed\nx/b -> x/a UDP/65535 = allowed\nx/b -> x/a TCP/1 = denied",
    ),
    "a port range has both its ends": (
        policy("podSelector: {}\ningress: [{ports: [{port: 80, endPort: 90}]}]"),
        """x/b -> x/a TCP/79 = denied
        x/b -> x/a TCP/80 = allowed
        x/b -> x/a TCP/90 = allowed
        x/b -> x/a TCP/91 = denied""",
    ),
    "a named port is the receiving pod's, on ingress": (
        policy("podSelector: {}\ningress: [{ports: [{port: serve-80}]}]"),
        "y/a -> x/a TCP/80 = allowed\ny/a -> x/a TCP/81 = denied\ny/a -> x/a UDP/80 = denied",
    ),
    "a named port is the receiving pod's, on egress, and may differ between pods": (
        policy("podSelector: {}\npolicyTypes: [Egress]\negress: [{ports: [{port: web}]}]"),
        """x/a -> y/a TCP/8001 = allowed
        x/a -> y/b TCP/8002 = allowed
        x/a -> y/a TCP/8002 = denied
        x/a -> y/c TCP/8001 = denied
        x/a -> 8.8.8.8 TCP/8001 = denied""",
    ),
    "a named port asked of a range is that of each pod in the range": (
        policy(
            "podSelector: {matchLabels: {pod: a}}\npolicyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: "
            "10.0.0.0/16, except: [10.0.2.2/32]}}], ports: [{port: web}, {port: dns, protocol: UDP}]}]"
        ),
        """x/a -> y/a TCP/8001 = allowed (AllowedByRule)
        x/a -> y/a TCP/8002 = denied (DeniedByIsolation)
        x/a -> y/b TCP/8002 = denied  # in the exception
        x/a -> y/c TCP/80 = denied
        x/a -> z/c UDP/53 = allowed
        x/a -> y/b UDP/53 = denied
        x/a -> 8.8.8.8 UDP/53 = denied""",
    ),
    "a named port needs its protocol": (
        policy("podSelector: {}\ningress: [{ports: [{port: serve-80, protocol: UDP}]}]"),
        "y/a -> x/a UDP/80 = denied\ny/a -> x/a TCP/80 = denied",
    ),
    "a named port that no pod has matches nothing": (
        policy("podSelector: {}\ningress: [{ports: [{port: nobody}]}]"),
        "y/a -> x/a TCP/80 = denied",
    ),
    "an ipBlock reaches outside": (
        policy("podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 8.8.0.0/16}}]}]"),
        "x/a -> 8.8.8.8 TCP/80 = allowed\nx/a -> 9.9.9.9 TCP/80 = denied\nx/a -> y/a TCP/80 = denied",
    ),
    "an ipBlock matches pods and nodes by their address": (
        policy(
            "podSelector: {}\npolicyTypes: [Egress]\n"
            "egress: [{to: [{ipBlock: {cidr: 10.0.2.0/24}}, {ipBlock: {cidr: 172.16.0.2/32}}]}]"
        ),
        """x/a -> y/a TCP/80 = allowed
        x/a -> z/a TCP/80 = denied
        x/a -> node/n2 TCP/80 = allowed
        x/a -> node/n1 TCP/80 = denied""",
    ),
    "except takes away from its own block only": (
        policy(
            "podSelector: {}\npolicyTypes: [Egress]\n"
            "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.2.0/24]}}]}]"
        ),
        "x/a -> z/a TCP/80 = allowed\nx/a -> y/a TCP/80 = denied",
    ),
    "another rule may admit what except leaves out": (
        policy(
            "podSelector: {}\npolicyTypes: [Egress]\n"
            "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.2.0/24]}}, "
            "{ipBlock: {cidr: 10.0.2.1/32}}]}]"
        ),
        "x/a -> y/a TCP/80 = allowed\nx/a -> y/b TCP/80 = denied",
    ),
    "egress rules alone isolate egress and ingress": (
        policy("podSelector: {}\negress: [{to: [{podSelector: {}}]}]"),
        "x/a -> x/b TCP/80 = denied\ny/a -> x/a TCP/80 = denied\nx/a -> y/a TCP/80 = denied",
    ),
    "rules of a direction that policyTypes leaves out have no effect": (
        policy("podSelector: {}\npolicyTypes: [Egress]\ningress: []\negress: [{}]"),
        "y/a -> x/a TCP/80 = allowed",
    ),
    "policies add up, in any order": (
        policy("podSelector: {}", "deny")
        + "---"
        + policy("podSelector: {matchLabels: {pod: a}}\ningress: [{ports: [{port: 80}]}]", "eighty")
        + "---"
        + policy("podSelector: {}\ningress: [{ports: [{port: 81}]}]", "more"),
        "y/a -> x/a TCP/80 = allowed\ny/a -> x/a TCP/81 = allowed\ny/a -> x/b TCP/80 = denied",
    ),
    "both the sender's egress and the receiver's ingress must allow": (
        policy("podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{namespaceSelector: {matchLabels: {ns: y}}}]}]")
        + "---"
        + policy("podSelector: {matchLabels: {pod: b}}\npolicyTypes: [Ingress]", "p", "y"),
        "x/a -> y/a TCP/80 = allowed\nx/a -> y/b TCP/80 = denied\nx/a -> z/a TCP/80 = denied",
    ),
    "host-network pods are no subject, and as peers only their node's address": (
        policy("podSelector: {}\ningress: [{from: [{namespaceSelector: {}}]}]")
        + "---"
        + policy("podSelector: {}\npolicyTypes: [Ingress, Egress]", "p", "z"),
        """x/host -> x/a TCP/80 = denied
        y/a -> x/host TCP/80 = allowed
        y/a -> z/a TCP/80 = denied""",
    ),
    "a pod's own node always reaches it": (
        policy("podSelector: {}\npolicyTypes: [Ingress, Egress]"),
        """node/n1 -> x/a TCP/10250 = allowed (OwnNodeTraffic)
        node/n2 -> x/a TCP/10250 = denied
        x/a -> node/n1 TCP/10250 = denied""",
    ),
    "an ended pod is nobody": (
        policy("podSelector: {}"),
        "x/done -> y/a TCP/80 = denied (PodEnded)\n10.0.1.9 -> y/a TCP/80 = allowed",
    ),
    "a Service is judged by its endpoints' address and port": (
        policy("podSelector: {}\npolicyTypes: [Egress]\negress: [{to: [{podSelector: {}}], ports: [{port: 8080}]}]"),
        """x/a -> service/x/web TCP/80 = allowed
        x/a -> 172.20.0.10 TCP/80 = allowed
        x/a -> service/y/none TCP/80 = denied (NoEndpoints)
        x/a -> service/x/web TCP/81 = denied (NoEndpoints)""",
    ),
}


IPV6 = """
apiVersion: v1
kind: Pod
metadata: {name: six, namespace: x, labels: {pod: six}}
spec: {nodeName: n1}
status: {phase: Running, podIPs: [{ip: 10.0.9.1}, {ip: "fd00:1::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: seven, namespace: y, labels: {pod: seven}}
spec: {nodeName: n2}
status: {phase: Running, podIPs: [{ip: 10.0.9.2}, {ip: "fd00:2::1"}]}
---
"""


def test_ranges_of_ipv6_have_exceptions_too_and_say_nothing_of_ipv4():
    egress = policy(
        "podSelector: {matchLabels: {pod: six}}\npolicyTypes: [Egress]\n"
        "egress: [{to: [{ipBlock: {cidr: 'fd00::/8', except: ['fd00:2:0::/64']}}, {ipBlock: {cidr: '2001:db8::/32'}}]}]"
    )
    lines = """x/six -> fd00:3::9 TCP/80 = allowed
    x/six -> fd00:2::1 TCP/80 = denied
    x/six -> 2001:db8::1 ICMP/128 = allowed
    x/six -> y/seven TCP/80 IPv6 = denied
    x/six -> y/seven TCP/80 IPv4 = denied
    x/six -> 10.0.9.2 TCP/80 = denied"""
    assert differences(objects_of(XYZ, IPV6, egress), lines) == []


def test_a_relabelled_pod_a_changed_and_a_deleted_policy_change_the_verdict():
    only_b = policy("podSelector: {}\ningress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]")
    line = "x/c -> x/a TCP/80 = "
    assert differences(objects_of(XYZ, only_b), line + "denied") == []
    assert differences(objects_of(XYZ.replace("labels: {pod: c}", "labels: {pod: b}"), only_b), line + "allowed") == []
    assert differences(objects_of(XYZ, only_b.replace("pod: b", "pod: c")), line + "allowed") == []
    assert differences(objects_of(XYZ), line + "allowed") == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_networkpolicy_works_as_its_specification_says(name):
    policies, lines = SCENARIOS[name]
    objects = objects_of(XYZ, policies)
    assert differences(objects, lines) == []
    assert {problem["reason"] for problem in judged(objects, [])[1]} <= {"PriorityClash"}
