"""What the engine does not do: touch, recompute, test or write more than an event selects."""

from ipaddress import ip_address, ip_network

import pytest
from unit.policy.kernel import Kernel

from enitide_policy.engine.engine import Engine
from enitide_policy.labels import IdentityLabels
from enitide_policy.mapstate import MIDDLE_DENY, Action, Direction
from enitide_policy.model import (
    ANY_L4,
    L4,
    TCP,
    AnyPeer,
    CidrPeer,
    NodesPeer,
    PodsPeer,
    Policy,
    Rule,
    ServicePeer,
    Tier,
)
from enitide_policy.numbers import Reserved
from enitide_policy.problems import ObjectRef
from enitide_policy.selectors import equals, selector
from enitide_policy.world import Backend, Node, Service

pytestmark = pytest.mark.unit


def labels(**pod):
    return IdentityLabels("x", pod=tuple(sorted(pod.items())))


def app(name):
    return selector([equals("pod:app", name)])


def policy(name, subject, *rules, tier=Tier.NETWORK_POLICY, isolates=(Direction.INGRESS,), priority=0):
    ref = ObjectRef("Policy", "x", name)
    return Policy(ref, tier, subject, rules, frozenset(isolates), priority)


def allow(*peers, l4=ANY_L4, index=0, action=Action.ALLOW):
    return Rule(Direction.INGRESS, action, index, peers, l4)


def engine_of(apps):
    """One identity and one endpoint for each app."""
    engine, kernel = Engine(), Kernel()
    for number, name in enumerate(apps, 300):
        engine.identity(number, labels(app=name))
        engine.endpoint(f"e-{name}", number)
    kernel.apply(engine.commit())
    return engine, kernel


def say(engine, *policies):
    for one in policies:
        engine.policy(one.ref, (one,))
    return engine.commit()


def test_a_policy_that_selects_1_of_100_endpoints_touches_1():
    engine, _ = engine_of([str(i) for i in range(100)])
    changes = say(engine, policy("p", app("7"), allow(AnyPeer())))
    assert changes.endpoints.keys() == {"e-7"}
    assert len(changes.created) == 1
    assert not changes.deltas
    assert (engine.counts.endpoints, engine.counts.distilled) == (1, 1)


def test_endpoints_with_equal_policy_share_one_rule_set():
    engine, kernel = engine_of([str(i) for i in range(50)])
    changes = say(engine, policy("p", selector([]), allow(PodsPeer(app("1")))))
    kernel.apply(changes)
    assert len(set(kernel.endpoints.values())) == 1
    assert len(kernel.sets) == 1
    assert engine.counts.distilled == 1


def test_a_pod_without_policy_and_a_pod_open_to_all_have_no_entry_and_one_entry_with_5000_identities_known():
    engine, kernel = engine_of(["a", "b"])
    for number in range(1000, 6000):
        engine.identity(number, labels(app="a", n=str(number)))
    kernel.apply(engine.commit())
    rules = [allow(PodsPeer(selector([]))), allow(AnyPeer(), index=1)]
    kernel.apply(say(engine, policy("p", app("b"), *rules)))
    assert kernel.rule_set("e-a").entries == {}
    assert len(kernel.rule_set("e-b").entries) == 1


def test_a_new_identity_writes_its_own_entries_into_the_sets_that_ask_for_it_and_nothing_else():
    engine, kernel = engine_of([str(i) for i in range(10)])
    some = [policy(f"p{i}", app(str(i)), allow(PodsPeer(app("db" if i < 3 else "web")))) for i in range(10)]
    kernel.apply(say(engine, *some))
    engine.identity(900, labels(app="db"))
    changes = engine.commit()
    assert [len(delta.puts) for delta in changes.early] == [1, 1, 1]
    assert engine.counts.peers == 3
    assert (engine.counts.distilled, engine.counts.endpoints) == (0, 0)
    kernel.apply(changes)
    engine.identity(900, None)
    assert [len(delta.deletes) for delta in engine.commit().early] == [1, 1, 1]


def test_an_identity_that_comes_and_goes_between_commits_writes_nothing():
    engine, _ = engine_of(["a"])
    say(engine, policy("p", app("a"), allow(PodsPeer(app("db")))))
    engine.identity(900, labels(app="db"))
    engine.identity(900, None)
    assert not engine.commit()


