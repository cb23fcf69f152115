"""The numbers of ordered rules depend on what is in force, not on the order in which it came."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from enitide_policy.engine.engine import Engine
from enitide_policy.labels import IdentityLabels
from enitide_policy.mapstate import Action, Direction
from enitide_policy.model import L4, AnyPeer, NodesPeer, Policy, Rule, Tier
from enitide_policy.problems import ObjectRef
from enitide_policy.selectors import selector
from enitide_policy.world import Node

pytestmark = pytest.mark.unit
POD = IdentityLabels("x", "", (("app", "a"),), (), (("web", "TCP", 80),))
BY_NODES = Rule(Direction.EGRESS, Action.DENY, 0, (AnyPeer(), NodesPeer(selector([]))), (L4(), L4(name="web")))
WEAKER = Rule(Direction.EGRESS, Action.ALLOW, 1, (AnyPeer(),))
ADMIN = Policy(ObjectRef("P", "", "p"), Tier.ADMIN, selector([]), (BY_NODES, WEAKER))
LAST = Node("n1", (), (ip_address("10.0.1.2"),))


def engine(*events):
    made = Engine()
    made.identity(300, POD)
    made.endpoint("a", 300)
    for event in events:
        made.node(event.name, event) if isinstance(event, Node) else made.policy(event.ref, (event,))
        made.commit()
    return made


def test_a_rule_with_numbers_and_names_has_one_number_whichever_half_changed_last():
    first = replace(LAST, addresses=(ip_address("10.0.1.1"),))
    changed, fresh = engine(first, ADMIN, LAST), engine(LAST, ADMIN)
    values = [sorted(one.rule_set_of("a").entries.values()) for one in (changed, fresh)]
    assert values[0] == values[1]
