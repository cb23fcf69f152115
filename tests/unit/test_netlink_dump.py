"""A dump of the kernel's state is whole or an error: a part of it would make live pods look gone."""

from __future__ import annotations

import pytest

from enitide_api.errors import NetlinkFailed
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