def test_an_identity_is_tested_only_against_selectors_filed_under_its_own_labels():
    engine, _ = engine_of(["a"])
    say(engine, *(policy(f"p{i}", app(f"s{i}"), allow(PodsPeer(app(f"s{i}")))) for i in range(2000)))
    before = engine.peers.tests
    engine.identity(901, labels(app="s7"))
    assert engine.peers.tests - before == 1


def test_a_selector_is_resolved_once_for_all_that_use_it_and_forgotten_with_the_last():
    engine, _ = engine_of(["a", "b", "c"])
    one, two = (policy(name, app(name), allow(PodsPeer(app("c")))) for name in ("a", "b"))
    say(engine, one, two)
    selection = engine.peers.selections[app("c")]
    assert selection.snapshot() == (302,)
    assert {ref.name for ref, _ in selection.users} == {"a", "b"}
    engine.policy(one.ref)
    engine.commit()
    assert {ref.name for ref, _ in selection.users} == {"b"}
    engine.policy(two.ref)
    engine.commit()
    assert app("c") not in engine.peers.selections


def test_a_snapshot_that_a_reader_holds_never_changes():
    engine, _ = engine_of(["a"])
    say(engine, policy("p", app("a"), allow(PodsPeer(app("a")))))
    held = engine.peers.selections[app("a")].snapshot()
    engine.identity(900, labels(app="a"))
    assert held == (300,)
    assert engine.peers.selections[app("a")].snapshot() == (300, 900)


def test_an_edit_of_allows_is_a_delta_and_an_edit_of_ordered_rules_a_new_set_and_a_switch():
    engine, kernel = engine_of(["a", "b"])
    kernel.apply(say(engine, policy("p", app("a"), allow(PodsPeer(app("b"))))))
    number = kernel.endpoints["e-a"]
    changes = say(engine, policy("p", app("a"), allow(PodsPeer(app("b")), l4=(L4(TCP, 80, 80),))))
    assert (len(changes.deltas), changes.endpoints) == (1, {})
    kernel.apply(changes)
    deny = allow(PodsPeer(app("b")), action=Action.DENY)
    changes = say(engine, policy("admin", app("a"), deny, tier=Tier.ADMIN, isolates=()))
    assert changes.endpoints == {"e-a": changes.created[0].id}
    assert changes.dropped == (number,)


def test_what_was_handed_out_does_not_change_under_its_holder():
    engine, _ = engine_of(["a"])
    say(engine, policy("p", app("a"), allow(PodsPeer(app("db")))))
    held = engine.rule_set_of("e-a")
    engine.identity(900, labels(app="db"))
    engine.commit()
    assert dict(held.entries) == {}


def test_an_endpoint_is_closed_until_its_identity_is_known_and_again_when_it_is_gone():
    engine = Engine()
    engine.endpoint("e", 300)
    assert engine.commit().endpoints == {"e": 0}
    engine.identity(300, labels(app="a"))
    assert engine.commit().endpoints["e"] > 0
    engine.identity(300, None)
    assert engine.commit().endpoints == {"e": 0}


def test_a_nested_range_has_what_the_wider_one_grants():
    engine, kernel = engine_of(["a"])
    wide, narrow = CidrPeer(ip_network("10.0.0.0/8")), CidrPeer(ip_network("10.1.0.0/16"))
    kernel.apply(say(engine, policy("p", app("a"), allow(wide, l4=(L4(TCP, 80, 80),)))))
    changes = say(engine, policy("q", app("a"), allow(narrow, l4=(L4(TCP, 81, 81),))))
    kernel.apply(changes)
    keys = {(key.identity, key.port) for key, _ in kernel.rule_set("e-a").rules()}
    first, second = kernel.cidrs[wide.network], kernel.cidrs[narrow.network]
    assert keys == {(first, 80), (second, 80), (second, 81)}


