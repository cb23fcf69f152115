"""Parts of policies that are too many, too few, or from another dialect: each is named, and closed as it must be."""

import pytest
from support.policy_cases import differences, judged, objects_of
from unit.policy.test_cilium import cilium
from unit.policy.test_clusternetworkpolicy import RED, cnp, peer
from unit.policy.worlds import HOUSES, XYZ

pytestmark = pytest.mark.unit
BLUE = peer("blue")
INTO, OUT = "house-blue/blue-0 -> house-red/red-0 TCP/80 = ", "house-red/red-0 -> house-blue/blue-0 TCP/80 = "
DENY_ALL = cnp("zz", 1000, f"{RED}\ningress: [{{action: Deny, from: [{{namespaces: {{}}}}]}}]")
EVERY = "endpointSelector: {}\n"
MANY = ", ".join([BLUE] * 26)
PORTS = ", ".join(f"{{port: '{n}'}}" for n in range(80, 121))


def dialect(kind, body, priority="priority: 1, "):
    head = f"apiVersion: policy.networking.k8s.io/v1alpha1\nkind: {kind}\nmetadata: {{name: default}}\n"
    return f"---\n{head}spec: {{{priority}{RED}, {body}}}\n---\n"


HOUSE_CASES = {
    "26 rules: the last one counts all the same": (
        cnp("c", 1, f"{RED}\ningress: [{', '.join(['{action: Pass, from: [' + peer('grey') + ']}'] * 25)}, "
            f"{{action: Deny, from: [{BLUE}]}}]"),
        "spec.ingress", "at most 25", INTO + "denied",
    ),
    "26 peers in an Accept match nothing": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Accept, from: [{MANY}]}}]") + DENY_ALL,
        "spec.ingress[0].from", "1 to 25 peers", INTO + "denied",
    ),
    "26 ranges in a Deny deny all": (
        cnp("c", 1, f"{RED}\negress: [{{action: Deny, to: [{{networks: [{', '.join(['9.0.0.0/8'] * 26)}]}}]}}]"),
        "spec.egress[0].to[0].networks", "1 to 25 ranges", OUT + "denied (DeniedFailClosed)",
    ),
    "no protocol in the list of an Accept": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Accept, from: [{BLUE}], protocols: []}}]") + DENY_ALL,
        "spec.ingress[0].protocols", "leave the field out", INTO + "denied",
    ),
    "two kinds of destination port": (
        cnp("c", 1, f"{RED}\ningress: [{{action: Deny, from: [{BLUE}], protocols: [{{tcp: {{destinationPort: "
            "{number: 1, range: {start: 1, end: 2}}}}]}]"),
        "spec.ingress[0].protocols[0].tcp.destinationPort", "exactly one", INTO + "denied (DeniedFailClosed)",
    ),
    "a Pass in the baseline of the ancestors": (
        dialect("BaselineAdminNetworkPolicy", f"ingress: [{{action: Pass, from: [{BLUE}]}}]", ""),
        "spec.ingress[0].action", "Allow, Deny", INTO + "denied (DeniedFailClosed)",
    ),
    "a priority in the baseline of the ancestors": (
        dialect("BaselineAdminNetworkPolicy", f"ingress: [{{action: Deny, from: [{BLUE}]}}]"),
        "spec.priority", "unknown field", INTO + "denied (DeniedFailClosed)",
    ),
    "the new word for ports in an ancestor": (
        dialect("AdminNetworkPolicy", f"ingress: [{{action: Allow, from: [{BLUE}], protocols: []}}]") + DENY_ALL,
        "spec.ingress[0].protocols", "unknown field", INTO + "denied",
    ),
    "the new word for Allow in an ancestor": (
        dialect("AdminNetworkPolicy", f"ingress: [{{action: Accept, from: [{BLUE}]}}]"),
        "spec.ingress[0].action", "Allow, Deny, Pass", INTO + "denied (DeniedFailClosed)",
    ),
}  # fmt: skip

LETTER_CASES = {
    "41 ports in one item": (
        cilium(EVERY + f"ingress: [{{toPorts: [{{ports: [{PORTS}]}}, {{ports: [{{port: '81'}}]}}]}}]"),
        "spec.ingress[0].toPorts[0].ports", "at most 40", "x/b -> x/a TCP/80 = denied\nx/b -> x/a TCP/81 = allowed",
    ),
    "a Service by name and by labels": (
        cilium(EVERY + "egress: [{toServices: [{k8sService: {serviceName: w}, k8sServiceSelector: {selector: {}}}]}]"),
        "spec.egress[0].toServices[0]", "exactly one", "x/a -> x/b TCP/8080 = denied",
    ),
    "a Service without a name": (
        cilium(EVERY + "egress: [{toServices: [{k8sService: {namespace: x}}]}]"),
        "spec.egress[0].toServices[0].k8sService.serviceName", "text", "x/a -> x/b TCP/8080 = denied",
    ),
    "one spec of two is broken": (
        cilium("- {endpointSelector: {matchLabels: {pod: a}}, ingress: [{fromMoons: [{}]}]}\n"
               "- {endpointSelector: {matchLabels: {pod: a}}, ingress: [{fromEndpoints: [{matchLabels: {pod: b}}]}]}",
               key="specs"),
        "specs[0].ingress[0].fromMoons", "unknown field", "x/b -> x/a TCP/80 = allowed\nx/c -> x/a TCP/80 = denied",
    ),
    "a set of ranges without a range": (
        cilium(EVERY + "egress: [{toCIDRSet: [{except: [10.0.0.0/8]}, {cidr: 8.8.8.8/32}]}]"),
        "spec.egress[0].toCIDRSet[0].cidr", "no CIDR",
        "x/a -> 8.8.8.8 TCP/80 = allowed\nx/a -> 9.9.9.9 TCP/80 = denied",
    ),
    "an ICMP type out of bounds": (
        cilium(EVERY + "ingress: [{fromEndpoints: [{}], icmps: [{fields: [{type: 256}, {type: 8}]}]}]"),
        "spec.ingress[0].icmps[0].fields[0].type", "0 to 255",
        "x/b -> x/a ICMP/8 = allowed\nx/b -> x/a ICMP/0 = denied",
    ),
    "enableDefaultDeny in quotes isolates": (
        cilium(EVERY + "enableDefaultDeny: {ingress: 'false'}\ningress: [{fromEndpoints: [{matchLabels: {pod: b}}]}]"),
        "spec.enableDefaultDeny.ingress", "true or false", "x/b -> x/a TCP/80 = allowed\nx/c -> x/a TCP/80 = denied",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("world", "case"),
    [*((HOUSES, each) for each in HOUSE_CASES.values()), *((XYZ, each) for each in LETTER_CASES.values())],
    ids=[*HOUSE_CASES, *LETTER_CASES],
)
def test_what_is_beyond_a_limit_is_named_and_closed(world, case):
    manifest, field, word, lines = case
    objects = objects_of(world, manifest)
    problems = judged(objects, [])[1]
    assert {problem["field"] for problem in problems} == {field}, problems
    assert word in problems[0]["message"]
    assert differences(objects, lines) == []
