"""The engine over random streams of events: always equal to starting anew, and without a gap on the way."""

from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.policy.kernel import Kernel
from unit.policy.strategies import NAMES, NODES, OUTSIDE, policies, with_all_labels, worlds

from enitide_policy.engine.engine import Engine
from enitide_policy.mapstate import Direction
from enitide_policy.numbers import Reserved
from enitide_policy.world import Backend, Node

pytestmark = pytest.mark.unit
POLICY_NAMES = ("p0", "p1", "p2", "p3")
KINDS = ("policy", "policy", "gone", "identity", "forgotten", "endpoint", "ended", "node", "backends", "host")
SEEN = ((6, 80), (6, 8080), (17, 80), (1, 8 << 8))


class Facts:
    """All that an engine was told, so that another can be told the same at once."""

    def __init__(self, world):
        self.identities, self.policies, self.endpoints = {}, {}, {}
        self.nodes, self.services, self.backends = dict(world.nodes), dict(world.services), {}
        self.host = None
        self.possible = {n: with_all_labels(world, pod) for n, pod in enumerate(world.pods.values(), 300)}

    def fresh(self):
        engine = Engine()
        for name, node in self.nodes.items():
            engine.node(name, node)
        for key, service in self.services.items():
            engine.service(key, service)
        for key, backends in self.backends.items():
            engine.backends(key, backends)
        for number, labels in self.identities.items():
            engine.identity(number, labels)
        for ref, some in self.policies.items():
            engine.policy(ref, some)
        for name, identity in self.endpoints.items():
            if name != "host":
                engine.endpoint(name, identity)
        engine.host("host", Reserved.HOST, self.host)
        kernel = Kernel()
        kernel.apply(engine.commit())
        return kernel


def happen(draw, engine, facts, kernel):
    """One random event, told to the engine and kept in the facts."""
    kind = draw(st.sampled_from(KINDS))
    number = draw(st.sampled_from(sorted(facts.possible)))
    name = draw(st.sampled_from(NAMES))
    if kind in ("policy", "gone"):
        policy = draw(policies(draw(st.sampled_from(POLICY_NAMES))))
        facts.policies.pop(policy.ref, None)
        if kind == "policy":
            facts.policies[policy.ref] = (policy,)
        engine.policy(policy.ref, facts.policies.get(policy.ref, ()))
    elif kind in ("identity", "forgotten"):
        facts.identities.pop(number, None)
        if kind == "identity":
            facts.identities[number] = facts.possible[number]
        engine.identity(number, facts.identities.get(number))
    elif kind in ("endpoint", "ended"):
        facts.endpoints.pop(name, None)
        if kind == "ended":
            kernel.endpoints.pop(name, None)
            engine.endpoint(name, None)
        if kind == "endpoint":
            facts.endpoints[name] = number
        engine.endpoint(name, facts.endpoints.get(name))
    elif kind == "node":
        node = Node(draw(st.sampled_from(NODES)), (("zone", draw(st.sampled_from(NODES))),), (ip_address("10.0.1.1"),))
        facts.nodes[node.name] = node
        engine.node(node.name, node)
    elif kind == "host":
        facts.host = draw(st.sampled_from([None, (), (("zone", "n1"),), (("app", "a"), ("zone", "n2"))]))
        facts.endpoints.pop("host", None)
        if facts.host is None:
            kernel.endpoints.pop("host", None)
        else:
            facts.endpoints["host"] = Reserved.HOST
        engine.host("host", Reserved.HOST, facts.host)
    else:
        address = draw(st.sampled_from([address for address in OUTSIDE if address.version == 4]))
        some = (Backend("default", "kubernetes", address, ()),)
        facts.backends["default", "kubernetes-1"] = some
        engine.backends(("default", "kubernetes-1"), some)
    return kind


