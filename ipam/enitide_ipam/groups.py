"""Security groups of a new ENI. Fail closed: a wrong id or a selector without match is an error, never a fallback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from enitide_api.reasons import Reason
from enitide_api.resources import Selector
from enitide_ipam.capacity import NODE_PLACE
from enitide_ipam.model import Attachment, EniView, GroupView


@dataclass(frozen=True, slots=True)
class GroupChoice:
    """Group ids in order, or the reason and sentence why there are none."""

    ids: tuple[str, ...] = ()
    reason: Reason | None = None
    message: str = ""


def choose(groups: Iterable[GroupView], vpc_id: str, selector: Selector, enis: Iterable[EniView]) -> GroupChoice:
    """Explicit ids, else all groups of the VPC with all the tags, else those of the ENI at card 0, index 0."""
    known = sorted((group for group in groups if group.vpc_id == vpc_id), key=lambda group: group.id)
    if selector.ids:
        missing = sorted(set(selector.ids) - {group.id for group in known})
        if missing:
            return _missing(f"security groups {', '.join(missing)} do not exist in {vpc_id}")
        return GroupChoice(tuple(sorted(set(selector.ids))))
    if selector.tags:
        matching = tuple(
            group.id for group in known if all(group.tags.get(key) == value for key, value in selector.tags.items())
        )
        if not matching:
            tags = ", ".join(f"{key}={value}" for key, value in sorted(selector.tags.items()))
            return _missing(f"no security group in {vpc_id} carries the tags {tags}")
        return GroupChoice(matching)
    first = next((eni for eni in enis if _is_first(eni)), None)
    if first is None or not first.groups:
        return _missing("the ENI at card 0, index 0 or its security groups are not known")
    return GroupChoice(tuple(sorted(first.groups)))


def _is_first(eni: EniView) -> bool:
    return (eni.card, eni.index) == NODE_PLACE and eni.attachment is Attachment.ATTACHED


def _missing(message: str) -> GroupChoice:
    return GroupChoice((), Reason.SECURITY_GROUPS_MISSING, message)
