"""A field that is there with a wrong type or nothing in it is not a field left out: it closes, and says so."""

import pytest
from support.policy_cases import differences, judged, objects_of
from unit.policy.test_cilium import cilium
from unit.policy.test_clusternetworkpolicy import cnp
from unit.policy.test_networkpolicy import policy
from unit.policy.worlds import HOUSES, XYZ

pytestmark = pytest.mark.unit
TO_B, TO_A = "x/a -> x/b TCP/80 = ", "x/b -> x/a TCP/80 = "
EVERY = "endpointSelector: {}\n"
ALL = "ingress: [{fromEntities: [all]"
NODES_AND_PODS = "endpointSelector: {}\nnodeSelector: {}\n"

# manifest; field of the problem; word of its message; what follows
CASES = {
    "a section that is no list isolates": (cilium(EVERY + "ingress: {}"), "spec.ingress", "list", TO_A + "denied"),
    "an empty text as a section isolates": (cilium(EVERY + "egress: ''"), "spec.egress", "list", TO_A + "denied"),
    "a deny section that is no list denies all": (
        cilium(EVERY + "egressDeny: {}"),
        "spec.egressDeny",
        "list",
        TO_A + "denied (DeniedFailClosed)",
    ),
    "egress of a NetworkPolicy that is no list isolates egress": (
        policy("podSelector: {}\ningress: [{}]\negress: {}"),
        "spec.egress",
        "list",
        TO_A + "denied",
    ),
    "toPorts that are no list allow no port": (
        cilium(EVERY + ALL + ", toPorts: {}}]"),
        "spec.ingress[0].toPorts",
        "list",
        TO_A + "denied",
    ),
    "icmps that are no list allow nothing": (
        cilium(EVERY + ALL + ", icmps: {}}]"),
        "spec.ingress[0].icmps",
        "list",
        TO_A + "denied",
    ),
    "a TLS context without content is a TLS context": (
        cilium(EVERY + ALL + ", toPorts: [{ports: [{port: '80'}], terminatingTLS: {}}]}]"),
        "spec.ingress[0].toPorts[0].terminatingTLS",
        "no proxy",
        TO_A + "denied",
    ),
    "a list of layer 7 rules without rules is one": (
        cilium(EVERY + ALL + ", toPorts: [{ports: [{port: '80'}], rules: {http: []}}]}]"),
        "spec.ingress[0].toPorts[0].rules.http",
        "no proxy",
        TO_A + "denied",
    ),
    "a port number without quotes": (
        cilium(EVERY + ALL + ", toPorts: [{ports: [{port: 80}]}]}]"),
        "spec.ingress[0].toPorts[0].ports[0].port",
        'write "80", in quotes',
        TO_A + "denied",
    ),
    "enableDefaultDeny that is no mapping is named once": (
        cilium(EVERY + "enableDefaultDeny: false\n" + ALL + "}]"),
        "spec.enableDefaultDeny",
        "mapping",
        TO_A + "denied",
    ),
    "enableDefaultDeny in words isolates": (
        cilium(EVERY + "enableDefaultDeny: {ingress: 'no'}"),
        "spec.enableDefaultDeny.ingress",
        "true or false",
        TO_A + "denied",
    ),
    "nodes and pods as the subject of one spec: its pods are closed": (
        cilium(NODES_AND_PODS + ALL + "}]"),
        "spec.nodeSelector",
        "one of them",
        TO_A + "denied",
    ),
    "a range of a Cilium egress rule has no named ports, and its deny denies all": (
        cilium(EVERY + "egressDeny: [{toCIDR: [8.8.8.8], toPorts: [{ports: [{port: http}]}]}]"),
        "spec.egressDeny[0].toPorts",
        "a number",
        TO_B + "denied (DeniedFailClosed)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_there_but_wrong_is_not_absent(name):
    manifest, field, word, lines = CASES[name]
    objects = objects_of(XYZ, manifest)
    _, problems = judged(objects, [])
    assert [problem["field"] for problem in problems] == [field], problems
    assert word in problems[0]["message"]
    assert differences(objects, lines) == []


def test_an_ingress_range_may_have_named_ports_for_the_receiver_is_a_pod():
    objects = objects_of(
        XYZ, policy("podSelector: {}\ningress: [{from: [{ipBlock: {cidr: 8.0.0.0/8}}], ports: [{port: serve-80}]}]")
    )
    assert differences(objects, "8.8.8.8 -> x/a TCP/80 = allowed\n8.8.8.8 -> x/a TCP/81 = denied") == []
    assert judged(objects, [])[1] == []


def test_an_empty_protocol_of_a_cilium_port_is_any():
    objects = objects_of(XYZ, cilium(EVERY + ALL + ", toPorts: [{ports: [{port: '80', protocol: ''}]}]}]"))
    assert differences(objects, TO_A + "allowed\nx/b -> x/a SCTP/80 = allowed\nx/b -> x/a ICMP/8 = denied") == []
    assert judged(objects, [])[1] == []


@pytest.mark.parametrize(
    ("action", "verdict"), [("Accept", "denied (DeniedByRule)"), ("Pass", "denied (DeniedFailClosed)")]
)
def test_pods_of_a_cluster_policy_need_a_pod_selector(action, verdict):
    """The field is required by its schema; an empty one means all pods of the namespaces."""
    peer = "{pods: {namespaceSelector: {}%s}}"
    subject = "subject: {namespaces: {}}"
    rules = "ingress: [{action: %s, from: [%s]}, {action: Deny, from: [{namespaces: {}}]}]"
    line = "house-blue/blue-0 -> house-red/red-0 TCP/80 = "
    missing = objects_of(HOUSES, cnp("c", 1, f"{subject}\n{rules % (action, peer % '')}"))
    assert [row["field"] for row in judged(missing, [])[1]] == ["spec.ingress[0].from[0].pods.podSelector"]
    assert differences(missing, line + verdict) == []
    whole = objects_of(HOUSES, cnp("c", 1, f"{subject}\n{rules % (action, peer % ', podSelector: {}')}"))
    assert differences(whole, line + "allowed") == []