def loaded(draw, world):
    """An engine that knows all identities and has an endpoint or two."""
    facts, engine, kernel = Facts(world), Engine(), Kernel()
    for name, node in facts.nodes.items():
        engine.node(name, node)
    for key, service in facts.services.items():
        engine.service(key, service)
    for number, labels in facts.possible.items():
        facts.identities[number] = labels
        engine.identity(number, labels)
    for name in NAMES:
        facts.endpoints[name] = draw(st.sampled_from(sorted(facts.possible)))
        engine.endpoint(name, facts.endpoints[name])
    kernel.apply(engine.commit())
    return facts, engine, kernel


def same(kernel, facts):
    fresh = facts.fresh()
    assert kernel.cidrs.keys() == fresh.cidrs.keys()
    for name in facts.endpoints:
        assert kernel.view(name) == fresh.view(name), name


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.data())
def test_after_every_commit_the_kernel_holds_what_a_new_engine_would_make(world, data):
    facts, engine, kernel = loaded(data.draw, world)
    for _ in range(data.draw(st.integers(1, 6))):
        for _ in range(data.draw(st.integers(1, 4))):
            happen(data.draw, engine, facts, kernel)
        kernel.apply(engine.commit())
        same(kernel, facts)
    assert not engine.commit(), "nothing happened, nothing changes"


def probes(facts):
    """Peers by identity, exactness and address: those that are there before and after the event."""
    found = [(number, True, ip_address(f"10.0.1.{number % 50}")) for number in facts.identities]
    found += [(Reserved.HOST, True, ip_address("10.0.1.1")), (Reserved.REMOTE_NODE, True, ip_address("10.0.1.2"))]
    return found + [(Reserved.WORLD, False, address) for address in OUTSIDE]


def verdicts(kernel, names, peers):
    return {
        (name, side, peer, packet): kernel.allows(name, side, peer, packet)
        for name in names
        for side in Direction
        for peer in peers
        for packet in SEEN
    }


def watched(kernel, changes, names, peers):
    """Each probe's verdict before, after every single write, and at the end."""
    seen = [verdicts(kernel, names, peers)]
    kernel.after = lambda: seen.append(verdicts(kernel, names, peers))
    kernel.apply(changes)
    kernel.after = lambda: None
    return {key: [state[key] for state in seen] for key in seen[0]}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.data())
def test_while_one_event_is_written_every_packet_meets_the_verdict_from_before_or_from_after(world, data):
    facts, engine, kernel = loaded(data.draw, world)
    for _ in range(data.draw(st.integers(1, 4))):
        known, names = set(facts.identities), set(facts.endpoints)
        happen(data.draw, engine, facts, kernel)
        known &= set(facts.identities)
        peers = [peer for peer in probes(facts) if peer[0] < 100 or peer[0] in known]
        names &= set(facts.endpoints)
        for key, states in watched(kernel, engine.commit(), names, peers).items():
            assert set(states) <= {states[0], states[-1]}, key


def test_a_number_is_never_given_to_another_range_and_an_old_life_keeps_its_own():
    from ipaddress import ip_network

    from enitide_policy.engine.cidrs import CidrTable
    from enitide_policy.model import CidrPeer

    old = {ip_network("10.0.0.0/8"): 0x80000007}
    table = CidrTable(old)
    first, _ = table.acquire(CidrPeer(ip_network("10.0.0.0/8")), "p")
    second, _ = table.acquire(CidrPeer(ip_network("10.1.0.0/16")), "p")
    assert table.numbers == {**old, ip_network("10.1.0.0/16"): 0x80000008}
    assert table.take_added() == {ip_network("10.1.0.0/16"): 0x80000008}
    table.release(second, "p")
    assert table.sweep()[0] == [ip_network("10.1.0.0/16")]
    table.acquire(CidrPeer(ip_network("10.2.0.0/16")), "q")
    assert table.numbers[ip_network("10.2.0.0/16")] == 0x80000009
    assert len(first.bases) == 2
