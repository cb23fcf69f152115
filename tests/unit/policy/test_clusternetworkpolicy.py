"""ClusterNetworkPolicy: the scenarios of its conformance suite in our words, and its ancestors as other spellings."""

import pytest
from support.policy_cases import differences, judged, objects_of
from unit.policy.worlds import HOUSES

pytestmark = pytest.mark.unit

RED = "subject: {namespaces: {matchLabels: {house: red}}}"


def cnp(name, priority, body, tier="Admin", version="v1alpha2"):
    lines = "\n".join("  " + line for line in body.strip("\n").splitlines())
    return f"""
apiVersion: policy.networking.k8s.io/{version}
kind: ClusterNetworkPolicy
metadata: {{name: {name}}}
spec:
  tier: {tier}
  priority: {priority}
{lines}
---
"""


def np(body, name="np", namespace="house-red"):
    lines = "\n".join("  " + line for line in body.strip("\n").splitlines())
    return f"""
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec:
{lines}
---
"""


def peer(house):
    return f"{{namespaces: {{matchLabels: {{house: {house}}}}}}}"


PER_PROTOCOL = """
- action: Accept
  {side}: [{blue}]
  protocols: [{{{protocol}: {{destinationPort: {{number: {first}}}}}}}]
- action: Deny
  {side}: [{blue}]
- action: Deny
  {side}: [{green}]
  protocols: [{{{protocol}: {{destinationPort: {{number: {first}}}}}}}]
- action: Pass
  {side}: [{grey}]
"""


def per_protocol(section, side, protocol, first):
    rules = PER_PROTOCOL.format(
        side=side, protocol=protocol, first=first, blue=peer("blue"), green=peer("green"), grey=peer("grey")
    )
    return f"{RED}\n{section}:\n" + "\n".join("  " + line for line in rules.strip().splitlines())


def per_protocol_lines(section, protocol, first, second):
    def line(other, port, verdict):
        ends = (f"house-{other}/{other}-0", "house-red/red-0")
        source, target = ends if section == "ingress" else ends[::-1]
        return f"{source} -> {target} {protocol.upper()}/{port} = {verdict}"

    return "\n".join(
        [
            line("blue", first, "allowed"),
            line("blue", second, "denied"),
            line("green", first, "denied"),
            line("green", second, "allowed"),
            line("grey", first, "allowed"),
        ]
    )


