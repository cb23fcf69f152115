"""Two ways to one verdict: the evaluator from the policies' words, the engine's entries by the kernel's lookup."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.policy.strategies import PACKETS, ends_of, policies, worlds

from enitide_api.reasons import Reason
from enitide_policy.judge import EngineJudge
from enitide_policy.mapstate import Direction

pytestmark = pytest.mark.unit


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.data())
def test_the_engine_and_the_reference_evaluator_agree_on_every_packet(world, data):
    some = [data.draw(policies(f"p{i}")) for i in range(data.draw(st.integers(1, 4)))]
    judge = EngineJudge(world, some)
    pods, ends = ends_of(world)
    packets = data.draw(st.lists(st.sampled_from(PACKETS), min_size=3, max_size=3, unique=True))
    for subject in [*pods, *(end for end in ends if end.is_node)]:
        for peer in ends:
            for side in Direction:
                for packet in packets:
                    found = judge.decide(side, subject, peer, packet)
                    assert found.reason is not Reason.INTERNAL, (side, subject, peer, packet)
