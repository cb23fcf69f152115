"""Which ENIs the sweep takes for leaked, and when it may delete them."""

from __future__ import annotations

import pytest

from enitide_ipam.model import TAG_CLUSTER, TAG_TOKEN, Attachment, EniView
from enitide_ipam.sweep import MIN_AGE_S, Known, Verdict, plan_sweep

NOW = 1_800_000_000.0


def loose(number: int, cluster: str = "blue", token: str = "") -> EniView:
    tags = {TAG_CLUSTER: cluster, TAG_TOKEN: token or f"t-{number}"}
    return EniView(id=f"eni-{number}", tags={key: value for key, value in tags.items() if value})


def verdicts(plan) -> dict[str, Verdict]:
    return {each.eni.id: each.verdict for each in plan.findings}


def test_one_sighting_is_no_proof_and_the_second_must_come_late_enough():
    first = plan_sweep([loose(1)], "blue", Known(), {}, NOW)
    assert verdicts(first) == {"eni-1": Verdict.WAIT}
    assert first.look_again_at == NOW + MIN_AGE_S
    early = plan_sweep([loose(1)], "blue", Known(), first.seen, NOW + MIN_AGE_S - 1)
    assert early.delete == ()
    late = plan_sweep([loose(1)], "blue", Known(), early.seen, NOW + MIN_AGE_S)
    assert [each.id for each in late.delete] == ["eni-1"]


def test_what_vanished_in_between_is_counted_anew():
    first = plan_sweep([loose(1)], "blue", Known(), {}, NOW)
    gone = plan_sweep([], "blue", Known(), first.seen, NOW + 30)
    assert gone.seen == {}
    back = plan_sweep([loose(1)], "blue", Known(), gone.seen, NOW + 100)
    assert verdicts(back) == {"eni-1": Verdict.WAIT}


@pytest.mark.parametrize("owner", ["green", "blue-2", "Blue", ""])
def test_another_clusters_eni_is_never_touched_however_long_it_is_seen(owner):
    eni = loose(1, owner)
    plan = plan_sweep([eni], "blue", Known(), {"eni-1": NOW - 1e6}, NOW)
    assert verdicts(plan) == {"eni-1": Verdict.FOREIGN}
    assert plan.seen == {}


@pytest.mark.parametrize("state", [each for each in Attachment if each is not Attachment.DETACHED])
def test_what_hangs_on_an_instance_is_never_touched(state):
    eni = EniView(id="eni-1", tags={TAG_CLUSTER: "blue"}, instance_id="i-1", attachment=state)
    assert verdicts(plan_sweep([eni], "blue", Known(), {"eni-1": 0.0}, NOW)) == {"eni-1": Verdict.FOREIGN}


def test_an_intent_or_a_removal_keeps_its_eni_and_its_end_starts_the_clock():
    old = {"eni-1": NOW - 1e6, "eni-2": NOW - 1e6}
    known = Known(tokens={"t-1"}, removing={"eni-2"})
    plan = plan_sweep([loose(1), loose(2)], "blue", known, old, NOW)
    assert set(verdicts(plan).values()) == {Verdict.INTENDED}
    assert plan.seen == {}
    after = plan_sweep([loose(1), loose(2)], "blue", Known(), plan.seen, NOW + 1)
    assert set(verdicts(after).values()) == {Verdict.WAIT}


def test_an_eni_of_ours_that_lost_its_token_tag_is_leaked_too():
    eni = EniView(id="eni-1", tags={TAG_CLUSTER: "blue"})
    plan = plan_sweep([eni], "blue", Known(tokens={""}), {"eni-1": NOW - MIN_AGE_S}, NOW)
    assert [each.id for each in plan.delete] == ["eni-1"]


def test_without_a_cluster_name_there_is_nothing_to_plan():
    with pytest.raises(ValueError, match="no cluster name"):
        plan_sweep([loose(1, "")], "", Known(), {}, NOW)
