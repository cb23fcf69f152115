"""A named port asked of a range is that of the pods in it, however pods, identities and policies come and go."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enitide_policy.engine.engine import Engine
from enitide_policy.evaluate import End, Packet, decide
from enitide_policy.labels import IdentityLabels
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import L4, TCP, UDP, CidrPeer, Policy, Rule, Tier
from enitide_policy.problems import ObjectRef
from enitide_policy.selectors import selector
from enitide_policy.twin import PeerIdentities, look_up

pytestmark = pytest.mark.unit
one = st.sampled_from
ADDRESSES = [ip_address(f"10.0.{a}.{b}") for a in (0, 1) for b in (1, 2)]
RANGES = [
    CidrPeer(ip_network("10.0.0.0/16")),
    CidrPeer(ip_network("10.0.0.0/16"), (ip_network("10.0.1.0/24"),)),
    CidrPeer(ip_network("10.0.1.0/24")),
    CidrPeer(ip_network("10.0.0.1/32")),
]
PORTS = [(), (("web", "TCP", 80),), (("web", "TCP", 81), ("dns", "UDP", 53)), (("web", "UDP", 80), ("web", "TCP", 82))]
LABELS = {300 + n: IdentityLabels("x", pod=(("n", str(n)),), ports=ports) for n, ports in enumerate(PORTS)}
L4S = [L4(TCP, name="web"), L4(UDP, name="dns"), L4(TCP, 80, 80), L4(name="web")]
PACKETS = [Packet(protocol, port) for protocol in (TCP, UDP) for port in (53, 80, 81, 82)]
SUBJECT = 299


def policy(name, ranges, l4):
    rule = Rule(Direction.EGRESS, Action.ALLOW, 0, tuple(ranges), tuple(l4))
    return Policy(ObjectRef("N", "x", name), Tier.NETWORK_POLICY, selector([]), (rule,), frozenset({Direction.EGRESS}))


policies = st.builds(
    policy, one("pq"), st.lists(one(RANGES), min_size=1, max_size=2), st.lists(one(L4S), min_size=1, max_size=2)
)
events = st.one_of(
    st.tuples(st.just("pod"), one(ADDRESSES), st.none() | one(sorted(LABELS))),
    st.tuples(st.just("identity"), one(sorted(LABELS)), st.booleans()),
    st.tuples(st.just("policy"), policies, st.booleans()),
)


def fresh():
    engine = Engine()
    engine.identity(SUBJECT, IdentityLabels("x"))
    engine.endpoint("e", SUBJECT)
    return engine


@settings(max_examples=300, deadline=None)
@given(policies, st.lists(st.tuples(events, st.booleans()), min_size=3, max_size=25))
def test_after_any_events_the_verdicts_are_those_of_the_reference(first, sequence):
    engine, pods, known, there = fresh(), {}, set(LABELS), {first.ref: first}
    for number, labels in LABELS.items():
        engine.identity(number, labels)
    engine.policy(first.ref, (first,))
    for (what, which, value), is_committed in sequence:
        if what == "pod":
            engine.named.pod(which, value)
            pods[which] = value
        elif what == "identity":
            engine.identity(which, LABELS[which] if value else None)
            known = known | {which} if value else known - {which}
        else:
            engine.policy(which.ref, (which,) if value else ())
            there[which.ref] = which if value else None
        if is_committed:
            engine.commit()
    engine.commit()
    rules = engine.rule_set_of("e")
    subject = End(None, ("x", "e"), IdentityLabels("x"))
    for address in ADDRESSES:
        number = pods.get(address)
        labels = LABELS[number] if number in known else IdentityLabels("x", pod=(("n", "none"),))
        peer = End(address, ("x", str(address)), labels)
        who = PeerIdentities(number or 0, exact=number is not None, cidr=engine.cidrs.number_of(4, int(address)))
        for packet in PACKETS:
            wanted = decide(Direction.EGRESS, subject, peer, packet, [each for each in there.values() if each])
            got = look_up(rules, Direction.EGRESS, who, packet.protocol, packet.port)[0]
            assert got is wanted.allowed, (str(address), number, packet)


def test_addresses_are_wanted_only_while_a_policy_asks_a_range_for_a_name():
    engine = fresh()
    assert not engine.named.wanted
    numbers = policy("p", [RANGES[0]], [L4(TCP, 80, 80)])
    engine.policy(numbers.ref, (numbers,))
    assert not engine.named.wanted
    names = policy("p", [RANGES[0]], [L4(TCP, name="web")])
    engine.policy(names.ref, (names,))
    assert engine.named.wanted
    engine.policy(names.ref, ())
    assert not engine.named.wanted


def test_an_identity_that_is_known_later_than_its_pod_has_its_names_from_then_on():
    engine = fresh()
    names = policy("p", [RANGES[0]], [L4(TCP, name="web")])
    engine.policy(names.ref, (names,))
    engine.named.pod(ADDRESSES[0], 301)
    engine.commit()
    assert [each for each in engine.cidrs.numbers if each.prefixlen == 32] == []
    engine.identity(301, LABELS[301])
    engine.commit()
    assert [each for each in engine.cidrs.numbers if each.prefixlen == 32] == [ip_network("10.0.0.1/32")]
    engine.identity(301, None)
    engine.commit()
    assert [each for each in engine.cidrs.numbers if each.prefixlen == 32] == []
