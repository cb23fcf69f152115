"""What counts as relevant over many policies that come and go. Pure: `now` is passed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator

from enitide_policy.labels import Relevance

HOLD_S = 600.0  # a key stays relevant after its last policy went: a policy that is replaced must not re-key a cluster

_Name = tuple[str, str]


class RelevanceBook:
    """The relevance of many policies, kept by difference: one policy's change costs that policy.

    `current` is what counts now. A key that nobody names any more counts for `HOLD_S` longer; `due_at` says until when
    the next one does.
    """

    def __init__(self, always: Relevance) -> None:
        self._count: Counter[_Name] = Counter(_names(always))
        self._of: dict[Hashable, Relevance] = {}
        self._dropped: dict[_Name, float] = {}

    def put(self, policy: Hashable, found: Relevance | None, now: float) -> None:
        """What this policy names from now on; None: it is gone. `now` in seconds of any clock that never jumps back."""
        before = self._of.pop(policy, None)
        if found is not None:
            self._of[policy] = found
            self._count.update(_names(found))
            for name in _names(found):
                self._dropped.pop(name, None)
        for name in _names(before) if before is not None else ():
            self._count[name] -= 1
            if not self._count[name]:
                del self._count[name]
                self._dropped[name] = now + HOLD_S

    def current(self, now: float) -> Relevance:
        """What counts now."""
        for name in [name for name, until in self._dropped.items() if until <= now]:
            del self._dropped[name]
        keys: dict[str, set[str]] = {"pod": set(), "namespace": set(), "port": set(), "account": set()}
        for part, key in (*self._count, *self._dropped):
            keys[part].add(key)
        return Relevance(
            frozenset(keys["pod"]), frozenset(keys["namespace"]), frozenset(keys["port"]), bool(keys["account"])
        )

    @property
    def due_at(self) -> float | None:
        """When `current` changes by time alone."""
        return min(self._dropped.values(), default=None)


def _names(found: Relevance) -> Iterator[_Name]:
    yield from (("pod", key) for key in found.pod_keys)
    yield from (("namespace", key) for key in found.namespace_keys)
    yield from (("port", key) for key in found.port_names)
    if found.service_account:
        yield "account", ""