def test_policies_edited_twice_in_one_batch_count_once():
    engine, kernel = engine_of(["a"])
    engine.policy(ObjectRef("Policy", "x", "p"), (policy("p", app("a"), allow(AnyPeer())),))
    engine.policy(ObjectRef("Policy", "x", "p"), (policy("p", app("a")),))
    kernel.apply(engine.commit())
    assert kernel.rule_set("e-a").isolated_ingress
    assert kernel.rule_set("e-a").entries == {}
    assert engine.counts.distilled == 1


def test_a_range_named_for_another_pod_is_written_for_all_that_grant_it_before_it_is_entered_and_deleted_after():
    engine, kernel = engine_of(["a", "b"])
    wide, narrow = CidrPeer(ip_network("10.0.0.0/8")), CidrPeer(ip_network("10.1.0.0/16"))
    kernel.apply(say(engine, policy("p", app("a"), allow(wide))))
    mine = kernel.endpoints["e-a"]
    changes = say(engine, policy("q", app("b"), allow(narrow)))
    assert [(delta.id, len(delta.puts)) for delta in changes.early] == [(mine, 1)]
    assert changes.cidrs.keys() == {narrow.network}
    kernel.apply(changes)
    engine.policy(ObjectRef("Policy", "x", "q"))
    changes = engine.commit()
    assert changes.cidrs_gone == (narrow.network,)
    assert [(delta.id, len(delta.deletes)) for delta in changes.late] == [(mine, 1)]
    kernel.apply(changes)
    assert len(kernel.rule_set("e-a").entries) == 1


def test_denies_are_put_first_and_deleted_last():
    engine, kernel = engine_of(["a", "b", "c"])
    both = [allow(PodsPeer(app("b"))), allow(PodsPeer(app("c")), index=1, action=Action.DENY)]
    changes = say(engine, policy("p", app("a"), *both, tier=Tier.CILIUM))
    kernel.apply(changes)
    other = engine.identity
    for number in range(900, 910):
        other(number, labels(app="bc"[number % 2]))
    kernel.apply(engine.commit())
    (delta,) = say(engine, policy("p", app("a"), tier=Tier.CILIUM)).deltas
    denied = [bool(kernel.sets[delta.id][key] & MIDDLE_DENY) for key in delta.deletes]
    assert denied == sorted(denied)
    assert set(denied) == {False, True}
    (delta,) = say(engine, policy("p", app("a"), *both, tier=Tier.CILIUM)).deltas
    put = [bool(value & MIDDLE_DENY) for value in delta.puts.values()]
    assert put == sorted(put, reverse=True)


def test_a_pod_that_changes_its_set_never_meets_its_old_set_changed():
    engine, kernel = engine_of(["a", "b"])
    kernel.apply(say(engine, policy("p", selector([]), allow(PodsPeer(app("b"))))))
    number = kernel.endpoints["e-a"]
    engine.policy(ObjectRef("Policy", "x", "p"), (policy("p", selector([]), allow(PodsPeer(app("a")))),))
    changes = say(engine, policy("q", app("a"), allow(PodsPeer(app("b")))))
    assert [delta.id for delta in changes.deltas] == []
    assert changes.endpoints.keys() == {"e-a", "e-b"}
    assert changes.dropped == (number,)


def test_a_node_that_changes_its_labels_changes_policies_that_name_nodes():
    engine, kernel = engine_of(["a"])
    engine.node("n", Node("n", (("zone", "one"),), (ip_address("172.16.0.1"),)))
    peer = NodesPeer(selector([equals("zone", "two")]))
    kernel.apply(say(engine, policy("p", app("a"), allow(peer))))
    assert kernel.cidrs == {}
    engine.node("n", Node("n", (("zone", "two"),), (ip_address("172.16.0.1"),)))
    kernel.apply(engine.commit())
    assert kernel.cidrs.keys() == {ip_network("172.16.0.1/32")}
    assert len(kernel.rule_set("e-a").entries) == 1
    engine.node("n", None)
    kernel.apply(engine.commit())
    assert kernel.cidrs == {}
    assert kernel.rule_set("e-a").entries == {}


