"""Security groups of a new ENI. Fail closed: a wrong id or a selector without match is an error, never a fallback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_api.resources import Selector
from enitide_ipam.model import EniView, GroupView


@dataclass(frozen=True, slots=True)
class GroupChoice:
    """Group ids in order, or the reason and sentence why there are none."""

    ids: tuple[str, ...] = ()
    reason: Reason | None = None
    message: str = ""


def choose(groups: Iterable[GroupView], vpc_id: str, selector: Selector, enis: Iterable[EniView]) -> GroupChoice:
    """Explicit ids, else all groups of the VPC with all the tags, else those of the ENI at card 0, index 0."""
    raise NotImplementedError
