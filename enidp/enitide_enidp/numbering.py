"""Which ENI has which number on this node: kept in a file, since marks in the kernel name ENIs across restarts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from enitide_api.errors import JournalFailed
from enitide_enidp.netlink.wanted import assign_numbers


class Numbering:
    """Written before a new number is used; gone with the run folder at a reboot, as are the marks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}
        try:
            self._numbers = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            raise JournalFailed(f"{path} cannot be read: {error}; remove it on a node without pods") from error

    def numbers(self, enis: Iterable[str]) -> Mapping[str, int]:
        """A number for each of these ENIs."""
        fresh = assign_numbers(self._numbers, enis)
        if fresh != self._numbers:
            temporary = self._path.with_suffix(".new")
            try:
                temporary.write_bytes(msgspec.json.encode(fresh))
                temporary.replace(self._path)
            except OSError as error:
                raise JournalFailed(f"{self._path}: {error.strerror}") from error
            self._numbers = fresh
        return self._numbers