SCENARIOS = {
    f"{section} rules of {protocol}": (
        cnp("one", 10, per_protocol(section, side, protocol, first)),
        per_protocol_lines(section, protocol, first, second),
    )
    for section, side in (("ingress", "from"), ("egress", "to"))
    for protocol, first, second in (("tcp", 80, 8080), ("udp", 53, 5353), ("sctp", 9003, 9005))
} | {
    "the first rule that matches decides": (
        cnp(
            "one",
            1,
            f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}]}}, {{action: Accept, from: [{peer('blue')}]}}]",
        ),
        "house-blue/blue-0 -> house-red/red-0 TCP/80 = denied (DeniedByRule)",
    ),
    "the lower priority number is the stronger": (
        cnp("weak", 50, f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}]}}]")
        + cnp("strong", 40, f"{RED}\ningress: [{{action: Accept, from: [{peer('blue')}]}}]"),
        "house-blue/blue-0 -> house-red/red-0 TCP/80 = allowed (AllowedByRule)",
    ),
    "and after its edit from 40 to 60 the weaker": (
        cnp("weak", 50, f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}]}}]")
        + cnp("strong", 60, f"{RED}\ningress: [{{action: Accept, from: [{peer('blue')}]}}]"),
        "house-blue/blue-0 -> house-red/red-0 TCP/80 = denied",
    ),
    "an Accept of egress does not override the receiver's ingress": (
        cnp("out", 1, f"{RED}\negress: [{{action: Accept, to: [{peer('blue')}]}}]")
        + cnp(
            "in",
            2,
            f"subject: {peer('blue')}\ningress: [{{action: Deny, from: [{peer('red')}]}}]",
        ),
        "house-red/red-0 -> house-blue/blue-0 TCP/80 = denied",
    ),
    "policies of ingress leave egress alone": (
        cnp("one", 1, f"{RED}\ningress: [{{action: Deny, from: [{{namespaces: {{}}}}]}}]"),
        "house-red/red-0 -> house-blue/blue-0 TCP/80 = allowed\nhouse-blue/blue-0 -> house-red/red-0 TCP/80 = denied",
    ),
    "policies of egress leave ingress alone": (
        cnp("one", 1, f"{RED}\negress: [{{action: Deny, to: [{{namespaces: {{}}}}]}}]"),
        "house-red/red-0 -> house-blue/blue-0 TCP/80 = denied\nhouse-blue/blue-0 -> house-red/red-0 TCP/80 = allowed",
    ),
    "admin comes before NetworkPolicy, and NetworkPolicy before baseline": (
        cnp(
            "admin",
            1,
            f"{RED}\ningress:\n- {{action: Deny, from: [{peer('blue')}]}}\n- {{action: Pass, from: [{peer('green')}]}}",
        )
        + np(
            "podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {house: green}}}, "
            "{namespaceSelector: {matchLabels: {house: blue}}}]}]"
        )
        + cnp("base", 1, f"{RED}\ningress: [{{action: Deny, from: [{{namespaces: {{}}}}]}}]", "Baseline"),
        """house-blue/blue-0 -> house-red/red-0 TCP/80 = denied (DeniedByRule)
        house-green/green-0 -> house-red/red-0 TCP/80 = allowed (AllowedByRule)
        house-grey/grey-0 -> house-red/red-0 TCP/80 = denied (DeniedByIsolation)""",
    ),
    "a Pass without a NetworkPolicy falls to the baseline": (
        cnp("admin", 1, f"{RED}\ningress: [{{action: Pass, from: [{peer('green')}]}}]")
        + cnp("base", 1, f"{RED}\ningress: [{{action: Deny, from: [{peer('green')}]}}]", "Baseline"),
        """house-green/green-0 -> house-red/red-0 TCP/80 = denied (DeniedByRule)
        house-blue/blue-0 -> house-red/red-0 TCP/80 = allowed (AllowedByDefault)""",
    ),
    "a Pass skips the rest of its tier": (
        cnp("pass", 1, f"{RED}\ningress: [{{action: Pass, from: [{peer('green')}]}}]")
        + cnp("deny", 2, f"{RED}\ningress: [{{action: Deny, from: [{peer('green')}]}}]"),
        "house-green/green-0 -> house-red/red-0 TCP/80 = allowed",
    ),
    "a Pass of the baseline falls to the open default": (
        cnp("pass", 1, f"{RED}\ningress: [{{action: Pass, from: [{peer('green')}]}}]", "Baseline")
        + cnp("deny", 2, f"{RED}\ningress: [{{action: Deny, from: [{peer('green')}]}}]", "Baseline"),
        "house-green/green-0 -> house-red/red-0 TCP/80 = allowed (AllowedByDefault)",
    ),
    "a pod is chosen by the labels of itself and its namespace": (
        cnp(
            "one",
            1,
            "subject: {pods: {namespaceSelector: {matchLabels: {house: red}}, podSelector: "
            "{matchLabels: {statefulset.kubernetes.io/pod-name: red-0}}}}\n"
            "ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: "
            "{matchLabels: {statefulset.kubernetes.io/pod-name: blue-1}}}}]}]",
        ),
        """house-blue/blue-1 -> house-red/red-0 TCP/80 = denied
        house-blue/blue-0 -> house-red/red-0 TCP/80 = allowed
        house-blue/blue-1 -> house-red/red-1 TCP/80 = allowed""",
    ),
    "pods without a namespace selector are pods of all namespaces": (
        cnp(
            "one",
            1,
            f"{RED}\ningress: [{{action: Deny, from: [{{pods: {{podSelector: {{matchExpressions: "
            "[{key: house, operator: Exists}]}}}]}]",
        ),
        "house-blue/blue-1 -> house-red/red-0 TCP/80 = denied",
    ),
    "port ranges": (
        cnp(
            "one",
            1,
            f"{RED}\ningress:\n- action: Deny\n  from: [{peer('blue')}]\n"
            "  protocols: [{tcp: {destinationPort: {range: {start: 80, end: 8080}}}}, "
            "{udp: {destinationPort: {range: {start: 1, end: 52}}}}]",
        ),
        """house-blue/blue-0 -> house-red/red-0 TCP/80 = denied
        house-blue/blue-0 -> house-red/red-0 TCP/8080 = denied
        house-blue/blue-0 -> house-red/red-0 TCP/8081 = allowed
        house-blue/blue-0 -> house-red/red-0 UDP/53 = allowed
        house-blue/blue-0 -> house-red/red-0 ICMP/8 = allowed""",
    ),
    "without protocols a rule means every protocol, ICMP too": (
        cnp("one", 1, f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}]}}]"),
        "house-blue/blue-0 -> house-red/red-0 ICMP/8 = denied",
    ),
    "networks match addresses of pods too": (
        cnp("one", 1, f"{RED}\negress: [{{action: Deny, to: [{{networks: [10.1.3.0/24, 8.8.0.0/16, 10.1.2.1/32]}}]}}]"),
        """house-red/red-0 -> house-blue/blue-0 TCP/80 = denied
        house-red/red-0 -> house-green/green-0 TCP/80 = denied
        house-red/red-0 -> house-green/green-1 TCP/80 = allowed
        house-red/red-0 -> 8.8.8.8 UDP/53 = denied
        house-red/red-0 -> 8.8.8.8 ICMP/8 = denied
        house-red/red-0 -> 9.9.9.9 UDP/53 = allowed""",
    ),
    "nodes are chosen by their labels": (
        cnp("one", 1, f"{RED}\negress: [{{action: Deny, to: [{{nodes: {{matchLabels: {{role: edge}}}}}}]}}]"),
        """house-red/red-0 -> node/n1 TCP/443 = denied
        house-red/red-0 -> node/n2 TCP/443 = allowed
        house-red/red-0 -> 172.16.0.1 TCP/443 = denied""",
    ),
    "host-network pods are no peers by their labels": (
        cnp(
            "one",
            1,
            f"{RED}\negress: [{{action: Deny, to: [{{pods: {{podSelector: {{matchLabels: {{house: forest}}}}}}}}]}}]",
        ),
        "house-red/red-0 -> house-grey/forest-0 TCP/80 = allowed",
    ),
    "a named port is that of the receiving pod": (
        cnp(
            "one",
            1,
            f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}], protocols: [{{destinationNamedPort: dns}}]}}]",
        ),
        """house-blue/blue-0 -> house-red/red-0 UDP/53 = denied
        house-blue/blue-0 -> house-red/red-0 TCP/53 = allowed
        house-blue/blue-0 -> house-red/red-0 UDP/5353 = allowed""",
    ),
    "of equal priorities the first name decides": (
        cnp("b", 5, f"{RED}\ningress: [{{action: Accept, from: [{peer('blue')}]}}]")
        + cnp("a", 5, f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}]}}]"),
        "house-blue/blue-0 -> house-red/red-0 TCP/80 = denied",
    ),
    "v1beta1 reads the same": (
        cnp("one", 1, f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}]}}]", version="v1beta1"),
        "house-blue/blue-0 -> house-red/red-0 TCP/80 = denied",
    ),
}

