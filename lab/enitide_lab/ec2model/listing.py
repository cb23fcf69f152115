"""Filters and pages, as EC2's Describe calls take them.

A filter is a name with values: the values of one filter are alternatives, filters all apply. `*` and `?` are
wildcards, upper and lower case differ. A name that the call does not know is an error, never ignored.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from enitide_lab.ec2model.errors import ModelError, bad_combination, bad_value
from enitide_lab.ec2model.types import Page

T = TypeVar("T")
Filters = Mapping[str, Sequence[str]]
Reader = Callable[[T], str | Iterable[str] | None]


def _pattern(value: str) -> re.Pattern[str]:
    return re.compile(re.escape(value).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def fits(item: T, filters: Filters, readers: Mapping[str, Reader[T]], tags: Callable[[T], Mapping[str, str]]) -> bool:
    """Whether `item` passes all filters; InvalidParameterValue for an unknown filter."""
    return all(_one_fits(item, name, values, readers, tags) for name, values in filters.items())


def _one_fits(
    item: T, name: str, values: Sequence[str], readers: Mapping[str, Reader[T]], tags: Callable[[T], Mapping[str, str]]
) -> bool:
    if name.startswith("tag:"):
        found: str | Iterable[str] | None = tags(item).get(name[4:])
    elif name == "tag-key":
        found = tags(item)
    elif name == "tag-value":
        found = tags(item).values()
    else:
        found = readers[name](item)
    if found is None:
        return False
    texts = [found] if isinstance(found, str) else list(found)
    return any(_matches(value, text) for value in values for text in texts)


def _matches(value: str, text: str) -> bool:
    if "*" in value or "?" in value:
        return _pattern(value).fullmatch(text) is not None
    return value == text


def check_names(filters: Filters, readers: Mapping[str, Reader[T]]) -> None:
    """InvalidParameterValue for an unknown filter name, even where there is nothing to filter."""
    for name, values in filters.items():
        if name not in readers and name not in ("tag-key", "tag-value") and not name.startswith("tag:"):
            raise bad_value(f"The filter '{name}' is invalid")
        if not values:
            raise ModelError("InvalidParameterValue", f"The filter '{name}' has no values")


@dataclass(frozen=True, slots=True)
class Window:
    """Which page is asked for: the longest it may be, and the key after which it begins."""

    length: int | None
    after: str


def window(
    *,
    ids: Sequence[str] = (),
    ids_name: str = "",
    max_results: int | None = None,
    next_token: str | None = None,
    least: int = 5,
    most: int = 1000,
    default: int | None = None,
) -> Window:
    """Check a call's paging parameters.

    Without `max_results` the page is as long as `default` says, or everything. Naming ids and asking for pages
    together is refused (InvalidParameterCombination), as is a page length outside `least` to `most`.
    """
    if ids and max_results is not None:
        raise bad_combination(f"The parameter {ids_name} cannot be used with the parameter maxResults")
    if max_results is not None and not least <= max_results <= most:
        words = (
            f"Value ( {max_results} ) for parameter maxResults is invalid. Expecting a value from {least} to {most}."
        )
        raise bad_value(words)
    length = None if ids else max_results if max_results is not None else default
    return Window(length, _key_in(next_token) if next_token else "")


def cut(keys: Iterable[str], show: Callable[[str], T | None], window: Window) -> Page[T]:
    """The page of `window`: items by ascending key; `show` gives the item, or None where it is not to be shown.

    A token names the last key handed out, so that objects made or gone meanwhile neither repeat nor hide others, and
    only the page itself (and what is skipped within it) is looked at.
    """
    items: list[T] = []
    last = ""
    for key in sorted(key for key in keys if key > window.after):
        item = show(key)
        if item is None:
            continue
        if window.length is not None and len(items) == window.length:
            return Page(tuple(items), base64.urlsafe_b64encode(last.encode()).decode())
        items.append(item)
        last = key
    return Page(tuple(items))


def _key_in(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError) as exc:
        raise ModelError("InvalidNextToken", f"The token '{token}' is invalid") from exc
