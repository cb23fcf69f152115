"""Edits of policies and labels as data: rows of states, each one write at the API server away from the one before."""

from __future__ import annotations

from dataclasses import dataclass

from unit.policy.test_cilium import cilium
from unit.policy.test_clusternetworkpolicy import RED, cnp, np, peer
from unit.policy.test_networkpolicy import policy

from .stage import Key


@dataclass(frozen=True, slots=True)
class State:
    """Policies, and labels that differ from the world's."""

    policies: str
    labels: tuple[tuple[Key, tuple[str, str]], ...] = ()


def letters(*peers: str, ports: str = "") -> str:
    """A policy of namespace x that takes traffic from pods of these letters."""
    listed = ", ".join(f"{{podSelector: {{matchLabels: {{pod: {each}}}}}}}" for each in peers)
    return policy(f"podSelector: {{}}\ningress: [{{from: [{listed}]{ports}}}]")


def block(*excepted: str) -> str:
    """Egress of namespace x to the whole VPC, but."""
    but = f", except: [{', '.join(excepted)}]" if excepted else ""
    return policy(
        f"podSelector: {{}}\npolicyTypes: [Egress]\negress: [{{to: [{{ipBlock: {{cidr: 10.0.0.0/16{but}}}}}]}}]"
    )


FROM_Y = policy("podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]")
WEAK = cnp("weak", 50, f"{RED}\ningress: [{{action: Deny, from: [{peer('blue')}]}}]")
BASE = cnp("base", 1, f"{RED}\ningress: [{{action: Deny, from: [{{namespaces: {{}}}}]}}]", "Baseline")
PASS = cnp("pass", 5, f"{RED}\ningress: [{{action: Pass, from: [{peer('green')}, {peer('blue')}]}}]")
GREEN = np("podSelector: {}\ningress: [{from: [{namespaceSelector: {matchLabels: {house: green}}}]}]")
POD_A, POD_C, HOUSE_BLUE = ("Pod", "x", "a"), ("Pod", "x", "c"), ("Namespace", "", "house-blue")
NAMESPACE_Y, NAMESPACE_Z = ("Namespace", "", "y"), ("Namespace", "", "z")
LABELS = {POD_C: ("pod", "c"), HOUSE_BLUE: ("house", "blue"), NAMESPACE_Y: ("ns", "y"), NAMESPACE_Z: ("ns", "z")}


def strong(priority: int) -> str:
    """An Accept that is before or behind WEAK."""
    return cnp("strong", priority, f"{RED}\ningress: [{{action: Accept, from: [{peer('blue')}]}}]")


# Each state differs from the one before by one write at the API server.
EDITS: dict[str, list[State]] = {
    "default deny comes, is opened for some, for others, and goes": [
        State(""), State(policy("podSelector: {}")), State(letters("b")), State(letters("b", "c")),
        State(letters("c")), State(""),
    ],
    "ports of a rule are edited": [
        State(letters("b", "c", ports=f", ports: [{{protocol: UDP, port: {port}}}]"))
        for port in (80, 53, "dns")
    ] + [State(letters("b", "c", ports=", ports: [{protocol: UDP, port: 53, endPort: 80}]"))],
    "ingress becomes egress": [
        State(policy("podSelector: {}\npolicyTypes: [Ingress]")),
        State(policy("podSelector: {}\npolicyTypes: [Egress]")),
        State(policy("podSelector: {}\npolicyTypes: [Ingress, Egress]")),
    ],
    "exceptions of a range come and go": [
        State(block()), State(block("10.0.2.0/24")), State(block("10.0.2.0/24", "10.0.3.0/24")),
        State(block("10.0.3.0/24")),
    ],
    "a second policy overlaps and goes": [
        State(letters("b")),
        State(letters("b") + "---" + policy("podSelector: {matchLabels: {pod: a}}\ningress: [{}]", "more")),
        State(policy("podSelector: {matchLabels: {pod: a}}\ningress: [{}]", "more")),
    ],
    "a pod is relabelled": [
        State(letters("b")), State(letters("b"), ((POD_C, ("pod", "b")),)), State(letters("b")),
        State(letters("b"), ((POD_C, ("pod", "d")),)),
    ],
    "namespaces are relabelled": [
        State(FROM_Y), State(FROM_Y, ((NAMESPACE_Z, ("ns", "y")),)),
        State(FROM_Y, ((NAMESPACE_Z, ("ns", "y")), (NAMESPACE_Y, ("ns", "z")))),
        State(FROM_Y, ((NAMESPACE_Y, ("ns", "z")),)),
        State(FROM_Y),
    ],
    "a priority is edited": [State(WEAK + strong(60)), State(WEAK + strong(40)), State(WEAK + strong(60))],
    "a Pass, a NetworkPolicy and a baseline come one by one": [
        State(""), State(BASE), State(BASE + PASS), State(BASE + PASS + GREEN), State(PASS + GREEN), State(GREEN),
    ],
    "a namespace changes sides": [
        State(WEAK), State(WEAK, ((HOUSE_BLUE, ("house", "cyan")),)), State(WEAK),
    ],
    "a Cilium deny comes over an allow, and its default deny is switched off": [
        State(cilium("endpointSelector: {}\ningress: [{fromEndpoints: [{}]}]")),
        State(cilium("endpointSelector: {}\ningress: [{fromEndpoints: [{}]}]\n"
                     "ingressDeny: [{fromEndpoints: [{matchLabels: {pod: b}}]}]")),
        State(cilium("endpointSelector: {}\nenableDefaultDeny: {ingress: false}\n"
                     "ingressDeny: [{fromEndpoints: [{matchLabels: {pod: b}}]}]")),
    ],
}  # fmt: skip
HOUSES_OF = {name for name, states in EDITS.items() if any("house" in state.policies for state in states)}
