"""A policy that names a Service speaks of the pods that the Service selects, by keys that no policy wrote."""

import pytest

from enitide_policy.engine.engine import Engine
from enitide_policy.labels import IdentityLabels, Relevance
from enitide_policy.mapstate import Direction
from enitide_policy.model import TCP, ServicePeer
from enitide_policy.parse import parse
from enitide_policy.relevance_book import HOLD_S, RelevanceBook
from enitide_policy.selectors import equals
from enitide_policy.servicekeys import ServiceKeys, services_named
from enitide_policy.twin import PeerIdentities, look_up
from enitide_policy.world import Service

pytestmark = pytest.mark.unit

DB = Service("d", "db", selector=(("tier", "db"),))
APP, TIER = Relevance(pod_keys=frozenset({"app"})), Relevance(pod_keys=frozenset({"app", "tier"}))
CLIENT, COARSE, CUT, OTHER = 300, 302, 402, 403
LABELS = {
    CLIENT: (("app", "client"),),
    COARSE: (("app", "db"),),
    CUT: (("app", "db"), ("tier", "db")),
    OTHER: (("app", "db"), ("tier", "front")),
}


def cilium(**sections):
    meta = {"name": "c", "namespace": "d"}
    spec = {"endpointSelector": {"matchLabels": {"app": "client"}}, **sections}
    return parse({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": spec})


NAMED = [{"toServices": [{"k8sService": {"serviceName": "db"}}]}]
DENY = cilium(egressDeny=NAMED, egress=[{"toEntities": ["all"]}])
ALLOW = cilium(egress=NAMED)


def reached(policy, announced):
    engine = Engine()
    engine.announce(announced)
    engine.service(("d", "db"), DB)
    engine.policy(policy.ref, policy.policies)
    for number, labels in LABELS.items():
        engine.identity(number, IdentityLabels("d", pod=labels))
    engine.endpoint("e", CLIENT)
    engine.commit()
    return found(engine), engine


def found(engine):
    rules = engine.rule_set_of("e")
    peers = (COARSE, CUT, OTHER)
    return {n for n in peers if look_up(rules, Direction.EGRESS, PeerIdentities(n, exact=True), TCP, 80)[0]}


def test_a_deny_of_a_service_takes_in_whom_it_may_mean_until_identities_are_cut_to_its_keys():
    before, engine = reached(DENY, APP)
    assert before == {OTHER}
    assert engine.held == (DENY.ref,)
    engine.announce(TIER)
    engine.commit()
    assert found(engine) == {COARSE, OTHER}
    assert engine.held == ()


def test_an_allow_of_a_service_takes_in_only_whom_it_means_for_certain():
    for announced in (APP, TIER, None):
        assert reached(ALLOW, announced)[0] == {CUT}


def test_a_held_policy_that_goes_is_not_held_any_more():
    _, engine = reached(DENY, APP)
    engine.policy(DENY.ref, ())
    engine.commit()
    assert engine.held == ()


@pytest.mark.parametrize(
    ("peer", "counts"),
    [
        (ServicePeer("d", "db"), True),
        (ServicePeer("", labels=(equals("kind", "store"),)), True),
        (ServicePeer("e", "db"), False),
        (ServicePeer("d", "other"), False),
        (ServicePeer("", labels=(equals("kind", "web"),)), False),
        (ServicePeer("d", "db", addresses=True), False),
    ],
)
def test_the_keys_of_a_service_count_while_a_policy_names_it(peer, counts):
    labelled = Service("d", "db", labels=(("kind", "store"),), selector=(("tier", "db"),))
    for policy_first in (True, False):
        book = RelevanceBook(Relevance())
        keys = ServiceKeys(book)
        steps = [lambda k=keys: k.policy("p", (peer,), 0.0), lambda k=keys: k.service(("d", "db"), labelled, 0.0)]
        for step in steps if policy_first else reversed(steps):
            step()
        assert ("tier" in book.current(0.0).pod_keys) is counts


def test_keys_of_a_service_stop_counting_when_it_selects_by_others_or_goes_or_nobody_names_it():
    for leave in (
        lambda keys: keys.service(("d", "db"), Service("d", "db", selector=(("role", "db"),)), 1.0),
        lambda keys: keys.service(("d", "db"), None, 1.0),
        lambda keys: keys.policy("p", (), 1.0),
    ):
        book = RelevanceBook(Relevance())
        keys = ServiceKeys(book)
        keys.service(("d", "db"), DB, 0.0)
        keys.policy("p", services_named(DENY.policies), 0.0)
        leave(keys)
        assert "tier" in book.current(HOLD_S).pod_keys
        assert "tier" not in book.current(HOLD_S + 1.5).pod_keys
