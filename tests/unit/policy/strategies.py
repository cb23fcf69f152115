"""Random small worlds: few labels, few ranges that nest, few ports, so that everything meets everything."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from enitide_policy.directory import Directory
from enitide_policy.evaluate import End, Packet
from enitide_policy.labels import IdentityLabels, PodFacts
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import (
    API_SERVER,
    ICMP,
    L4,
    SCTP,
    TCP,
    UDP,
    AnyPeer,
    CidrPeer,
    NodesPeer,
    PodsPeer,
    Policy,
    ReservedPeer,
    Rule,
    ServicePeer,
    Tier,
)
from enitide_policy.numbers import Reserved
from enitide_policy.problems import ObjectRef
from enitide_policy.selectors import NAMESPACE, Operator, Requirement, selector
from enitide_policy.world import Backend, Node, Pod, Service, World

NAMES = ("a", "b", "c")
NAMESPACES = ("x", "y")
NODES = ("n1", "n2")
RANGES = tuple(
    map(ip_network, ("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.1.0/24", "10.0.1.1/32", "8.8.0.0/16", "::/0"))
)
OUTSIDE = tuple(map(ip_address, ("8.8.8.8", "10.0.1.77", "10.9.9.9", "9.9.9.9", "2001:db8::1")))
PORTS = (79, 80, 81, 8080, 8192)
PACKETS = (*(Packet(protocol, port) for protocol in (TCP, UDP) for port in PORTS), Packet(ICMP, 8), Packet(SCTP, 80))

requirements = st.one_of(
    st.builds(
        Requirement,
        st.sampled_from(("pod:app", "pod:tier", "ns:team", NAMESPACE)),
        st.sampled_from((Operator.IN, Operator.NOT_IN)),
        st.lists(st.sampled_from((*NAMES, *NAMESPACES)), min_size=1, max_size=2, unique=True).map(sorted).map(tuple),
    ),
    st.builds(
        Requirement,
        st.sampled_from(("pod:app", "pod:tier", "ns:team")),
        st.sampled_from((Operator.EXISTS, Operator.DOES_NOT_EXIST)),
    ),
)
selectors = st.lists(requirements, max_size=2).map(selector)
node_subjects = st.sampled_from(
    [
        selector([]),
        selector([Requirement("node:zone", Operator.IN, ("n1",))]),
        selector([Requirement("node:zone", Operator.NOT_IN, ("n1",))]),
        selector([Requirement("node:app", Operator.EXISTS)]),
    ]
)


@st.composite
def cidr_peers(draw):
    network = draw(st.sampled_from(RANGES))
    inside = [r for r in RANGES if r.version == network.version and r != network and r.subnet_of(network)]
    excepts = draw(st.lists(st.sampled_from(inside), max_size=2, unique=True)) if inside else []
    return CidrPeer(network, tuple(excepts), draw(st.booleans()))


peers = st.one_of(
    st.just(AnyPeer()),
    st.builds(PodsPeer, selectors),
    st.builds(ReservedPeer, st.sampled_from((Reserved.HOST, Reserved.REMOTE_NODE, Reserved.WORLD))),
    cidr_peers(),
    st.builds(NodesPeer, st.sampled_from((selector([]), selector([Requirement("zone", Operator.IN, ("n1",))])))),
    st.sampled_from((API_SERVER, ServicePeer("x", "web"), ServicePeer("", "", (), addresses=True))),
)


@st.composite
def l4s(draw):
    protocol = draw(st.sampled_from((0, TCP, UDP, ICMP)))
    if not protocol:
        return draw(st.sampled_from((L4(), L4(name="web"))))
    if protocol == ICMP:
        return draw(st.sampled_from((L4(ICMP, 8, 8), L4(ICMP, 0, 0))))
    if draw(st.booleans()):
        return L4(protocol, name="web")
    first = draw(st.sampled_from(PORTS))
    return L4(protocol, first, draw(st.sampled_from([port for port in (*PORTS, 65535) if port >= first])))


@st.composite
def rules(draw, tier, index, direction=None):
    ordered = tier in (Tier.ADMIN, Tier.BASELINE)
    actions = {True: tuple(Action)[1:], False: (Action.ALLOW, Action.DENY if tier is Tier.CILIUM else Action.ALLOW)}
    return Rule(
        direction or draw(st.sampled_from(Direction)),
        draw(st.sampled_from(actions[ordered])),
        index,
        tuple(draw(st.lists(peers, max_size=2, unique=True))),
        tuple(draw(st.lists(l4s(), max_size=2, unique=True))),
    )


@st.composite
def policies(draw, name):
    tier = draw(st.sampled_from(Tier))
    many = draw(st.integers(0, 3))
    middle = tier in (Tier.NETWORK_POLICY, Tier.CILIUM)
    of_nodes = tier is Tier.CILIUM and draw(st.booleans())
    return Policy(
        ObjectRef("Policy", "", name),
        tier,
        draw(node_subjects if of_nodes else selectors),
        tuple(draw(rules(tier, index)) for index in range(many)),
        draw(st.frozensets(st.sampled_from(Direction))) if middle else frozenset(),
        0 if middle else draw(st.integers(0, 2)),
        of_nodes=of_nodes,
    )


def _labels(draw):
    found = {"app": draw(st.sampled_from((*NAMES, None))), "tier": draw(st.sampled_from((*NAMES, None)))}
    return tuple(sorted((key, value) for key, value in found.items() if value))


@st.composite
def worlds(draw):
    """Two namespaces, three pods each, two nodes, two Services."""
    pods = {}
    for n, namespace in enumerate(NAMESPACES):
        for p, name in enumerate(NAMES):
            ports = draw(st.sampled_from(((), (("web", "TCP", 80),), (("web", "TCP", 8080),), (("web", "UDP", 80),))))
            facts = PodFacts(namespace, "default", _labels(draw), ports)
            address = ip_address(f"10.{draw(st.sampled_from((0, 9)))}.{n}.{p}")
            pods[namespace, name] = Pod(name, facts, draw(st.sampled_from((*NODES, ""))), addresses=(address,))
    teams = {namespace: (("team", draw(st.sampled_from(NAMES))),) for namespace in NAMESPACES}
    nodes = {name: Node(name, (("zone", name),), (ip_address(f"10.0.1.{i + 1}"),)) for i, name in enumerate(NODES)}
    services = {
        ("x", "web"): Service("x", "web", selector=(("app", "a"),)),
        ("default", "kubernetes"): Service("default", "kubernetes"),
    }
    backends = (Backend("default", "kubernetes", ip_address("8.8.8.8"), ()),)
    return World(teams, pods, nodes, services, backends)


def ends_of(world):
    """All ends that policies may be asked about: pods, nodes, outside."""
    directory = Directory(world)
    pods = [end for pod in world.pods.values() for end in directory.pod_ends(pod)]
    labels = {name: node.labels for name, node in world.nodes.items()}
    nodes = [
        End(address, node=name, node_labels=labels[name]) for name, some in directory.nodes.items() for address in some
    ]
    return pods, [*pods, *nodes, *(End(address) for address in OUTSIDE)]


def with_all_labels(world, pod):
    """An identity as fine as can be: every label counts."""
    return IdentityLabels(
        pod.facts.namespace, "", pod.facts.labels, world.namespaces[pod.facts.namespace], pod.facts.ports
    )


def renamed(policy, name):
    return replace(policy, ref=ObjectRef("Policy", "", name))
