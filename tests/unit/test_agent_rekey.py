"""A key that policies begin or cease to name opens nothing, whatever an agent hears first and however it is told."""

from ipaddress import ip_address
from itertools import permutations, product

import msgspec
import pytest
from support.policy_kernel import RecordingKernel

from enitide_api.resources import (
    KEYS_BATCH,
    BatchEndpoint,
    EndpointBatch,
    EndpointBatchSpec,
    Metadata,
    SecurityIdentity,
)
from enitide_enidp.policy.keys import WAIT_S
from enitide_enidp.policy.own import decode_identity
from enitide_enidp.policy.remote import Packer
from enitide_enidp.policy.state import PolicyState
from enitide_policy.identities import keys_of, spec_of
from enitide_policy.labels import IdentityLabels, PodFacts, Relevance
from enitide_policy.languages.reading import Place
from enitide_policy.languages.shared import pod_key
from enitide_policy.parse import parse
from enitide_policy.problems import ObjectRef
from enitide_policy.selectors import selector

pytestmark = pytest.mark.unit

OWN, PEER = "10.0.0.2", "10.0.1.2"
OLD, NEW = Relevance(pod_keys=frozenset({"app"})), Relevance(pod_keys=frozenset({"app", "tier"}))
NOT_IN = [{"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["prod"]}]}]
NOT_DEV = [{"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["dev"]}]}]
ABSENT = [{"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}]
WEB = {"matchLabels": {"app": "web"}}
CLIENT = [{"matchLabels": {"app": "client"}}]
TIER = [{"matchLabels": {"tier": "prod"}}]


class Watched(RecordingKernel):
    """`seen`: whether the peer's address could reach the pod, after each single write."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def _look(self):
        if 7 in self.endpoints:
            self.seen.append(self.allows(7, self.identities.get(ip_address(PEER), 0)))

    def apply(self, change):
        super().apply(change)
        self._look()

    def set_endpoint(self, ifindex, policy):
        done = super().set_endpoint(ifindex, policy)
        self._look()
        return done

    def put_identities(self, identities):
        super().put_identities(identities)
        self._look()

    def delete_identities(self, addresses):
        done = super().delete_identities(addresses)
        self._look()
        return done


class Node:
    """A node "me" with a web pod, and a client elsewhere; `tiers` are the labels that identities may lack."""

    def __init__(self, *, announced=OLD, own_tier="front", peer_tier="prod"):
        self.kernel = Watched()
        self.now = 0.0
        self.state = PolicyState(self.kernel, lambda: self.now)
        self.state.own.relevance = announced
        self.state.own.namespaces["d"] = {}
        self.packer, self.batches, self.revision = Packer("me"), {}, 0
        self.tier = {"web": own_tier, "client": peer_tier}
        self.is_cut = announced == NEW
        for app in ("web", "client"):
            self.identity(app, cut=self.is_cut)
        self.announce(announced)
        self.state.sync()

    def start(self):
        """Both pods are there."""
        self.record("client", cut=self.is_cut)
        labels = {"app": "web", "tier": self.tier["web"]}
        self.state.own.put("web", PodFacts("d", labels=tuple(sorted((k, v) for k, v in labels.items() if v))))
        self.state.attach("c/eth0", "web", 7, [ip_address(OWN)])
        self.kernel.seen.clear()

    def number(self, app, *, cut):
        return {"web": 300, "client": 302}[app] + (100 if cut and self.tier[app] else 0)

    def identity(self, app, *, cut):
        tier = ((("tier", self.tier[app]),) if self.tier[app] else ()) if cut else ()
        labels = IdentityLabels("d", pod=(("app", app), *tier))
        made = SecurityIdentity(
            metadata=Metadata(name=labels.object_name()), spec=spec_of(labels, self.number(app, cut=cut))
        )
        raw = decode_identity(msgspec.json.encode(made))
        self.state.identities.on_object(labels.object_name(), None, raw)

    def record(self, app, *, cut):
        self.revision += 1
        address, node = (OWN, "me") if app == "web" else (PEER, "other")
        number = self.number(app, cut=cut)
        made = BatchEndpoint(addresses=(address,), pod_uid=app, identity=number, node=node, revision=self.revision)
        self._batch(f"b{app}", EndpointBatchSpec(endpoints=(made,)))

    def announce(self, relevance):
        self._batch(KEYS_BATCH, EndpointBatchSpec(keys=keys_of(relevance)))

    def _batch(self, name, spec):
        new = self.packer.decode(msgspec.json.encode(EndpointBatch(metadata=Metadata(name=name), spec=spec)))
        self.state.remote.on_batch(name, self.batches.get(name), new)
        self.batches[name] = new

    def allow(self, peers, *, name="p", subject=None):
        """A NetworkPolicy; no peers: it lets nobody in."""
        rules = [{"from": [{"podSelector": each}]} for each in peers]
        spec = {"podSelector": subject or {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": rules}
        self._put("networking.k8s.io/v1", "NetworkPolicy", name, spec)

    def deny(self, peers, *, name="c"):
        """A CiliumNetworkPolicy that lets all in but these."""
        subject = {"matchLabels": {"app": "web"}}
        spec = {"endpointSelector": subject, "ingressDeny": [{"fromEndpoints": peers}]}
        spec["ingress"] = [{"fromEntities": ["all"]}]
        self._put("cilium.io/v2", "CiliumNetworkPolicy", name, spec)

    def rule(self, action, selector, *, name="a", priority=5, tier="Admin"):
        """A ClusterNetworkPolicy of web pods with one rule about these peers."""
        pods = {"namespaceSelector": {}, "podSelector": selector}
        spec = {"tier": tier, "priority": priority, "subject": {"pods": pods | {"podSelector": WEB}}}
        spec["ingress"] = [{"action": action, "from": [{"pods": pods}]}]
        self._put("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", name, spec)

    def _put(self, version, kind, name, spec):
        meta = {"name": name, "namespace": "d"}
        parsed = parse({"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec})
        assert not parsed.problems
        self.state.policies.put(parsed.ref, parsed.policies)

    def can_reach(self):
        return self.kernel.allows(7, self.kernel.identities.get(ip_address(PEER), 0))


def orders(events, before):
    """Every order of events in which the pairs `before` hold, each with every choice of where a flush is."""
    for order in permutations(events):
        if all(order.index(first) < order.index(then) for first, then in before):
            yield from product([order], product((False, True), repeat=len(order)))


def play(node, steps, order, flushes):
    for name, flush in zip(order, flushes, strict=True):
        steps[name](node)
        if flush:
            node.state.flush()
    node.state.flush()


def rekey(app):
    """What an agent hears of a pod whose identity is cut anew."""
    return {
        "identity": lambda node: node.identity(app, cut=True),
        "record": lambda node: node.record(app, cut=True),
        "announcement": lambda node: node.announce(NEW),
    }


TOLD_LAST = [("record", "announcement")]

EDITS = {
    "an allow of what is not prod": (
        lambda node: node.allow([], name="base"),
        lambda node: node.allow(NOT_IN),
    ),
    "an allow of what has no tier": (
        lambda node: node.allow([], name="base"),
        lambda node: node.allow(ABSENT),
    ),
    "an edited allow": (lambda node: node.allow([]), lambda node: node.allow(NOT_IN)),
    "a deny by a new key in place of an old one": (lambda node: node.deny(CLIENT), lambda node: node.deny(TIER)),
    "a subject by a new key in place of an old one": (
        lambda node: node.allow([]),
        lambda node: node.allow([], subject={"matchLabels": {"tier": "front"}}),
    ),
    "an Admin accept of what is not prod": (
        lambda node: node.allow([], name="base"),
        lambda node: node.rule("Accept", NOT_IN[0]),
    ),
    "an Admin accept of what has no tier": (
        lambda node: node.allow([], name="base"),
        lambda node: node.rule("Accept", ABSENT[0]),
    ),
    "an Admin deny by a new key in place of an old one": (
        lambda node: node.rule("Deny", CLIENT[0]),
        lambda node: node.rule("Deny", TIER[0]),
    ),
    "an Admin pass of what is not prod, before a deny of all": (
        lambda node: node.rule("Deny", {}, name="all", priority=9),
        lambda node: node.rule("Pass", NOT_IN[0]),
    ),
    "a baseline accept of what is not prod, before a deny of all": (
        lambda node: node.rule("Deny", {}, name="all", priority=9, tier="Baseline"),
        lambda node: node.rule("Accept", NOT_IN[0], tier="Baseline"),
    ),
    "a subject by what it is not": (lambda node: node.allow([]), lambda node: node.allow([], subject=NOT_IN[0])),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_neither_the_old_nor_the_new_state_allows_is_allowed_at_no_write(edit):
    before, after = EDITS[edit]
    app = "web" if "subject" in edit else "client"
    steps = rekey(app) | {"policy": after}
    for order, flushes in orders(steps, TOLD_LAST):
        node = Node(**{"peer_tier" if app == "web" else "own_tier": ""})
        before(node)
        node.start()
        assert not node.can_reach()
        play(node, steps, order, flushes)
        assert not any(node.kernel.seen), (order, flushes)


@pytest.mark.parametrize("tier", ["dev", ""])
def test_once_the_key_is_announced_what_fits_is_let_in(tier):
    steps = rekey("client") | {"policy": lambda node: node.allow(NOT_IN)}
    for order, flushes in orders(steps, TOLD_LAST):
        node = Node(peer_tier=tier, own_tier="")
        node.allow([], name="base")
        node.start()
        play(node, steps, order, flushes)
        assert node.can_reach(), order
        assert node.state.policies.held == ()


def test_a_policy_deleted_and_its_key_retired_open_nothing_when_it_comes_back_at_any_moment():
    steps = {
        "announcement": lambda node: node.announce(OLD),
        "identity": lambda node: node.identity("client", cut=False),
        "record": lambda node: node.record("client", cut=False),
        "policy again": lambda node: node.allow(NOT_IN),
    }
    for order, flushes in orders(steps, [("announcement", "record")]):
        node = Node(announced=NEW)
        node.allow([], name="base")
        node.start()
        play(node, steps, order, flushes)
        assert not any(node.kernel.seen), (order, flushes)
        assert len(node.state.policies.held) == 1


def test_the_policy_goes_while_it_is_held_and_leaves_nothing():
    node = Node()
    node.allow([], name="base")
    node.start()
    node.allow(NOT_IN)
    node.state.flush()
    assert len(node.state.policies.held) == 1
    found = node.state.policies.held[0]
    node.state.policies.put(found, ())
    node.state.flush()
    assert node.state.policies.held == ()
    for step in rekey("client").values():
        step(node)
    node.state.flush()
    assert not node.can_reach()


def test_where_no_operator_announces_keys_labels_are_taken_as_they_are():
    node = Node()
    node.state.remote.on_batch(KEYS_BATCH, node.batches.pop(KEYS_BATCH), None)
    node.allow(NOT_IN)
    node.start()
    assert node.state.policies.held == ()
    assert node.can_reach()


def test_an_agent_that_starts_while_a_key_is_new_closes_pods_that_may_be_selected():
    node = Node(own_tier="front")
    node.start()
    fresh = PolicyState(node.kernel, lambda: 0.0)
    fresh.own, fresh.identities, fresh.remote = node.state.own, node.state.identities, node.state.remote
    for number, labels in node.state.identities.labels.items():
        fresh.engine.identity(number, labels)
    fresh.own.told = fresh.remote.identity_of_pod
    node.state = fresh
    node.allow([], subject={"matchLabels": {"tier": "front"}})
    node.record("web", cut=False)
    fresh.adopt("c/eth0", "web", 7, [ip_address(OWN)])
    fresh.sync()
    assert not node.can_reach()


def test_an_address_whose_pod_is_another_waits_for_its_identity_as_nobody_s_and_the_same_pod_s_keeps_what_it_had():
    node = Node()
    node.start()
    node.record("client", cut=True)
    node.state.flush()
    assert node.kernel.identities[ip_address(PEER)] == 302
    node.identity("client", cut=True)
    node.state.flush()
    assert node.kernel.identities[ip_address(PEER)] == 402


KEPT = {
    "peers by a new key": (lambda node: node.allow(CLIENT), lambda node: node.allow(TIER)),
    "peers by what a new key is not": (lambda node: node.allow(CLIENT), lambda node: node.allow(NOT_DEV)),
    "a subject by a new key": (
        lambda node: node.allow(CLIENT),
        lambda node: node.allow(CLIENT, subject={"matchLabels": {"tier": "front"}}),
    ),
    "a subject by what a new key is not": (
        lambda node: node.allow(CLIENT),
        lambda node: node.allow(CLIENT, subject=NOT_IN[0]),  # the pod is no prod
    ),
    "an Admin accept by a new key over a deny": (
        lambda node: (node.allow([], name="base"), node.rule("Accept", CLIENT[0])),
        lambda node: node.rule("Accept", TIER[0]),
    ),
    "an Admin deny of others by a new key": (
        lambda node: node.rule("Deny", {"matchLabels": {"app": "thief"}}),
        lambda node: node.rule("Deny", {"matchLabels": {"tier": "dev"}}),
    ),
    "an Admin pass by a new key over a deny": (
        lambda node: (node.rule("Deny", {}, name="all", priority=9), node.rule("Pass", CLIENT[0])),
        lambda node: node.rule("Pass", TIER[0]),
    ),
}


@pytest.mark.parametrize("edit", KEPT)
def test_what_both_the_old_and_the_new_version_allow_passes_at_every_write(edit):
    before, after = KEPT[edit]
    app = "web" if "subject" in edit else "client"
    steps = rekey(app) | {"policy": after}
    for order, flushes in orders(steps, TOLD_LAST):
        node = Node(**{"peer_tier" if app == "web" else "own_tier": ""})
        before(node)
        node.start()
        assert node.can_reach()
        play(node, steps, order, flushes)
        assert all(node.kernel.seen), (order, flushes)
        assert node.state.policies.held == ()


def test_an_edit_that_shuts_out_by_a_new_key_waits_for_the_key_but_not_for_ever():
    node = Node()
    node.allow(CLIENT)
    node.start()
    node.allow(NOT_IN)  # the client is prod: shut out
    node.state.flush()
    assert node.can_reach()
    assert node.state.due_at == WAIT_S
    node.now = WAIT_S
    node.state.flush()
    assert not node.can_reach()
    assert len(node.state.policies.held) == 1
    assert node.state.due_at is None


SUBJECTS = [NOT_IN[0], ABSENT[0], {"matchLabels": {"tier": "front"}}]


@pytest.mark.parametrize("own_tier", ["", "front", "prod"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_new_policy_selects_the_pods_of_this_node_by_their_own_labels_at_once(subject, own_tier):
    """By each kind of requirement on a key that no identity has yet, for pods that are there and pods that come."""
    wanted = selector(Place(ObjectRef("", "", "")).requirements(subject, pod_key))
    selected = wanted.matches({"pod:tier": own_tier} if own_tier else {})
    there = Node(own_tier=own_tier)
    there.start()
    there.allow([], subject=subject)
    there.state.flush()
    assert there.can_reach() is not selected
    coming = Node(own_tier=own_tier)
    coming.allow([], subject=subject)
    coming.state.flush()
    coming.start()
    assert coming.can_reach() is not selected
    for node in (there, coming):
        node.kernel.seen.clear()
        for step in rekey("web").values():
            step(node)
            node.state.flush()
        assert set(node.kernel.seen) <= {not selected}
        assert node.state.policies.held == ()


def test_pods_that_share_an_identity_are_all_selected_until_they_are_cut_apart():
    node = Node(own_tier="front")
    node.start()
    node.state.own.put("other", PodFacts("d", labels=(("app", "web"),)))
    node.state.attach("o/eth0", "other", 8, [ip_address("10.0.0.3")])
    node.allow([], subject={"matchLabels": {"tier": "front"}})
    node.state.flush()
    client = node.kernel.identities[ip_address(PEER)]
    assert not node.can_reach()
    assert not node.kernel.allows(8, client)
    for step in rekey("web").values():
        step(node)
        node.state.flush()
    assert not node.can_reach()
    assert node.kernel.allows(8, client)


def test_a_pod_whose_labels_change_while_a_policy_waits_is_selected_by_the_new_ones():
    node = Node(own_tier="")
    node.start()
    node.allow([], subject=NOT_IN[0])
    node.state.flush()
    assert not node.can_reach()
    node.state.own.put("web", PodFacts("d", labels=(("app", "web"), ("tier", "prod"))))
    node.state.flush()
    assert node.can_reach()


def test_a_policy_edited_while_the_agent_starts_is_closed_for_nobody_knows_what_was_in_force():
    node = Node()
    node.state.policies.closing = True
    node.allow(CLIENT)
    node.allow(NOT_IN)
    node.start()
    assert not node.can_reach()


def test_a_second_edit_while_the_first_waits_keeps_what_was_wholly_known():
    node = Node()
    node.allow(CLIENT)
    node.start()
    node.allow(NOT_IN)
    node.state.flush()
    node.allow(ABSENT)
    node.state.flush()
    assert node.can_reach()
    node.allow([])
    node.state.flush()
    assert not node.can_reach()
    assert node.state.policies.held == ()
