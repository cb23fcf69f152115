"""YAML that remembers its lines: every value knows where it stands, so that every complaint can say so.

An `Item` is one node of the file with its path. Its readers check the form and raise `UsageError` with `FILE:LINE`,
what is wrong and what to write instead. What a key means is no business of this module.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NoReturn, TypeVar

import yaml

from enitide_api.durations import seconds
from enitide_api.errors import UsageError

T = TypeVar("T")
D = TypeVar("D")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_DEEP = 30
MOST = 2**31 - 1
_UNQUOTED_STAR = re.compile(r"(?:^|[\s:,\[{-])\*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: the file, its line (from 1), and its path such as `nodes[0].count`."""

    file: str
    line: int
    path: str = ""

    def refuse(self, text: str) -> NoReturn:
        """`UsageError` that says where."""
        where = f"{self.path}: " if self.path else ""
        raise UsageError(f"{self.file}:{self.line}: {where}{text}")


NOWHERE = Place("scenario", 0)


@dataclass(frozen=True, slots=True)
class Item:
    """One node of the file. `mapping`, `sequence` and the typed readers refuse every other form."""

    place: Place
    _node: Any = field(repr=False)
    _loader: Any = field(repr=False)

    def refuse(self, text: str) -> NoReturn:
        """`UsageError` that names the line and the path."""
        self.place.refuse(text)

    @property
    def is_null(self) -> bool:
        """Whether nothing stands here."""
        return isinstance(self._node, yaml.ScalarNode) and self.plain() is None

    @property
    def written(self) -> str:
        """As it stands in the file; '' for what is not a single word."""
        return str(self._node.value) if isinstance(self._node, yaml.ScalarNode) else ""

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self._node, yaml.MappingNode)

    @property
    def is_sequence(self) -> bool:
        """Whether it is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    def plain(self) -> Any:
        """The value as plain Python."""
        try:
            return self._loader.construct_object(self._node, deep=True)
        except yaml.YAMLError as error:
            self.refuse(f"cannot be read: {getattr(error, 'problem', error)}")

    def mapping(self, known: Collection[str] | None = None, also: str = "") -> dict[str, Item]:
        """Its keys; `known`: all that may stand here. A key given twice is refused."""
        if not self.is_mapping:
            self.refuse("must be a mapping of keys" + (f": write {', '.join(known)}" if known else ""))
        try:
            self._loader.flatten_mapping(self._node)
        except yaml.YAMLError as error:
            self.refuse(f"cannot be read: {getattr(error, 'problem', error)}")
        found: dict[str, Item] = {}
        for key_node, value_node in self._node.value:
            key = Item(self._at(key_node), key_node, self._loader).plain()
            below = f"{self.place.path}.{key}" if self.place.path else str(key)
            if not isinstance(key, str):
                self._at(key_node).refuse(f"the key {_shown(key_node)} is no text: write it in quotes")
            if known is not None and key not in known:
                self._at(key_node).refuse(unknown("key", key, known) + also)
            if key in found:
                self._at(key_node).refuse(f"the key {key!r} stands here twice: write it once")
            found[key] = Item(self._at(value_node, below, line_of=key_node), value_node, self._loader)
        return found

    def sequence(self) -> list[Item]:
        """Its members."""
        if not self.is_sequence:
            self.refuse("must be a list: write [..], or lines that begin with a dash")
        below = (f"{self.place.path}[{number}]" for number in range(len(self._node.value)))
        return [
            Item(self._at(node, path), node, self._loader) for node, path in zip(self._node.value, below, strict=True)
        ]

    def _at(self, node: Any, path: str | None = None, line_of: Any = None) -> Place:
        if (path or "").count(".") > _MOST_DEEP:
            self.refuse("is nested too deeply")
        mark = node.start_mark if isinstance(node, yaml.ScalarNode) or line_of is None else line_of.start_mark
        return Place(self.place.file, mark.line + 1, self.place.path if path is None else path)

    # --- typed readers -----------------------------------------------------------------------------------------------

    def text(self, what: str = "text") -> str:
        """A string that is not empty."""
        value = self.plain() if isinstance(self._node, yaml.ScalarNode) else None
        if not isinstance(value, str) or not value:
            self.refuse(f"must be {what}" + (", in quotes if need be" if value is not None else ""))
        return value

    def word(self, known: Collection[str], what: str) -> str:
        """One of these words."""
        value = self.plain() if isinstance(self._node, yaml.ScalarNode) else None
        if not isinstance(value, str):
            article = "an" if what[0] in "aeiou" else "a"
            self.refuse(f"must be {article} {what}: {_instead(known)}")
        if value not in known:
            self.refuse(unknown(what, value, known))
        return value

    def integer(self, least: int = 0, most: int = MOST) -> int:
        """A whole number in bounds."""
        value = self.plain() if isinstance(self._node, yaml.ScalarNode) else None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            self.refuse(
                f"must be a whole number from {least}"
                + (f" to {most}" if most != MOST or (isinstance(value, int) and value > most) else "")
            )
        return value

    def boolean(self) -> bool:
        """A boolean."""
        value = self.plain() if isinstance(self._node, yaml.ScalarNode) else None
        if not isinstance(value, bool):
            self.refuse("must be true or false")
        return value

    def seconds(self, most_h: int | None = None) -> float:
        """A duration such as 30s, 10m or 1h30m, in seconds; `most_h`: its bound in hours."""
        value = self.plain() if isinstance(self._node, yaml.ScalarNode) else None
        if not isinstance(value, str):
            hint = f"{value}s" if isinstance(value, int | float) and not isinstance(value, bool) else "30s, 10m or 1h"
            self.refuse(f"must be a duration: write {hint}")
        try:
            found = seconds(value)
        except ValueError as error:
            self.refuse(str(error))
        if most_h is not None and found > 3600 * most_h:
            self.refuse(f"{value} is too long: write at most {most_h}h")
        return found

    def texts(self, what: str = "text") -> tuple[str, ...]:
        """A list of strings."""
        return tuple(each.text(what) for each in self.sequence())

    def tags(self) -> dict[str, str]:
        """Keys and values that are texts (numbers and booleans are taken as they are written)."""
        found: dict[str, str] = {}
        for key, item in self.mapping().items():
            value = item.plain()
            if isinstance(value, dict | list) or value is None:
                item.refuse("must be a text")
            found[key] = value if isinstance(value, str) else str(item._node.value)  # noqa: SLF001  our own
        return found

    def network(self) -> str:
        """An IPv4 CIDR."""
        value = self.text("an IPv4 CIDR such as 10.0.0.0/20")
        try:
            return str(ipaddress.IPv4Network(value))
        except ValueError as error:
            self.refuse(f"{value} is no IPv4 CIDR ({error}): write one such as 10.0.0.0/20")

    def address(self) -> str:
        """An IPv4 address."""
        value = self.text("an IPv4 address such as 10.0.0.17")
        try:
            return str(ipaddress.IPv4Address(value))
        except ValueError:
            self.refuse(f"{value!r} is no IPv4 address: write one such as 10.0.0.17")

    def amount(self, each: Callable[[Item], str]) -> tuple[int, tuple[str, ...]]:
        """`N`, or a list by name: (count, names), one of them empty."""
        if self.is_sequence:
            return 0, tuple(each(member) for member in self.sequence())
        return self.integer(), ()


def unknown(what: str, word: str, known: Collection[str]) -> str:
    """`unknown key 'inuse': write 'inUse'`: the closest, else all there are."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    if close:
        return f"unknown {what} {word!r}: write {by_lower[close[0]]!r}"
    return f"unknown {what} {word!r}: {_instead(known)}"


