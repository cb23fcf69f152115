"""One node as its actor holds it: which versions are news, and how many copies of one are kept."""

from __future__ import annotations

import pytest

from enitide_api.resources import ENINode, ENINodeSpec, InstanceFacts, Metadata
from enitide_operator.node_state import NodeState

pytestmark = pytest.mark.unit


def version(number: int, uid: str = "u-1") -> ENINode:
    facts = InstanceFacts(id="i-1", type="m5.large", availability_zone="z", vpc_id="v", subnet_id="s")
    metadata = Metadata(name="n", uid=uid, resource_version=str(number))
    return ENINode(metadata=metadata, spec=ENINodeSpec(instance=facts))


def test_the_watchs_copy_of_the_version_that_is_held_is_no_news_and_the_only_one_kept() -> None:
    state = NodeState("n", version(7), first_seen_at=0.0, releasing_accepted_at=0.0)
    again = version(7)
    assert not state.take(again, 1.0)
    assert state.resource is again


def test_an_older_version_is_no_news_and_not_kept() -> None:
    held = version(7)
    state = NodeState("n", held, first_seen_at=0.0, releasing_accepted_at=0.0)
    assert not state.take(version(6), 1.0)
    assert state.resource is held
    assert state.take(version(8), 2.0)
