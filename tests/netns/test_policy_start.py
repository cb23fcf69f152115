from __future__ import annotations

from pathlib import Path

import pytest
from support.datapath import podstarts

from enitide_enidp.datapath import Routing

pytestmark = pytest.mark.netns


@pytest.mark.timeout(240)
@pytest.mark.parametrize("routing", list(Routing), ids=lambda routing: routing.value)
def test_no_forbidden_packet_reaches_or_leaves_a_pod_that_starts(tmp_path: Path, routing: Routing) -> None:
    outcome = podstarts.run(tmp_path, routing, 25)
    assert outcome.reached == outcome.starts, "once policy is in, the allowed peer gets through"
    assert outcome.sent > 2000
    assert outcome.forbidden == 0
