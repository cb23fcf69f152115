import pytest

from enitide_operator.taints import KEY, NOTHING_FOR_S, SOMETHING_FOR_S, decide, operations

pytestmark = pytest.mark.unit
OURS = {"key": KEY, "effect": "NoSchedule"}
THEIRS = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}


def node(taints=None):
    spec = {"providerID": "aws:///z/i-1"} | ({"taints": taints} if taints is not None else {})
    return {"metadata": {"name": "n", "resourceVersion": "7"}, "spec": spec}


def view(**given):
    return decide(**({"tainted": False, "to_give": 0, "buffer": 4, "since": 100.0, "now": 100.0} | given))


def test_a_shortage_that_ends_soon_taints_nothing():
    assert view(now=100 + NOTHING_FOR_S - 1) == view(now=100.0)
    assert not view().tainted
    assert view().look_again_at == 100 + NOTHING_FOR_S


def test_a_node_with_nothing_to_give_for_a_while_is_tainted_and_stays_so():
    assert view(now=100 + NOTHING_FOR_S).tainted
    assert view(tainted=True, now=101).tainted
    assert view(tainted=True, to_give=-3, now=101).look_again_at is None


def test_one_free_address_takes_the_taint_away_only_after_a_while():
    assert view(tainted=True, to_give=1, now=101).tainted
    assert view(tainted=True, to_give=1, now=101).look_again_at == 100 + SOMETHING_FOR_S
    assert not view(tainted=True, to_give=1, now=100 + SOMETHING_FOR_S).tainted


def test_the_whole_buffer_takes_it_away_at_once_also_where_the_class_has_none():
    assert not view(tainted=True, to_give=4).tainted
    assert not view(tainted=True, to_give=1, buffer=0).tainted


def test_a_node_with_addresses_is_not_tainted_however_few_they_are():
    assert not view(to_give=1, now=1e9).tainted


def test_the_patch_tests_the_very_list_it_was_made_from():
    assert operations(node([THEIRS]), tainted=True) == [
        {"op": "test", "path": "/spec/taints", "value": [THEIRS]},
        {"op": "replace", "path": "/spec/taints", "value": [THEIRS, OURS]},
    ]


def test_a_node_without_a_list_is_tested_by_its_version():
    assert operations(node(), tainted=True) == [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/spec/taints", "value": [OURS]},
    ]


def test_only_our_taint_is_taken_away():
    same_key = {"key": KEY, "effect": "NoExecute"}  # somebody's own
    assert operations(node([THEIRS, OURS, same_key]), tainted=False)[1]["value"] == [THEIRS, same_key]
    assert operations(node([OURS]), tainted=False)[1] == {"op": "remove", "path": "/spec/taints"}


@pytest.mark.parametrize(("taints", "tainted"), [(None, False), ([THEIRS], False), ([OURS, THEIRS], True)])
def test_what_is_as_it_should_be_is_not_written(taints, tainted):
    assert operations(node(taints), tainted=tainted) == []
