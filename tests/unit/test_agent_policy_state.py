"""What the kernel is told of policy, and in which order: rules before addresses, additions before removals, no gap."""

import tracemalloc
from ipaddress import ip_address, ip_network

import msgspec
import pytest
from support.policy_kernel import RecordingKernel

from enitide_api.errors import DatapathFailed
from enitide_api.resources import BatchEndpoint, EndpointBatch, EndpointBatchSpec, Metadata, SecurityIdentity
from enitide_enidp.datapath.types import EndpointPolicy
from enitide_enidp.policy.own import decode_identity
from enitide_enidp.policy.remote import Packer
from enitide_enidp.policy.state import LINGER_S, PolicyState
from enitide_policy.identities import spec_of
from enitide_policy.labels import IdentityLabels, PodFacts, Relevance
from enitide_policy.mapstate import Direction, RuleSet
from enitide_policy.model import TCP
from enitide_policy.parse import parse
from enitide_policy.twin import PeerIdentities, look_up

pytestmark = pytest.mark.unit

OWN, PEER = "10.0.0.2", "10.0.1.2"


class Node:
    """A node "me" with one web pod, in a cluster with identities web, db and client."""

    def __init__(self, kernel=None):
        self.now = 0.0
        self.kernel = kernel or RecordingKernel()
        self.state = PolicyState(self.kernel, lambda: self.now)
        self.state.own.relevance = Relevance(pod_keys=frozenset({"app"}))
        self.state.own.namespaces["d"] = {}
        self.packer = Packer("me")
        self.batches = {}
        self.revision = 0
        for number, app in ((300, "web"), (301, "db"), (302, "client")):
            self.identity(number, app)

    def identity(self, number, app, *, there=True):
        labels = IdentityLabels("d", pod=(("app", app),))
        name = labels.object_name()
        made = SecurityIdentity(metadata=Metadata(name=name), spec=spec_of(labels, number))
        self.state.identities.on_object(name, None, decode_identity(msgspec.json.encode(made)) if there else None)

    def batch(self, name, *records):
        """Records as (address, identity, uid, node)."""
        made = []
        for address, identity, uid, node in records:
            self.revision += 1
            made.append(
                BatchEndpoint(addresses=(address,), pod_uid=uid, identity=identity, node=node, revision=self.revision)
            )
        raw = msgspec.json.encode(
            EndpointBatch(metadata=Metadata(name=name), spec=EndpointBatchSpec(endpoints=tuple(made)))
        )
        new = self.packer.decode(raw)
        self.state.remote.on_batch(name, self.batches.get(name), new)
        self.batches[name] = new

    def policy(self, app, *peers, name="p"):
        """Pods of `app` take traffic from pods of these apps alone."""
        rules = [{"from": [{"podSelector": {"matchLabels": {"app": peer}}}]} for peer in peers]
        spec = {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress"], "ingress": rules}
        meta = {"name": name, "namespace": "d"}
        parsed = parse({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
        assert not parsed.problems
        self.state.engine.policy(parsed.ref, parsed.policies)

    def pod(self, uid="u", app="web", owner="c/eth0", ifindex=7, address=OWN):
        self.state.own.put(uid, PodFacts("d", labels=(("app", app),)))
        self.state.attach(owner, uid, ifindex, [ip_address(address)])


def synced(**more):
    node = Node(**more)
    node.state.sync()
    return node


def test_before_the_first_whole_reading_the_kernel_is_not_touched():
    node = Node()
    node.policy("web", "client")
    node.batch("a", (PEER, 302, "x", "other"))
    node.pod()
    assert not node.state.flush()
    assert node.kernel.log == []


def test_a_pod_s_policy_is_in_the_kernel_before_attach_returns():
    node = synced()
    node.policy("web", "client")
    node.pod()
    policy = node.kernel.endpoints[7]
    assert policy.identity == 300
    assert policy.ruleset in node.kernel.rulesets
    assert node.kernel.allows(7, 302)
    assert not node.kernel.allows(7, 301)


def test_a_new_peer_s_rules_come_before_its_address():
    node = synced()
    node.policy("web", "client")
    node.pod()
    node.kernel.log.clear()
    node.state.identities.on_object("x", None, None)
    node.identity(303, "client2")
    node.policy("web", "client", "client2")
    node.batch("a", (PEER, 303, "x", "other"))
    node.state.flush()
    verbs = [verb for verb, _ in node.kernel.log]
    assert verbs.index("apply") < verbs.index("put_identities")


def test_an_address_whose_identity_is_not_known_yet_is_nobody_s_and_then_that_identity_s():
    node = synced()
    node.batch("a", (PEER, 300, "old", "other"))
    node.state.flush()
    node.batch("b", (PEER, 999, "new", "other"))
    node.state.flush()
    assert ip_address(PEER) not in node.kernel.identities
    node.identity(999, "late")
    node.state.flush()
    assert node.kernel.identities[ip_address(PEER)] == 999


def test_additions_come_before_removals():
    node = synced()
    node.batch("a", (PEER, 302, "x", "other"))
    node.state.flush()
    node.kernel.log.clear()
    node.batch("b", ("10.0.1.9", 301, "y", "other"))
    node.batch("a")
    node.state.flush()
    assert [verb for verb, _ in node.kernel.log] == ["put_identities", "delete_identities"]


def test_a_relabelled_pod_switches_identity_and_rules_in_one_write():
    node = synced()
    node.policy("web", "client")
    node.policy("db", name="q")
    node.pod()
    node.kernel.log.clear()
    node.batch("a", (OWN, 301, "u", "me"))
    node.state.flush()
    switches = [policy for verb, (ifindex, policy) in node.kernel.of("set_endpoint") if ifindex == 7]
    assert [each.identity for each in switches] == [301]
    assert not node.kernel.allows(7, 302)
    assert node.kernel.identities[ip_address(OWN)] == 301


def test_a_restart_keeps_what_the_kernel_has_until_all_is_read_and_takes_nothing_away_before():
    before = synced()
    before.policy("web", "client")
    before.pod()
    before.batch("a", (PEER, 302, "x", "other"))
    before.state.flush()
    kernel = before.kernel
    kernel.log.clear()
    node = Node(kernel=kernel)
    node.state.own.put("u", PodFacts("d", labels=(("app", "web"),)))
    node.state.adopt("c/eth0", "u", 7, [ip_address(OWN)])
    node.policy("web", "client")
    node.batch("a", (PEER, 302, "x", "other"))
    node.state.flush()
    assert kernel.log == []
    node.state.sync()
    assert kernel.allows(7, 302)
    assert not kernel.allows(7, 301)
    assert kernel.identities == {ip_address(OWN): 300, ip_address(PEER): 302}
    assert [verb for verb, _ in kernel.log if verb in ("delete_identities", "retire")] == []


def test_a_pod_whose_identity_is_not_known_after_a_restart_keeps_its_old_policy():
    kernel = RecordingKernel()
    kernel.endpoints[7] = EndpointPolicy(5, 300)
    node = Node(kernel=kernel)
    node.state.adopt("c/eth0", "u", 7, [ip_address(OWN)])
    node.state.sync()
    assert kernel.endpoints[7] == EndpointPolicy(5, 300)
    node.state.own.put("u", PodFacts("d", labels=(("app", "web"),)))
    node.state.look_at_all()
    node.state.flush()
    assert kernel.endpoints[7].identity == 300
    assert kernel.endpoints[7].ruleset != 5


def test_an_identity_that_vanishes_keeps_its_rules_a_moment_and_with_a_pod_of_this_node_for_good():
    node = synced()
    node.policy("web", "client")
    node.pod()
    node.identity(302, "client", there=False)
    node.identity(300, "web", there=False)
    node.state.flush()
    assert node.kernel.allows(7, 302)
    node.now += LINGER_S + 0.1
    node.state.flush()
    assert not node.kernel.allows(7, 302)
    assert node.kernel.endpoints[7].identity == 300
    assert node.kernel.endpoints[7].ruleset != 0


def test_a_container_that_is_no_pod_is_let_through_and_a_pod_that_is_gone_leaves_nothing():
    node = synced()
    node.state.attach("c/eth0", "", 7, [ip_address(OWN)])
    assert not node.kernel.endpoints[7].enforce
    node.state.detach("c/eth0")
    node.policy("web", "client")
    node.pod(owner="d/eth0", ifindex=8)
    node.state.detach("d/eth0")
    node.state.flush()
    assert ip_address(OWN) not in node.kernel.identities
    assert not node.kernel.rulesets


def test_after_a_failed_write_everything_is_written_again_as_a_whole():
    node = synced()
    node.policy("web", "client")
    node.kernel.fail_next = "put_identities"
    with pytest.raises(DatapathFailed):
        node.pod()
    node.state.synced = False
    node.state.look_at_all()
    node.state.sync()
    assert node.kernel.allows(7, 302)
    assert node.kernel.identities[ip_address(OWN)] == 300


def test_audit_is_told_with_the_endpoint():
    kernel = RecordingKernel()
    state = PolicyState(kernel, lambda: 0.0, audit=True)
    node = Node()
    node.state, node.kernel = state, kernel
    state.own.relevance, state.own.namespaces["d"] = Relevance(pod_keys=frozenset({"app"})), {}
    node.identity(300, "web")
    state.sync()
    node.pod()
    assert kernel.endpoints[7].audit


def test_subnets_of_nodes_are_where_an_unknown_address_is_the_cluster_s():
    node = synced()
    record = BatchEndpoint(addresses=("10.0.9.1",), identity=6, node="other", subnets=("10.0.9.0/24",), revision=1)
    raw = msgspec.json.encode(EndpointBatch(metadata=Metadata(name="n"), spec=EndpointBatchSpec(endpoints=(record,))))
    node.state.remote.on_batch("n", None, node.packer.decode(raw))
    node.state.flush()
    assert [str(each) for each in node.kernel.networks] == ["10.0.9.0/24"]


def test_after_a_restart_a_range_keeps_its_number_in_whatever_order_policies_come():
    def ranges(node, *texts):
        for text in texts:
            spec = {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": text}}]}]}
            meta = {"name": text.replace("/", "-"), "namespace": "d"}
            obj = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
            parsed = parse(obj)
            node.state.engine.policy(parsed.ref, parsed.policies)

    first = synced()
    first.pod()
    ranges(first, "10.0.0.0/8", "192.0.2.0/24")
    first.state.flush()
    before = dict(first.kernel.cidrs)
    assert len(before) == 2
    second = Node(kernel=first.kernel)
    ranges(second, "198.51.100.0/24", "192.0.2.0/24", "10.0.0.0/8")
    second.state.sync()
    after = second.kernel.cidrs
    assert {network: after[network] for network in before} == before
    assert len(set(after.values())) == 3


def test_a_first_sync_of_many_addresses_builds_no_table_of_them():
    """Beside what it keeps, it needs the addresses of one piece at a time: under 20 bytes for each of the others."""
    node = Node()
    for number in range(40):
        node.batch(f"b{number}", *((f"10.{number}.{i // 250}.{i % 250 + 1}", 302, "x", "far") for i in range(1000)))
    everyone = node.state._all_addresses()
    tracemalloc.start()
    found = sum(1 for _ in everyone.items())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == 40_000
    assert peak < 20 * found


WEB = IdentityLabels("d", pod=(("app", "db"),), ports=(("web", "TCP", 8080),))
RANGE = {"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.9.0/24"]}}


def named_range(node, *, name="p"):
    """Pods of web may open connections to the range, at the port that is called web."""
    rule = {"to": [RANGE], "ports": [{"port": "web"}]}
    spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"], "egress": [rule]}
    meta = {"name": name, "namespace": "d"}
    parsed = parse({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    assert not parsed.problems
    node.state.engine.policy(parsed.ref, parsed.policies)
    return parsed.ref


def goes(node, address, port):
    """Whether the web pod may go there, as the kernel decides."""
    kernel, at = node.kernel, ip_address(address)
    found = kernel.rulesets[kernel.endpoints[7].ruleset]
    rules = RuleSet(1, found["isolated"], True, found["entries"])
    inside = [network for network in kernel.cidrs if at in network]
    cidr = kernel.cidrs[max(inside, key=lambda each: each.prefixlen)] if inside else 0
    who = PeerIdentities(kernel.identities.get(at, 0), exact=at in kernel.identities, cidr=cidr)
    return look_up(rules, Direction.EGRESS, who, TCP, port)[0]


def web_identity(node):
    made = SecurityIdentity(metadata=Metadata(name=WEB.object_name()), spec=spec_of(WEB, 310))
    node.state.identities.on_object(WEB.object_name(), None, decode_identity(msgspec.json.encode(made)))


@pytest.mark.parametrize("first", ["policy", "record", "identity"])
def test_a_named_port_of_a_range_is_that_of_the_pods_in_it_whatever_comes_first(first):
    node = synced()
    node.pod()
    steps = {
        "identity": lambda: web_identity(node),
        "record": lambda: node.batch("b", ("10.0.1.2", 310, "x", "other"), ("10.0.9.2", 310, "y", "other")),
        "policy": lambda: named_range(node),
    }
    for name in sorted(steps, key=lambda each: each != first):
        steps[name]()
        node.state.flush()
    reached = {(a, p) for a in ("10.0.1.2", "10.0.1.3", "10.0.9.2", "8.8.8.8") for p in (80, 8080) if goes(node, a, p)}
    assert reached == {("10.0.1.2", 8080)}
    node.state.sync()
    assert goes(node, "10.0.1.2", 8080)
    assert not goes(node, "10.0.1.3", 8080)


def test_an_address_that_another_pod_has_now_has_not_the_names_of_the_last_one():
    node = synced()
    node.pod()
    web_identity(node)
    named_range(node)
    node.batch("b", ("10.0.1.2", 310, "x", "other"))
    node.state.flush()
    assert goes(node, "10.0.1.2", 8080)
    node.batch("b", ("10.0.1.2", 302, "z", "other"))
    node.state.flush()
    assert not goes(node, "10.0.1.2", 8080)
    assert ip_network("10.0.1.2/32") not in node.kernel.cidrs


def test_pods_of_this_node_have_names_too_and_they_go_with_them_and_with_the_policy():
    node = synced()
    node.pod()
    web_identity(node)
    ref = named_range(node)
    node.batch("b", ("10.0.0.3", 310, "v", "me"))
    node.state.own.put("v", PodFacts("d", labels=(("app", "db"),)))
    node.state.attach("v/eth0", "v", 8, [ip_address("10.0.0.3")])
    node.state.flush()
    assert goes(node, "10.0.0.3", 8080)
    node.batch("b")
    node.state.detach("v/eth0")
    node.state.flush()
    assert not goes(node, "10.0.0.3", 8080)
    node.state.engine.policy(ref, ())
    node.state.flush()
    node.state.flush()
    assert not node.state.engine.named.wanted
    assert not [network for network in node.kernel.cidrs if network.prefixlen == 32]
