"""The node itself as a subject: tracked first, then enforced, kept over restarts, opened again."""

import pytest
from support.policy_kernel import RecordingKernel

from enitide_api.errors import DatapathFailed
from enitide_enidp.datapath.types import EndpointPolicy
from enitide_enidp.policy.host import TRACK_S
from enitide_enidp.policy.state import PolicyState
from enitide_policy.numbers import Reserved
from enitide_policy.parse import parse

pytestmark = pytest.mark.unit
WEB, DB = (("role", "web"),), (("role", "db"),)


class Node:
    def __init__(self, kernel=None, *, host_policy=True, **more):
        self.now = 0.0
        self.kernel = kernel or RecordingKernel()
        self.state = PolicyState(self.kernel, lambda: self.now, host_policy=host_policy, **more)

    def policy(self, role="web", *, there=True):
        spec = {"nodeSelector": {"matchLabels": {"role": role}}, "ingress": [{"fromEntities": ["remote-node"]}]}
        meta = {"name": f"nodes-{role}"}
        kind = "CiliumClusterwideNetworkPolicy"
        parsed = parse({"apiVersion": "cilium.io/v2", "kind": kind, "metadata": meta, "spec": spec}, host_policy=True)
        assert not parsed.problems
        self.state.policies.put(parsed.ref, parsed.policies if there else ())

    def later(self, seconds):
        self.now += seconds
        self.state.flush()

    @property
    def verbs(self):
        return [verb for verb, _ in self.kernel.log if verb in ("set_host", "adopt_node_connections", "apply")]


def enforced(**more):
    node = Node(**more)
    node.state.host.set_labels(WEB)
    node.policy()
    node.state.sync()
    node.later(TRACK_S)
    return node


def test_before_the_first_whole_reading_nothing_is_told_of_the_node():
    node = Node()
    node.state.host.set_labels(WEB)
    node.policy()
    node.state.flush()
    assert node.kernel.log == []


def test_a_node_that_is_selected_is_tracked_first_and_enforced_ten_seconds_later():
    node = Node()
    node.state.host.set_labels(WEB)
    node.policy()
    node.state.sync()
    assert node.kernel.node is not None
    assert (node.kernel.node.enforce, node.kernel.node.identity) == (False, Reserved.HOST)
    assert node.verbs == ["apply", "set_host", "adopt_node_connections"], (
        "new ones are tracked before old ones are read"
    )
    assert node.state.due_at == TRACK_S
    assert "tracked" in node.state.host.why_not
    node.later(TRACK_S - 0.1)
    assert not node.kernel.node.enforce
    node.later(0.1)
    assert node.kernel.node.enforce
    assert node.state.due_at is None
    assert node.state.host.why_not == ""


@pytest.mark.parametrize("labels", [DB, ()])
def test_a_node_that_nothing_selects_is_not_asked(labels):
    node = Node()
    node.state.host.set_labels(labels)
    node.policy()
    node.state.sync()
    node.later(TRACK_S)
    assert node.kernel.node is None


def test_where_host_policy_is_off_what_an_earlier_process_enforced_is_opened():
    node = enforced()
    after = Node(node.kernel, host_policy=False)
    after.state.host.set_labels(WEB)
    after.policy()
    after.state.sync()
    assert node.kernel.node is None


def test_a_policy_that_goes_opens_the_node_and_one_that_comes_again_tracks_first():
    node = enforced()
    node.policy(there=False)
    node.later(1)
    assert node.kernel.node is None
    node.policy()
    node.later(1)
    assert node.kernel.node is not None
    assert not node.kernel.node.enforce


def test_a_node_that_is_relabelled_has_the_policies_of_its_new_labels():
    node = enforced()
    node.state.host.set_labels(DB)
    node.later(1)
    assert node.kernel.node is None
    node.policy("db")
    node.state.host.set_labels(WEB)
    node.later(1)
    node.later(TRACK_S)
    before = node.kernel.node
    assert before is not None
    node.state.host.set_labels((("also", "x"), *WEB))
    node.later(1)
    assert node.kernel.node == before, "a label that nothing asks for changes nothing"


def test_a_restart_keeps_what_is_enforced_without_a_moment_between():
    node = enforced()
    node.kernel.log.clear()
    after = Node(node.kernel)
    after.state.host.set_labels(WEB)
    after.policy()
    after.state.sync()
    assert [what.enforce for verb, what in node.kernel.log if verb == "set_host"] == [True]
    assert "adopt_node_connections" not in node.verbs


def test_a_restart_amid_the_tracking_tracks_from_the_beginning():
    node = Node()
    node.state.host.set_labels(WEB)
    node.policy()
    node.state.sync()
    after = Node(node.kernel)
    after.state.host.set_labels(WEB)
    after.policy()
    after.state.sync()
    assert not node.kernel.node.enforce
    assert after.verbs.count("adopt_node_connections") == 2
    after.later(TRACK_S)
    assert node.kernel.node.enforce


def test_while_nobody_has_said_who_the_node_is_what_the_kernel_has_stays():
    node = enforced()
    held = node.kernel.node
    after = Node(node.kernel)
    after.policy()
    after.state.sync()
    after.later(TRACK_S)
    assert node.kernel.node == held
    assert "no Node of this name" in after.state.host.why_not
    fresh = Node()
    fresh.policy()
    fresh.state.sync()
    fresh.later(TRACK_S)
    assert fresh.kernel.node is None, "nothing is enforced from ignorance"


@pytest.mark.parametrize("verb", ["set_host", "adopt_node_connections"])
def test_a_write_that_fails_is_done_again_whole(verb):
    node = Node()
    node.state.host.set_labels(WEB)
    node.policy()
    node.kernel.fail_next = verb
    with pytest.raises(DatapathFailed):
        node.state.sync()
    node.state.sync()
    assert node.verbs[-2:] == ["set_host", "adopt_node_connections"]
    node.later(TRACK_S)
    assert node.kernel.node.enforce


def test_rules_that_find_no_room_leave_the_node_open_and_say_so():
    node = enforced()
    node.kernel.closed = frozenset({node.kernel.node.ruleset})
    node.later(1)
    assert not node.kernel.node.enforce
    assert "does not fit" in node.state.host.why_not
    assert node.state.due_at is None
    node.kernel.closed = frozenset()
    node.later(1)
    assert node.kernel.node.enforce


def test_with_audit_what_would_be_dropped_is_told():
    node = enforced(audit=True)
    assert node.kernel.node == EndpointPolicy(node.kernel.node.ruleset, Reserved.HOST, audit=True)
