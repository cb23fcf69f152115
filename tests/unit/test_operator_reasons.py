"""Which reason a node shows when several hold: the one that keeps it short, not the one it will have in the end."""

from types import SimpleNamespace

import pytest

from enitide_api.reasons import Reason
from enitide_ipam.model import Plan
from enitide_operator.decision import explained
from enitide_operator.trouble import Trouble

pytestmark = pytest.mark.unit

THROTTLED = Trouble(Reason.THROTTLED, "EC2 says slow down", 1, None)


def node(provisioned, ahead, low=28):
    """What `explained` reads of a tide."""
    return SimpleNamespace(marks=SimpleNamespace(low=low), provisioned=provisioned, ahead=ahead)


@pytest.mark.parametrize(
    ("wait", "provisioned", "ahead", "shown"),
    [
        (Reason.AT_CAPACITY, 14, 13, Reason.THROTTLED),  # its last slots are on order, and EC2 holds them up
        (Reason.AT_CAPACITY, 27, 0, Reason.AT_CAPACITY),  # it is full: no trouble keeps anything from coming
        (Reason.SUBNET_EXHAUSTED, 14, 13, Reason.SUBNET_EXHAUSTED),
        (Reason.FILLING, 14, 13, Reason.THROTTLED),
        (None, 14, 13, Reason.THROTTLED),
        (None, 28, 0, None),  # not short: trouble is nobody's wait
    ],
)
def test_trouble_is_the_reason_while_it_keeps_addresses_from_coming(wait, provisioned, ahead, shown):
    assert explained(Plan(wait=wait), node(provisioned, ahead), THROTTLED).wait is shown
