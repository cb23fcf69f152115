"""One intent from nothing to an attached ENI, or back to nothing, whatever happens in between."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.ipam_facts import SETTINGS, eni, node

from enitide_api.reasons import Reason
from enitide_api.resources import PendingInterface
from enitide_ipam.model import (
    TAG_INSTANCE,
    TAG_TOKEN,
    AttachInterface,
    Attachment,
    CreateInterface,
    DeleteInterface,
)
from enitide_ipam.saga import SETTLE_S, SagaState, StepKind, intent_of, next_index, next_step
from enitide_ipam.stamps import stamp

pytestmark = pytest.mark.unit

SINCE = 1_800_000_000.0
ORDER = CreateInterface(
    token="t",
    subnet_id="s-1",
    card=0,
    index=1,
    groups=("sg-a",),
    addresses=9,
    prefixes=0,
    ipv6=False,
    tags={TAG_TOKEN: "t", TAG_INSTANCE: "i-1"},
    delete_on_termination=True,
    description="",
    reason="",
)
INTENT = intent_of(ORDER, stamp(SINCE))
MADE = eni("eni-9", index=0, tags=ORDER.tags, attachment=Attachment.DETACHED, instance_id="")


def step(state: SagaState, snapshot=None, now: float = SINCE + 1):
    return next_step(state, snapshot or node(pending=(INTENT,)), SETTINGS, now)


def test_the_intent_says_what_was_ordered():
    assert (INTENT.count, INTENT.prefixes, INTENT.index) == (9, False, 1)
    assert intent_of(replace(ORDER, addresses=0, prefixes=2), "").prefixes


def test_create_then_attach_then_publish():
    assert step(SagaState(INTENT, ORDER)).action == ORDER
    attach = step(SagaState(INTENT, ORDER, MADE)).action
    assert isinstance(attach, AttachInterface)
    assert (attach.eni_id, attach.card, attach.index) == ("eni-9", 0, 1)
    attached = replace(MADE, attachment=Attachment.ATTACHED, instance_id="i-1", index=1)
    assert step(SagaState(INTENT, ORDER, attached)).kind is StepKind.PUBLISHABLE


def test_an_eni_that_is_attaching_is_published_and_one_that_is_detaching_is_looked_at_again():
    attaching = replace(MADE, attachment=Attachment.ATTACHING, instance_id="i-1")
    assert step(SagaState(INTENT, ORDER, attaching)).kind is StepKind.PUBLISHABLE
    detaching = replace(attaching, attachment=Attachment.DETACHING)
    assert step(SagaState(INTENT, ORDER, detaching)).kind is StepKind.REREAD


def test_after_a_restart_the_eni_is_found_by_its_token_and_attached():
    snapshot = node(eni(), MADE, pending=(INTENT,))
    assert isinstance(step(SagaState(INTENT, looked_at=SINCE + 5), snapshot).action, AttachInterface)


def test_after_a_restart_nothing_is_concluded_before_a_settled_read_and_then_within_a_minute():
    first = step(SagaState(INTENT))
    assert (first.kind, first.not_before) == (StepKind.REREAD, SINCE + 1)
    early = step(SagaState(INTENT, looked_at=SINCE + 2))
    assert early.kind is StepKind.REREAD
    assert early.not_before == SINCE + SETTINGS.call_timeout_s + SETTLE_S
    assert early.not_before - SINCE < 60
    assert step(SagaState(INTENT, looked_at=early.not_before)).kind is StepKind.FINISHED


def test_an_unknown_outcome_is_reread_one_call_timeout_later_then_create_is_repeated_with_its_token():
    unsure = SagaState(INTENT, ORDER, ambiguous_since=SINCE)
    answer = step(unsure)
    assert (answer.kind, answer.not_before) == (StepKind.REREAD, SINCE + 15)
    assert step(replace(unsure, looked_at=SINCE + 14)).kind is StepKind.REREAD
    assert step(replace(unsure, looked_at=SINCE + 15)).action == ORDER


def test_an_occupied_index_moves_to_the_next_free_one():
    snapshot = node(eni(), eni("x", index=1), pending=(INTENT,))
    attach = step(SagaState(INTENT, ORDER, MADE), snapshot).action
    assert isinstance(attach, AttachInterface)
    assert attach.index == 2
    refused_by_ec2 = step(SagaState(INTENT, ORDER, MADE, bad_indexes=frozenset({1}))).action
    assert isinstance(refused_by_ec2, AttachInterface)
    assert refused_by_ec2.index == 2


def test_without_a_free_index_the_eni_is_deleted():
    snapshot = node(eni(), eni("x", index=1), eni("y", index=2), pending=(INTENT,))
    assert isinstance(step(SagaState(INTENT, ORDER, MADE), snapshot).action, DeleteInterface)


def test_other_intents_keep_their_indexes():
    other = PendingInterface(token="u", since=stamp(SINCE), card=0, index=1, count=1)
    assert next_index(node(pending=(INTENT, other)), 0, frozenset(), "t") == 2
    assert next_index(node(limits=None), 0, frozenset(), "t") is None


def test_a_refused_create_is_over_and_a_refused_attach_is_undone():
    assert step(SagaState(INTENT, ORDER, refused=Reason.SUBNET_EXHAUSTED)).kind is StepKind.FINISHED
    undo = step(SagaState(INTENT, ORDER, MADE, refused=Reason.LIMIT_EXCEEDED)).action
    assert isinstance(undo, DeleteInterface)
    assert undo.token == "t"


def test_a_missing_instance_undoes_what_was_made_and_makes_nothing():
    gone = node(instance_missing=True, pending=(INTENT,))
    assert isinstance(step(SagaState(INTENT, ORDER, MADE), gone).action, DeleteInterface)
    assert step(SagaState(INTENT, ORDER), gone).kind is StepKind.REREAD
    settled = SagaState(INTENT, ORDER, looked_at=SINCE + 100)
    assert step(settled, gone, SINCE + 101).kind is StepKind.FINISHED


def test_an_eni_made_for_an_earlier_instance_of_the_node_is_undone():
    old = replace(MADE, tags={**MADE.tags, TAG_INSTANCE: "i-0"})
    assert isinstance(step(SagaState(INTENT, eni=old)).action, DeleteInterface)


def test_an_eni_that_someone_attached_elsewhere_is_left_alone():
    elsewhere = replace(MADE, attachment=Attachment.ATTACHED, instance_id="i-7")
    assert step(SagaState(INTENT, ORDER, elsewhere)).kind is StepKind.FINISHED
