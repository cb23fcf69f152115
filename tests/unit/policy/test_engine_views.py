"""Rows of `policy get` and `policy selectors`, and of a rule set's entries."""

from ipaddress import ip_network

import pytest
from unit.policy.test_engine_sharing import allow, app, engine_of, policy, say

from enitide_policy.engine.views import entry_rows, policy_rows, selector_rows
from enitide_policy.mapstate import Action, Direction, Peer, RuleKey
from enitide_policy.model import ICMP, L4, TCP, CidrPeer, PodsPeer, ReservedPeer, Tier
from enitide_policy.numbers import Reserved
from enitide_policy.selectors import selector

pytestmark = pytest.mark.unit


@pytest.fixture
def engine():
    found, _ = engine_of(["a", "b"])
    block = CidrPeer(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),), outside=True)
    rules = [
        allow(PodsPeer(app("b")), l4=(L4(TCP, 8000, 8003), L4(ICMP, 8, 8))),
        allow(block, ReservedPeer(Reserved.REMOTE_NODE), index=1, action=Action.DENY),
    ]
    say(found, policy("p", app("a"), *rules))
    say(found, policy("base", selector([]), allow(PodsPeer(selector([]))), tier=Tier.BASELINE, isolates=(), priority=3))
    return found


def test_policies_stand_in_the_order_of_decision_with_the_pods_that_they_select(engine):
    first, second = policy_rows(engine)
    assert (first["name"], first["subject"], first["endpoints"]) == ("p", "pod:app=a", ["e-a"])
    assert (first["isolates"], first["ingress"], first["priority"]) == (["ingress"], 2, None)
    assert (second["tier"], second["priority"], second["endpoints"]) == ("Baseline", 3, ["e-a", "e-b"])


def test_selectors_show_what_they_select_and_who_uses_them(engine):
    wide = engine.cidrs.numbers[ip_network("10.0.0.0/8")]
    rows = {(row["role"], row["selector"]): (row["identities"], row["policies"]) for row in selector_rows(engine)}
    assert all(row["users"] == 1 for row in selector_rows(engine))
    assert rows == {
        ("peer", "pod:app=b"): ([301], ["Policy/x/p"]),
        ("peer", "*"): ([300, 301], ["Policy/x/base"]),
        ("subject", "pod:app=a"): ([300], ["Policy/x/p"]),
        ("subject", "*"): ([300, 301], ["Policy/x/base"]),
        ("range", "10.0.0.0/8 except 10.1.0.0/16 (outside)"): ([wide], ["Policy/x/p"]),
    }


def test_entries_name_their_peers_and_ports(engine):
    rows = entry_rows(engine, engine.rule_set_of("e-a"))
    seen = {(row["peer"], row["protocol"], row["ports"]) for row in rows if row["allow"]}
    assert seen == {
        ("namespace=x, pod:app=b", "TCP", "8000-8003"),
        ("namespace=x, pod:app=b", "ICMP", "type 8"),
    }
    assert {row["peer"] for row in rows if row["deny"]} == {"10.0.0.0/8 (outside)", "remote-node"}
    assert {row["baseline"] for row in rows if row["baseline"]} == {"Allow"}


def test_a_key_without_a_name_shows_its_number():
    from enitide_policy.engine.engine import Engine
    from enitide_policy.mapstate import RuleSet, RuleValue, pack_key, pack_value

    key = RuleKey(Direction.EGRESS, Peer.IDENTITY, 77777, 47)
    entries = {pack_key(key): pack_value(RuleValue(allow=True))}
    (row,) = entry_rows(Engine(), RuleSet(1, isolated_ingress=False, isolated_egress=True, entries=entries))
    assert (row["peer"], row["protocol"], row["ports"], row["direction"]) == ("77777", "47", "any", "egress")