def test_pods_that_part_company_by_their_ports_leave_their_common_set_as_it_was():
    engine, kernel = Engine(), Kernel()
    for number, ports in ((300, ()), (301, (("web", "TCP", 80),))):
        engine.identity(number, IdentityLabels("x", pod=(("app", "a"),), ports=ports))
        engine.endpoint(f"e{number}", number)
    kernel.apply(engine.commit())
    (shared,) = kernel.sets
    changes = say(engine, policy("p", app("a"), allow(AnyPeer(), l4=(L4(TCP, name="web"),))))
    assert not changes.deltas
    assert len(changes.created) == 2
    assert changes.dropped == (shared,)


def test_allows_of_a_direction_that_nothing_isolates_write_nothing():
    engine, kernel = engine_of(["a"])
    rules = [allow(AnyPeer()), allow(PodsPeer(app("a")), index=1)]
    kernel.apply(say(engine, policy("p", app("a"), *rules, isolates=())))
    assert kernel.rule_set("e-a").entries == {}


def seen_while(kernel, changes):
    """Whether a stranger inside 10.1.0.0/16 was let in, after every single write."""
    stranger, seen = (Reserved.WORLD, False, ip_address("10.1.2.3")), []
    kernel.after = lambda: seen.append(kernel.allows("e-a", Direction.INGRESS, stranger, (TCP, 80)))
    kernel.apply(changes)
    kernel.after = lambda: None
    return seen


def test_an_edit_from_a_wide_range_to_one_inside_it_never_closes_what_both_allow():
    engine, kernel = engine_of(["a"])
    wide, inside = (policy("p", app("a"), allow(CidrPeer(ip_network(text)))) for text in ("10.0.0.0/8", "10.1.0.0/16"))
    kernel.apply(say(engine, wide))
    assert all(seen_while(kernel, say(engine, inside)))
    assert all(seen_while(kernel, say(engine, wide)))
    assert kernel.cidrs.keys() == {ip_network("10.0.0.0/8")}


def test_nor_does_one_policy_in_the_place_of_another():
    engine, kernel = engine_of(["a"])
    kernel.apply(say(engine, policy("p", app("a"), allow(CidrPeer(ip_network("10.0.0.0/8"))))))
    engine.policy(ObjectRef("Policy", "x", "p"))
    assert all(seen_while(kernel, say(engine, policy("q", app("a"), allow(CidrPeer(ip_network("10.1.0.0/16")))))))


def test_a_pod_that_comes_later_brings_its_own_number_for_a_named_port():
    engine, kernel = engine_of(["a"])
    rule = Rule(Direction.EGRESS, Action.ALLOW, 0, (AnyPeer(),), (L4(TCP, name="web"),))
    kernel.apply(say(engine, policy("p", app("a"), rule, isolates=(Direction.EGRESS,))))
    for number, port in ((900, 80), (901, 8080)):
        engine.identity(number, IdentityLabels("x", pod=(("app", "db"),), ports=(("web", "TCP", port),)))
        kernel.apply(engine.commit())
    keys = {(key.identity, key.port, key.port_bits) for key, _ in kernel.rule_set("e-a").rules()}
    assert keys == {(900, 80, 16), (901, 8080, 16)}


def test_endpoints_of_a_service_that_no_policy_names_change_nothing_and_those_of_a_named_one_its_policies():
    engine, kernel = engine_of(["a", "b"])
    engine.service(("x", "web"), Service("x", "web"))
    say(engine, policy("named", app("a"), allow(ServicePeer("x", "web"))))
    say(engine, policy("other", app("b"), allow(ServicePeer("y", "db"))))
    kernel.apply(engine.commit())
    dynamic = engine._dynamic
    old, new = (Backend("x", "web", ip_address(text), ()) for text in ("192.0.2.1", "192.0.2.2"))
    assert dynamic.backends(("x", "cache-1"), (Backend("x", "cache", ip_address("192.0.2.9"), ()),)) == ()
    assert [ref.name for ref in dynamic.backends(("x", "web-1"), (old,))] == ["named"]
    engine.backends(("x", "web-1"), (old, new))
    changes = engine.commit()
    assert changes.cidrs.keys() == {ip_network("192.0.2.1/32"), ip_network("192.0.2.2/32")}
    assert engine.counts.distilled == 1
    engine.backends(("x", "web-1"), ())
    assert set(engine.commit().cidrs_gone) == set(changes.cidrs)