ANCESTORS = f"""
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {{name: old}}
spec:
  priority: 10
  {RED}
  ingress:
  - action: Allow
    from: [{peer("blue")}]
    ports: [{{portNumber: {{port: 80}}}}, {{portRange: {{protocol: UDP, start: 50, end: 60}}}}]
  - {{action: Pass, from: [{peer("green")}]}}
  - {{action: Deny, from: [{peer("blue")}]}}
  egress:
  - {{action: Deny, to: [{{networks: [8.8.8.8/32]}}], ports: [{{portNumber: {{protocol: UDP, port: 53}}}}]}}
---
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: {{name: default}}
spec:
  {RED}
  ingress:
  - {{action: Allow, from: [{peer("green")}], ports: [{{namedPort: web}}]}}
  - {{action: Deny, from: [{{namespaces: {{}}}}]}}
"""


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_cluster_policy_works_as_its_specification_says(name):
    policies, lines = SCENARIOS[name]
    objects = objects_of(HOUSES, policies)
    assert differences(objects, lines) == []
    assert {problem["reason"] for problem in judged(objects, [])[1]} <= {"PriorityClash"}


def test_the_two_ancestors_are_the_admin_and_the_baseline_tier():
    lines = """house-blue/blue-0 -> house-red/red-0 TCP/80 = allowed
    house-blue/blue-0 -> house-red/red-0 UDP/53 = allowed
    house-blue/blue-0 -> house-red/red-0 TCP/8080 = denied
    house-green/green-0 -> house-red/red-0 TCP/80 = allowed
    house-green/green-0 -> house-red/red-0 TCP/8080 = denied
    house-grey/grey-0 -> house-red/red-0 TCP/80 = denied
    house-red/red-0 -> 8.8.8.8 UDP/53 = denied
    house-red/red-0 -> 8.8.8.8 TCP/53 = allowed"""
    assert differences(objects_of(HOUSES, ANCESTORS), lines) == []
    rows, problems = judged(
        objects_of(HOUSES, ANCESTORS),
        [{"id": 1, "from": "house-grey/grey-0", "to": "house-red/red-0", "protocol": "TCP", "port": 80}],
    )
    assert problems == []
    assert rows[1]["ingress"]["rule"] == {
        "kind": "BaselineAdminNetworkPolicy",
        "namespace": "",
        "name": "default",
        "tier": "Baseline",
        "direction": "ingress",
        "index": 1,
        "action": "Deny",
    }


def test_a_relabelled_namespace_changes_sides():
    deny = cnp("one", 1, f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}]}}]")
    swapped = HOUSES.replace("labels: {house: blue}", "labels: {house: cyan}")
    line = "house-blue/blue-0 -> house-red/red-0 TCP/80 = "
    assert differences(objects_of(HOUSES, deny), line + "denied") == []
    assert differences(objects_of(swapped, deny), line + "allowed") == []