def _instead(known: Collection[str]) -> str:
    some = sorted(known)
    if len(some) < 2:
        return f"write {some[0]!r}" if some else "write none: nothing may stand here"
    return "write one of " + ", ".join(some[:20]) + (", …" if len(some) > 20 else "")


def load(text: str, file: str) -> Item:
    """The file's one document. `UsageError` for text that is no YAML."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        line = mark.line + 1 if mark is not None else 1 + text.count("\n", 0, getattr(error, "position", 0))
        Place(file, line).refuse(f"this is no YAML: {problem}{_hint(text, line)}")
    if node is None:
        Place(file, 1).refuse("the file is empty: write apiVersion, kind, world, nodes and events")
    return Item(Place(file, node.start_mark.line + 1), node, loader)


def _hint(text: str, line: int) -> str:
    """What to write instead, where the line tells: a bare `*` names another value in YAML, a tab indents nothing."""
    lines = text.split("\n")
    found = lines[line - 1] if line <= len(lines) else ""
    if _UNQUOTED_STAR.search(found):
        return ': write the star in quotes, "*"'
    if "\t" in found:
        return ": write blanks for the tab"
    return ": write one document, without ---" if found.startswith("---") else ""


def _shown(node: Any) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else "that stands here"


def given(keys: Mapping[str, Item], name: str, read: Callable[[Item], T], default: D) -> T | D:
    """`read` of a key that stands there and is not null, else the default."""
    item = keys.get(name)
    return default if item is None or item.is_null else read(item)


def twice(names: Sequence[str]) -> str | None:
    """The first that stands there a second time; None if each stands once."""
    return next((name for number, name in enumerate(names) if name in names[:number]), None)


def required(parent: Item, keys: Mapping[str, Item], name: str) -> Item:
    """The key's item; refused where it is missing."""
    if name not in keys:
        parent.refuse(f"{name} is missing: write `{name}: ...`")
    if keys[name].is_null:
        keys[name].refuse(f"is empty: write `{name}: ...`")
    return keys[name]
