"""What is asked of the kernel is answered whole or ends with an error: half of it would make live pods look gone."""

from __future__ import annotations

import struct

import pytest

from enitide_api.errors import NetlinkFailed
from enitide_enidp.datapath import attach
from enitide_enidp.netlink.sock import RouteSocket

pytestmark = pytest.mark.unit


class Interrupted(RouteSocket):
    """Every dump is cut short by a change, but for the `whole`th."""

    def __init__(self, whole: int) -> None:
        super().__init__()
        self.whole = whole
        self.tries = 0

    def _dump_once(self, kind: int, family: int) -> tuple[list[bytes], bool]:
        self.tries += 1
        return ([b"everything"], True) if self.tries == self.whole else ([], False)


def test_a_dump_that_was_interrupted_is_taken_again() -> None:
    with Interrupted(whole=3) as route:
        assert route.dump(18) == [b"everything"]


def test_a_dump_that_never_comes_whole_is_an_error_and_no_part_of_the_truth() -> None:
    with Interrupted(whole=0) as route, pytest.raises(NetlinkFailed):
        route.dump(18)


def test_a_request_that_the_kernel_never_answers_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "_TIMEOUT_S", 0.05)
    route = attach.Netlink()
    nothing_to_answer = struct.pack("=IHHII", 16, 1, 0, 0, 0)  # NLMSG_NOOP without a wish for an acknowledgement
    try:
        with pytest.raises(NetlinkFailed):
            route.batch([nothing_to_answer])
    finally:
        route.close()
