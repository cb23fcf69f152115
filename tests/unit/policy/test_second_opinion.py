"""Random small clusters with policies of all kinds: `policy verdict` and a second reading of the manifests agree."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.policy_cases import judged
from support.second_opinion import Cluster

pytestmark = pytest.mark.unit
CIDRS = ("0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/24", "10.0.1.1/32", "172.16.0.0/24", "8.0.0.0/7")
PORTS = (79, 80, 81, 443)
one = st.sampled_from


def some(items, low=0, high=2):
    return st.lists(items, min_size=low, max_size=high)


def maps(needed=None, **optional):
    return st.fixed_dictionaries(needed or {}, optional=optional)


def selectors(keys=("app", "tier")):
    listed = st.fixed_dictionaries(
        {"key": one(keys), "operator": one(("In", "NotIn")), "values": some(one(("a", "b", "c")), 1)}
    )
    there = st.fixed_dictionaries({"key": one(keys), "operator": one(("Exists", "DoesNotExist"))})
    return maps(
        matchLabels=st.dictionaries(one(keys), one(("a", "b", "c")), max_size=1),
        matchExpressions=some(st.one_of(listed, there), 0, 1),
    )


TEAMS = selectors(("team",))
BLOCKS = one(
    [{"cidr": cidr} for cidr in CIDRS]
    + [
        {"cidr": "10.0.0.0/8", "except": ["10.0.1.0/24"]},
        {"cidr": "0.0.0.0/0", "except": ["8.8.8.0/24", "10.0.1.1/32"]},
    ]
)


def network_policies(name):
    peer = st.one_of(
        maps({"podSelector": selectors()}, namespaceSelector=TEAMS),
        maps({"namespaceSelector": TEAMS}),
        st.fixed_dictionaries({"ipBlock": BLOCKS}),
    )
    ranges = one([{"port": 79, "endPort": 81}, {"port": 80, "endPort": 80}, {"port": 443}, {}, {"port": "web"}])
    port = st.builds(lambda a, b: {**a, **b}, ranges, maps(protocol=one(("TCP", "UDP", "SCTP"))))
    spec = maps(
        {"podSelector": selectors()},
        policyTypes=some(one(("Ingress", "Egress"))),
        ingress=some(maps({"from": some(peer), "ports": some(port)}) | st.just({})),
        egress=some(maps({"to": some(peer), "ports": some(port)}) | st.just({})),
    )
    return objects("networking.k8s.io/v1", "NetworkPolicy", name, spec)


def cluster_policies(name, priority):
    pods = st.fixed_dictionaries(
        {"pods": st.fixed_dictionaries({"namespaceSelector": TEAMS, "podSelector": selectors()})}
    )
    inner = st.one_of(st.fixed_dictionaries({"namespaces": TEAMS}), pods)
    outer = st.one_of(
        st.fixed_dictionaries({"networks": st.lists(one(CIDRS), min_size=1, max_size=2, unique=True)}),
        st.fixed_dictionaries({"nodes": selectors(("zone",))}),
    )
    port = one([{"number": 80}, {"range": {"start": 79, "end": 81}}, {"number": 443}])
    wanted = st.builds(lambda word, value: {word: {"destinationPort": value}}, one(("tcp", "udp", "sctp")), port)
    action = {"action": one(("Accept", "Deny", "Pass"))}
    web = st.just({"destinationNamedPort": "web"})
    spec = maps(
        {
            "tier": one(("Admin", "Baseline")),
            "priority": st.just(priority),
            "subject": inner,
            "ingress": some(maps({**action, "from": some(inner, 1)}, protocols=some(wanted | web, 1)), 0, 3),
            "egress": some(
                maps({**action, "to": some(inner, 1)}, protocols=some(wanted | web, 1))
                | maps({**action, "to": some(inner | outer, 1)}, protocols=some(wanted, 1)),
                0,
                3,
            ),
        }
    )
    return objects("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", name, spec)


def cilium_policies(name, *, of_nodes=False):
    other = maps(matchLabels=one([{}, {"app": "a"}, {"k8s:io.kubernetes.pod.namespace": "y"}]))
    port = st.builds(
        lambda a, b: {**a, **b},
        one([{"port": "80"}, {"port": "79", "endPort": 81}, {"port": "0"}]),
        maps(protocol=one(("TCP", "UDP", "ANY"))),
    )
    l4 = st.one_of(
        st.just({}),
        st.builds(lambda ports: {"toPorts": [{"ports": ports}]}, some(port, 1)),
        st.just({"icmps": [{"fields": [{"type": 8}]}]}),
    )

    def rules(word):
        peers = st.one_of(
            st.just({}),
            st.fixed_dictionaries({f"{word}Endpoints": some(other, 1)}),
            st.fixed_dictionaries(
                {f"{word}Entities": some(one(("all", "world", "cluster", "host", "remote-node")), 1)}
            ),
            st.fixed_dictionaries({f"{word}CIDRSet": some(BLOCKS, 1)}),
        )
        return some(st.builds(lambda a, b: {**a, **b}, peers, l4))

    spec = maps(
        {"nodeSelector": selectors(("zone",))} if of_nodes else {"endpointSelector": selectors()},
        ingress=rules("from"),
        ingressDeny=rules("from"),
        egress=rules("to"),
        egressDeny=rules("to"),
        enableDefaultDeny=maps(ingress=st.booleans(), egress=st.booleans()),
    )
    kind = "CiliumClusterwideNetworkPolicy" if of_nodes else "CiliumNetworkPolicy"
    return objects("cilium.io/v2", kind, name, spec)


def objects(version, kind, name, spec):
    def made(body, namespace):
        where = {} if "Cluster" in kind else {"namespace": namespace}
        return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where}, "spec": body}

    return st.builds(made, spec, one(("x", "y")))


def obj(kind, name, namespace="", labels=None, **parts):
    metadata = {"name": name, "labels": labels or {}, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **parts}


@st.composite
def clusters(draw):
    """Two namespaces with three pods each, one of them host-network; two nodes; up to six policies."""
    value = one(("a", "b", "c"))
    found = [obj("Namespace", name, labels=draw(maps(team=value))) for name in ("x", "y")]
    for n in (1, 2):
        status = {"addresses": [{"type": "InternalIP", "address": f"172.16.0.{n}"}]}
        found.append(obj("Node", f"n{n}", labels=draw(maps(zone=value)), status=status))
    for n, namespace in enumerate(("x", "y"), 1):
        for p in (1, 2, 3):
            host = n == 1 and p == 3
            ports = [{"name": "web", "containerPort": draw(one(PORTS)), "protocol": draw(one(("TCP", "UDP")))}]
            spec = {"nodeName": "n2" if host else draw(one(("n1", "n2"))), "hostNetwork": host}
            spec["containers"] = [{"name": "c", "ports": ports if draw(st.booleans()) else []}]
            ip = "172.16.0.2" if host else f"10.0.{n}.{p}"
            status = {"phase": "Running", "podIPs": [{"ip": ip}]}
            found.append(obj("Pod", f"p{p}", namespace, draw(maps(app=value, tier=value)), spec=spec, status=status))
    for number in range(draw(st.integers(1, 6))):
        name = f"policy-{number}"
        of_nodes = cilium_policies(name, of_nodes=True)
        kinds = (network_policies(name), cluster_policies(name, number), cilium_policies(name), of_nodes)
        found.append(draw(st.one_of(*kinds)))
    return found


ENDS = ("x/p1", "x/p2", "x/p3", "y/p1", "y/p2", "y/p3", "172.16.0.1", "172.16.0.2", "8.8.8.8", "9.9.9.9", "10.0.1.77")
PACKETS = [*((word, number) for word in ("TCP", "UDP") for number in PORTS), ("SCTP", 80), ("ICMP", 8), ("ICMP", 0)]
QUERIES = [
    {"id": n, "from": a, "to": b, "protocol": word, "icmpType" if word == "ICMP" else "port": number}
    for n, (a, b, (word, number)) in enumerate(
        (a, b, packet) for a in ENDS for b in ENDS for packet in PACKETS if a != b
    )
]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(clusters(), st.integers(0, 6))
def test_a_second_reading_of_the_manifests_comes_to_the_same_verdicts(objects, start):
    queries = QUERIES[start::7]
    rows, problems = judged(objects, queries, host_policy=True)
    assert [row for row in problems if row["reason"] not in ("PolicyUnsupported", "PriorityClash")] == []
    cluster = Cluster(objects)
    for query in queries:
        row, sides = rows[query["id"]], cluster.ask(query)
        assert (row["verdict"] == "allowed") == all(allowed for allowed, _ in sides.values()), query
        for side, (allowed, rule) in sides.items():
            assert (row[side]["verdict"] == "allowed") == allowed, (side, query)
            same_rule(row[side]["rule"], rule, (side, query))


def same_rule(got, wanted, where):
    """Ordered tiers must name the very rule; in the middle any of the rules that decide may be named."""
    assert (got is None) == (wanted is None), where
    if wanted:
        assert got["action"] == wanted[3], where
        if wanted[0] in ("Admin", "Baseline"):
            assert (got["tier"], got["name"], got["index"]) == wanted[:3], where
