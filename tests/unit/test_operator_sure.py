"""Unassign rests on what the API server said to us, never on a watch that may lag."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from enitide_api.errors import KubeUnavailable
from enitide_api.resources import ENINode, ENINodeStatus, Metadata
from enitide_operator.node_state import NodeState
from enitide_operator.publisher import Publisher

pytestmark = pytest.mark.unit


def resource(version: str, *releasing: str) -> ENINode:
    return ENINode(metadata=Metadata(name="n", resource_version=version), status=ENINodeStatus(releasing=releasing))


class Server:
    """Answers reads with `held`; counts them."""

    def __init__(self, held: ENINode | None) -> None:
        self.held = held
        self.reads = 0

    async def get(self, *_: object) -> bytes:
        self.reads += 1
        if self.held is None:
            raise KubeUnavailable("away")
        return msgspec.json.encode(self.held)


def publisher(watched: ENINode, held: ENINode | None) -> tuple[Publisher, NodeState, Server]:
    server = Server(held)
    metrics = SimpleNamespace(wrote=lambda *_: None)
    rng = SimpleNamespace(uniform=lambda low, high: low, random=lambda: 0.5)
    ctx = SimpleNamespace(kube=server, now=lambda: 100.0, metrics=metrics, rng=rng)
    state = NodeState("n", watched, first_seen_at=0.0, releasing_accepted_at=0.0)
    return Publisher(ctx, state), state, server


async def test_what_only_a_watch_said_is_asked_once_and_then_known():
    made, _, server = publisher(resource("7", "10.0.0.5"), resource("7", "10.0.0.5"))
    assert await made.sure()
    assert await made.sure()
    assert server.reads == 1


async def test_an_old_view_is_replaced_and_decided_anew():
    made, state, _ = publisher(resource("7", "10.0.0.5"), resource("9"))
    assert not await made.sure()
    assert state.published.releasing == ()
    assert await made.sure()


async def test_without_an_answer_nothing_is_sure():
    made, _, _ = publisher(resource("7", "10.0.0.5"), None)
    assert not await made.sure()


def test_a_version_that_is_no_number_counts_as_news_and_a_lower_number_does_not():
    _, state, _ = publisher(resource("opaque-1"), None)
    assert state.take(resource("opaque-2"), 0.0)
    assert not state.take(resource("opaque-2"), 0.0)
    assert state.take(resource("10"), 0.0)
    assert not state.take(resource("9"), 0.0)
